"""Means of a map of numbers over areas."""

from __future__ import annotations

import math

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd
from affine import Affine
from rasterio.crs import CRS
from rasterio.features import geometry_mask

from terraflow.errors import DataError

__all__ = ["mean_per_area"]

WHOLE, UNNAMED = "whole map", "unnamed"


def mean_per_area(
    values: npt.NDArray[np.floating],
    crs: CRS | None,
    transform: Affine,
    areas: gpd.GeoDataFrame | None = None,
    field: str = "",
) -> pd.DataFrame:
    """Average a map over polygons; a pixel counts where its centre lies.

    Parameters
    ----------
    values : ndarray, shape (y, x)
        Any unit; NaN is nodata, and left out.
    crs : CRS or None
        Of the map.
    transform : Affine
        Pixel to world.
    areas : GeoDataFrame, optional
        Polygons in any CRS; where areas overlap, a pixel counts in each. None takes the whole map
        for one area.
    field : str
        Column that names an area; polygons of one name are one area, and those without a name are
        "unnamed". "" numbers them from 1.

    Returns
    -------
    DataFrame
        Columns area, pixels (number of those with a value) and mean (NaN where there are none), in
        the order of the areas.

    Raises
    ------
    DataError
        Map or areas have no CRS, the areas have no geometries or no such column, or none of them
        reaches the map.
    """
    if areas is None:
        return _table([(WHOLE, values)])
    found = [
        (name, _inside(shapes, values, transform)) for name, shapes in _named(areas, field, crs)
    ]
    if all(pixels is None for _, pixels in found):
        raise DataError(
            f"None of the {len(areas)} areas reaches the map; check [map] areas and its CRS."
        )
    return _table([(name, np.empty(0) if pixels is None else pixels) for name, pixels in found])


def _named(
    areas: gpd.GeoDataFrame, field: str, crs: CRS | None
) -> list[tuple[object, gpd.GeoSeries]]:
    """Give the name of each area with its polygons, in the map's CRS."""
    if not crs:
        raise DataError("The map has no CRS, so that no area can be found in it; give it one.")
    if not isinstance(areas, gpd.GeoDataFrame):
        raise DataError("[map] areas have no geometries; polygons are expected.")
    if areas.crs is None:
        raise DataError("[map] areas have no CRS; add one to the file, as ogr2ogr's -a_srs does.")
    if field and field not in areas.columns:
        raise DataError(
            f"[map] areas have no field {field!r}; they have {', '.join(areas.columns)}; correct "
            "[map] areas_field."
        )
    areas = areas[areas.geometry.notna()].to_crs(crs.to_wkt())
    labels = areas[field] if field else pd.Series(range(1, len(areas) + 1))
    codes, names = pd.factorize(labels.astype(object).where(labels.notna(), UNNAMED))
    return [(name, areas.geometry[codes == code]) for code, name in enumerate(names)]


def _inside(
    shapes: gpd.GeoSeries, values: npt.NDArray[np.floating], transform: Affine
) -> npt.NDArray[np.floating] | None:
    """Give the pixels whose centre lies in one of the shapes; None where none reaches the map."""
    shapes = shapes[shapes.geom_type.str.contains("Polygon") & ~shapes.is_empty]
    west, south, east, north = shapes.total_bounds
    if not np.isfinite(shapes.total_bounds).all():  # no polygon, or no place in the map's CRS
        return None
    corners = [~transform * (x, y) for x in (west, east) for y in (south, north)]
    (left, right), (top, bottom) = (
        (max(0, math.floor(min(places))), min(size, math.ceil(max(places))))
        for places, size in zip(zip(*corners, strict=True), values.shape[::-1], strict=True)
    )
    if left >= right or top >= bottom:
        return None
    part = values[top:bottom, left:right]
    here = transform * Affine.translation(left, top)
    inside: npt.NDArray[np.floating] = part[geometry_mask(shapes, part.shape, here, invert=True)]
    return inside


def _table(areas: list[tuple[object, npt.NDArray[np.floating]]]) -> pd.DataFrame:
    """Count and average the pixels that have a value."""
    rows = []
    for name, pixels in areas:
        known = pixels[np.isfinite(pixels)].astype("float64")
        rows.append((name, known.size, known.mean() if known.size else math.nan))
    table = pd.DataFrame(rows, columns=["area", "pixels", "mean"])
    return table.astype({"pixels": "int64", "mean": "float64"})
