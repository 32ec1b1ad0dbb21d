"""What a model sees of each pixel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import xarray as xr
from odc.geo.geobox import GeoBox
from odc.geo.xr import xr_coords
from scipy.ndimage import uniform_filter

from terraflow.eo.config.sections import Features
from terraflow.eo.features.indices import add_indices
from terraflow.eo.features.own import compute_own
from terraflow.eo.features.recipe import FeatureFunction, FeatureRecipe
from terraflow.eo.features.time.composites import composite, statistic
from terraflow.eo.features.time.periods import period_labels

__all__ = [
    "compute_features",
    "count_gaps",
    "feature_names",
    "halo_px",
    "neighbourhood",
    "series_names",
]

Image = npt.NDArray[np.float32]


def series_names(bands: Sequence[str], features: Features) -> list[str]:
    """Name bands and indices, of which each has a value on each date."""
    return [*bands, *(name.lower() for name in features.indices)]


def feature_names(
    bands: Sequence[str], features: Features, periods: Sequence[str], layers: Sequence[str]
) -> list[str]:
    """Name the configured features in order: composites, statistics, layers, neighbourhoods.

    Parameters
    ----------
    layers : sequence of str
        Features that come from [features.layers], as `layers.describe_layers` names them.
    """
    series = series_names(bands, features)
    plain = [f"{name}_{what}" for name in series for what in (*periods, *features.statistics)]
    plain += layers
    around = [
        f"{name}_{what}{side}"
        for side in features.neighbourhood
        for name in plain
        for what in ("mean", "std")
    ]
    return plain + around


def count_gaps(values: xr.DataArray, recipe: FeatureRecipe, periods: Sequence[str]) -> int:
    """Count pixels that are clear in one period, and in another too far from one to be filled.

    Parameters
    ----------
    values : DataArray, shape (feature, y, x), float32
        As `compute_features` gives them.
    """
    features = recipe.features
    step = len(periods) + len(features.statistics)
    firsts = range(0, step * len(series_names(list(recipe.bands), features)), step)
    known = np.isfinite([values.values[first : first + len(periods)] for first in firsts])
    return int((known.any(axis=1) & ~known.all(axis=1)).any(axis=0).sum())


def halo_px(features: Features) -> int:
    """Pixels around a window that its features need."""
    return max(features.neighbourhood, default=1) // 2


def compute_features(
    cube: xr.Dataset,
    features: Features,
    periods: Sequence[str],
    layers: Mapping[str, Image] | None = None,
    own: Sequence[FeatureFunction] = (),
) -> xr.DataArray:
    """Compute all features of a grid.

    Per band and index: a percentile of the clear values per period, gaps between periods filled
    linearly in time as far as [features] max_gap_days reaches, and statistics of the clear values
    over all dates. Then layers that do not change, then means and standard deviations around each,
    then what the project's own functions compute.

    Parameters
    ----------
    cube : Dataset
        Bands, dims (time, y, x), float32, NaN where not clear.
    periods : sequence of str
        Of the composites; `periods.observed_periods` lists those of the dates. Dates outside of
        them are left out of everything.
    layers : mapping
        Name to ndarray, shape (y, x), float32, NaN nodata, on the cube's grid.
    own : sequence of callable
        Feature functions of the project; see `own.compute_own`.

    Returns
    -------
    DataArray, shape (feature, y, x), float32
        NaN nodata; CRS and transform of the cube.

    Raises
    ------
    ConfigError
        An index is unknown, or its bands are missing; or a function of the project is wrong.
    """
    labels = period_labels(cube.time.values, features.composites)
    within = [label in periods for label in labels]  # a longer season would shift statistics
    cube = cube.isel(time=within).drop_vars("observed", errors="ignore")
    labels = [label for label, wanted in zip(labels, within, strict=True) if wanted]
    images: list[Image] = []
    every = add_indices(cube, features.indices, features.constants)
    for values in every.values():
        series = values.transpose("time", "y", "x").compute()
        images += list(
            composite(
                series,
                labels,
                periods,
                q=features.percentile,
                composites=features.composites,
                max_gap_days=features.max_gap_days,
            ).values
        )
        images += [statistic(series.values, name) for name in features.statistics]
    images += list((layers or {}).values())
    plain = list(images)
    for side in features.neighbourhood:
        for image in plain:
            images += neighbourhood(image, side)
    bands = [str(name) for name in cube.data_vars]
    names = feature_names(bands, features, periods, list(layers or {}))
    if own:
        further = compute_own(own, xr.Dataset(every))
        images += list(further.values())
        names += list(further)
    geobox: GeoBox = cube.odc.geobox
    return xr.DataArray(
        np.stack(images, dtype="float32"),
        dims=("feature", "y", "x"),
        coords=xr_coords(geobox, dims=("y", "x")) | {"feature": names},
    )


def neighbourhood(image: Image, side: int) -> tuple[Image, Image]:
    """Mean and standard deviation over a square around each pixel, of the values that are there.

    Parameters
    ----------
    image : ndarray, shape (y, x), float32
        NaN nodata.
    side : int
        Odd, in pixels.

    Returns
    -------
    mean, std : ndarray, shape (y, x), float32
        NaN where the image itself is.
    """
    known = np.isfinite(image)
    values = np.where(known, image, 0).astype("float64")

    def average(array: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        filtered: npt.NDArray[np.float64] = uniform_filter(array, side, mode="constant")
        return filtered

    share = np.where(known, average(known.astype("float64")), np.nan)
    mean = average(values) / share
    variance = np.maximum(average(values**2) / share - mean**2, 0)
    return mean.astype("float32"), np.sqrt(variance).astype("float32")
