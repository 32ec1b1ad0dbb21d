"""From items and polygons to features and samples."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence
from pathlib import Path

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import odc.geo.xr
import pandas as pd
import rasterio
import xarray as xr
from odc.geo.geobox import GeoBox

from terraflow.errors import DataError
from terraflow.storage import Storage, join

from .config import ProjectConfig
from .cube import find_unreadable, load_clear
from .ingest import Selection, read_items
from .labels import burn_labels

__all__ = ["compute_features", "fill_gaps", "preprocess", "read_features"]


def preprocess(project: ProjectConfig, selection: Selection, storage: Storage) -> Selection:
    """Write features and samples into the store.

    Parameters
    ----------
    selection : dict
        What `ingest` returned.

    Returns
    -------
    dict
        "features": URI of a COG, float32, NaN nodata, one described band a feature; "samples": URI
        of a GeoParquet with columns x, y (metres), block, class_name and the features.

    Raises
    ------
    DataError
        Assets or labels do not fit the configuration, or no pixel is clear.
    StorageError
        The store can't be read or written.
    """
    items = read_items(selection["items"], storage)
    with storage.gdal():
        try:
            features = compute_features(load_clear(items, project), project)
        except (rasterio.errors.RasterioError, OSError) as error:
            name, why = find_unreadable(items, project) or (selection["items"], error)
            raise DataError(
                f"{name} can't be read: {why}; check that the file is whole and can be reached."
            ) from error
    with storage.scratch() as folder:
        labels = burn_labels(selection["labels"], project.labels, features.odc.geobox, storage)
        samples = _sample(features, labels.names, labels.numbers, project)
        samples_path, features_path = folder / "samples.parquet", folder / "features.tif"
        samples.to_parquet(samples_path, index=False)
        _write_features(features, features_path.as_posix(), simulated=project.simulated)
        root = join(storage.settings.data_uri, project.name)
        return {
            "items": selection["items"],
            "features": storage.write(
                join(root, f"features-{_digest(features_path)}.tif"), features_path
            ),
            "samples": storage.write(
                join(root, f"samples-{_digest(samples_path)}.parquet"), samples_path
            ),
        }


def compute_features(cube: xr.Dataset, project: ProjectConfig) -> xr.DataArray:
    """Composite over time and take statistics.

    Per band and index: the median of clear values per period, gaps between periods filled linearly
    in time and at both ends with the nearest period; the maximum and the standard deviation of
    the clear values over all dates. A pixel never clear keeps NaN.

    Parameters
    ----------
    cube : Dataset
        Bands, dims (time, y, x), float32, NaN where not clear.

    Returns
    -------
    DataArray, shape (feature, y, x), float32
        NaN nodata; CRS and transform of the cube.

    Raises
    ------
    DataError
        No pixel is ever clear.

    References
    ----------
    NDVI: Rouse et al. 1974, NASA SP-351; NDWI: McFeeters 1996, doi:10.1080/01431169608948714.
    """
    layers: dict[str, xr.DataArray] = {}
    for name, lazy in _with_indices(cube, project.features.indices).items():
        values = lazy.compute()
        # GDAL's and numpy's all-NaN medians are what "never clear" means here
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "All-NaN slice|Degrees of freedom|Mean of empty")
            composites = _composites(values, project.features.composites)
            layers |= {f"{name}_{period}": layer for period, layer in composites}
            layers[f"{name}_max"] = values.max("time")
            layers[f"{name}_std"] = values.std("time")
    features = xr.concat(list(layers.values()), dim="feature", coords="minimal", compat="override")
    features = features.assign_coords(feature=list(layers)).astype("float32")
    if not bool(features.notnull().all("feature").any()):
        raise DataError(
            f"None of the {features.sizes['y']} x {features.sizes['x']} pixels is clear on any of "
            f"the {cube.sizes['time']} dates; check [cloud_mask] clear, or widen the dates."
        )
    geobox: GeoBox = cube.odc.geobox
    features = features.drop_vars(["time", "spatial_ref"], errors="ignore")
    located: xr.DataArray = features.odc.assign_crs(geobox.crs)
    return located


def read_features(uri: str, storage: Storage) -> xr.DataArray:
    """Read the COG that `preprocess` wrote: shape (feature, y, x), float32, NaN nodata."""
    with storage.gdal(), rasterio.open(uri) as file:
        geobox = GeoBox((file.height, file.width), file.transform, file.crs)
        values = file.read()
        names = list(file.descriptions)
    return xr.DataArray(
        values, dims=("feature", "y", "x"), coords=odc.geo.xr.xr_coords(geobox) | {"feature": names}
    )


def _with_indices(cube: xr.Dataset, indices: Sequence[str]) -> dict[str, xr.DataArray]:
    pairs = {"ndvi": ("nir", "red"), "ndwi": ("green", "nir")}
    bands = {str(name): cube[name] for name in cube.data_vars}
    for index in indices:
        first, second = pairs[index]
        if first not in bands or second not in bands:
            raise DataError(
                f"Index {index} needs the bands {first} and {second}; [data.bands] has "
                f"{', '.join(map(str, cube.data_vars))}."
            )
        total = bands[first] + bands[second]
        bands[index] = (bands[first] - bands[second]) / total.where(total > 0)
    return bands


def _composites(values: xr.DataArray, period: str) -> list[tuple[str, xr.DataArray]]:
    if period == "month":
        months = values.time.dt.strftime("%Y-%m")
        span = pd.period_range(str(months.values[0]), str(months.values[-1]), freq="M").astype(str)
    else:
        months = values.time.dt.strftime("%m")
        first, last = sorted(months.values)[0], sorted(months.values)[-1]
        span = [f"{month:02}" for month in range(int(first), int(last) + 1)]
    medians = values.groupby(months.rename("period")).median()
    medians = medians.reindex(period=list(span))
    filled = fill_gaps(medians)
    return [(name, filled.isel(period=i, drop=True)) for i, name in enumerate(span)]


def fill_gaps(composites: xr.DataArray) -> xr.DataArray:
    """Fill missing periods linearly from the periods around them, at both ends from the nearest.

    Parameters
    ----------
    composites : DataArray, with a dimension "period" of equal steps
        NaN is missing.

    Returns
    -------
    DataArray, same shape
        NaN only where all periods are missing.
    """
    step = xr.DataArray(np.arange(composites.sizes["period"], dtype="float32"), dims="period")
    known = step.where(composites.notnull())
    before, after = composites.ffill("period"), composites.bfill("period")
    since, until = step - known.ffill("period"), known.bfill("period") - step
    span = since + until
    weight = (since / span).where(span > 0, 0)
    return (before + (after - before) * weight).fillna(before).fillna(after)


def _sample(
    features: xr.DataArray,
    names: list[str],
    numbers: npt.NDArray[np.uint8],
    project: ProjectConfig,
) -> gpd.GeoDataFrame:
    """Take every labelled pixel whose features are all there."""
    geobox: GeoBox = features.odc.geobox
    rows, columns = np.nonzero((numbers > 0) & features.notnull().all("feature").values)
    values = features.values[:, rows, columns].T
    x, y = rasterio.transform.xy(geobox.affine, rows, columns)
    size = project.validation.block_size_px
    across = -(-geobox.width // size)
    table = pd.DataFrame(values, columns=list(features.feature.values))
    table.insert(0, "class_name", np.array(["", *names])[numbers[rows, columns]])
    table.insert(0, "block", (rows // size) * across + columns // size)
    table.insert(0, "y", y)
    table.insert(0, "x", x)
    counts = table["class_name"].value_counts()
    if len(counts) < 2:
        raise DataError(
            f"Labels give {len(table)} clear pixels of {len(counts)} class(es) "
            f"({', '.join(counts.index) or 'none'}); at least 2 classes are needed; check "
            "[labels] class_field and classes, and that the labels overlap the images."
        )
    if limit := project.labels.samples_per_class:
        drawn = table.sample(frac=1, random_state=project.seed).groupby("class_name").head(limit)
        table = drawn.sort_index()
    blocks = table["block"].nunique()
    if blocks < project.validation.folds:
        raise DataError(
            f"Labels lie in {blocks} blocks of {size} x {size} pixels, fewer than the "
            f"{project.validation.folds} folds; lower [validation] folds or block_size_px."
        )
    points = gpd.points_from_xy(table["x"], table["y"])
    return gpd.GeoDataFrame(table, geometry=points, crs=str(geobox.crs))


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def _write_features(features: xr.DataArray, path: str, *, simulated: bool) -> None:
    geobox: GeoBox = features.odc.geobox
    with rasterio.open(
        path, "w", driver="COG", width=geobox.width, height=geobox.height,
        count=features.sizes["feature"], dtype="float32", crs=str(geobox.crs),
        transform=geobox.affine, nodata=np.nan, compress="deflate", predictor=3,
        overviews="none",
    ) as file:  # fmt: skip
        file.write(features.values)
        file.update_tags(SIMULATED=str(simulated).lower())
        file.descriptions = tuple(features.feature.values)
