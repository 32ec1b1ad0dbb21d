"""Samples: features at labelled pixels, and at random pixels of the whole area."""

from __future__ import annotations

from dataclasses import dataclass, field

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd
import rasterio
import xarray as xr
from odc.geo.geobox import GeoBox
from rasterio.windows import Window

from terraflow.eo.config.labels import Labels
from terraflow.eo.features.limits.size import check_memory
from terraflow.eo.targets.parts import LabelSource

__all__ = [
    "ANYWHERE",
    "LABELLED",
    "NOT_FEATURES",
    "POPULATION",
    "Draw",
    "block_numbers",
    "pixel_numbers",
    "pixel_table",
    "random_pixels",
    "to_geo",
]

#: Columns of the samples beside the features and the target's own.
NOT_FEATURES = ["x", "y", "block", "polygon", "geometry"]
POPULATION = 20_000
#: Purposes of draws, for `pixel_numbers`.
LABELLED, ANYWHERE = 0, 1
#: Of a table that is joined, sorted and written: about three copies of float32.
BYTES_A_VALUE = 12
_PRIORITY, _STRATUM = "_priority", "_stratum"


@dataclass
class Draw:
    """At most `limit` rows of each stratum, drawn at random while windows pass by.

    Every row comes with a random number, and those with the lowest stay: the result is a simple
    random sample, and memory holds no more than it.

    Attributes
    ----------
    limit : int or None
        None keeps all.
    """

    limit: int | None
    kept: list[pd.DataFrame] = field(default_factory=list)

    def add(
        self,
        table: pd.DataFrame,
        priority: npt.NDArray[np.float64],
        strata: npt.NDArray[np.object_] | str = "all",
    ) -> None:
        """Take a window's rows, each with its random number and its stratum.

        Raises
        ------
        DataError
            All are kept, and memory does not hold them.
        """
        self.kept.append(table.assign(**{_PRIORITY: priority, _STRATUM: strata}))
        rows = sum(map(len, self.kept))
        if self.limit is not None and rows > 4 * self.limit:
            self.kept = [self._pruned()]
        if self.limit is None:
            check_memory(
                rows * len(table.columns) * BYTES_A_VALUE,
                f"A table of the {rows} labelled pixels found so far, of {len(table.columns)} "
                "columns,",
                f"set [labels] {Labels.MOST_OF_EACH}, or a coarser [grid] resolution",
            )

    def result(self) -> pd.DataFrame:
        """Give the drawn rows, by row and column of the grid."""
        table = (
            self._pruned()
            if self.kept
            else pd.DataFrame({"x": [], "y": [], _PRIORITY: [], _STRATUM: []})
        )
        table = table.sort_values(["y", "x"], ascending=[False, True], ignore_index=True)
        return table.drop(columns=[_PRIORITY, _STRATUM])

    def _pruned(self) -> pd.DataFrame:
        table = pd.concat(self.kept, ignore_index=True)
        if self.limit is None:
            return table
        table = table.sort_values(_PRIORITY, kind="stable")
        return table.groupby(_STRATUM).head(self.limit)


def pixel_numbers(window: Window, seed: int, purpose: int) -> npt.NDArray[np.float64]:
    """Give each pixel of a window its random number, which follows from its place alone.

    So two draws of one area have most pixels in common, also where one of them has more images and
    with them other complete pixels and other windows: without that, a model trained on new images
    could not be compared with the one before.

    Parameters
    ----------
    window : Window
        Its offsets are rows and columns of the grid.
    purpose : int
        Draws of different purposes get different numbers.

    Returns
    -------
    ndarray, shape (y, x), float64
        From 0 to 1.

    References
    ----------
    Ohlsson 1995, Coordination of samples using permanent random numbers, in: Business Survey
    Methods, doi:10.1002/9781118150504.ch9
    """
    (top, bottom), (left, right) = window.toranges()
    rows = [
        np.random.default_rng((seed, purpose, row)).random(right)[left:]
        for row in range(top, bottom)
    ]
    return np.array(rows).reshape(bottom - top, right - left)


def random_pixels(
    features: xr.DataArray, limit: int, numbers: npt.NDArray[np.float64]
) -> tuple[pd.DataFrame, npt.NDArray[np.float64]]:
    """List random pixels of a window, for `Draw.add`.

    Parameters
    ----------
    features : DataArray, shape (feature, y, x), float32
    limit : int
        Of the draw: a window can't give more to it.
    numbers : ndarray, shape (y, x), float64
        As `pixel_numbers` gives them.

    Returns
    -------
    DataFrame
        As `pixel_table` gives it.
    ndarray, shape (pixel,), float64
        A random number of each.
    """
    valid = np.isfinite(features.values).all(axis=0)
    lowest = np.sort(numbers[valid])[:limit]
    chosen = valid & (numbers <= (lowest[-1] if len(lowest) else -1))
    return pixel_table(features, chosen), numbers[chosen]


def pixel_table(features: xr.DataArray, chosen: npt.NDArray[np.bool_]) -> pd.DataFrame:
    """List the chosen pixels that have all features.

    Parameters
    ----------
    features : DataArray, shape (feature, y, x), float32
    chosen : ndarray, shape (y, x), bool

    Returns
    -------
    DataFrame
        Columns x, y (pixel centres in the CRS of the features), the features (float32); the index
        is the pixel's place in the flattened window.
    """
    valid = chosen & np.isfinite(features.values).all(axis=0)
    rows, columns = np.nonzero(valid)
    names = [str(name) for name in features.feature.values]
    table = pd.DataFrame(features.values[:, rows, columns].T, columns=names)
    table.insert(0, "y", features.y.values[rows])
    table.insert(0, "x", features.x.values[columns])
    return table.set_axis(np.flatnonzero(valid), axis="index")


def block_numbers(
    table: pd.DataFrame,
    labels: LabelSource,
    geobox: GeoBox,
    *,
    size_px: int,
    whole_polygons: bool,
) -> npt.NDArray[np.int64]:
    """Give each sample the number of its square block, row by row over the grid.

    Parameters
    ----------
    table : DataFrame
        Columns x, y and polygon.
    size_px : int
        Side of a block.
    whole_polygons : bool
        All samples of a polygon take the block that holds a point within the polygon.

    Returns
    -------
    ndarray, shape (sample,), int64
    """
    places = table[["x", "y"]].to_numpy(copy=True)
    polygon = table["polygon"].to_numpy()
    if whole_polygons and (polygon >= 0).any():
        places[polygon >= 0] = labels.anchors()[polygon[polygon >= 0]]
    columns, rows = ~geobox.affine * (places[:, 0], places[:, 1])
    last = (geobox.height - 1, geobox.width - 1)  # a polygon's point may lie outside the grid
    rows = np.clip(np.floor(rows), 0, last[0]).astype("int64") // size_px
    columns = np.clip(np.floor(columns), 0, last[1]).astype("int64") // size_px
    blocks: npt.NDArray[np.int64] = rows * -(-geobox.width // size_px) + columns
    return blocks


def to_geo(table: pd.DataFrame, geobox: GeoBox) -> gpd.GeoDataFrame:
    """Give a table with x and y its points and its CRS."""
    points = gpd.points_from_xy(table["x"], table["y"])
    crs = rasterio.crs.CRS.from_user_input(str(geobox.crs))
    return gpd.GeoDataFrame(table, geometry=points, crs=crs.to_wkt())
