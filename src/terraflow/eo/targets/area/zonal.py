"""Numbers of a map by area."""

from __future__ import annotations

import math
from typing import Any

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd
from affine import Affine
from rasterio.crs import CRS
from rasterio.features import geometry_mask
from shapely import Geometry

from terraflow.eo.targets.area.pixel_areas import PixelAreas
from terraflow.errors import DataError

__all__ = ["WHOLE_MAP", "mean_per_area"]

#: Name of the one area where no polygons are given.
WHOLE_MAP = "whole map"
UNNAMED = "unnamed"


def mean_per_area(
    values: npt.NDArray[Any],
    crs: CRS | str | None,
    transform: Affine,
    polygons: gpd.GeoDataFrame | None,
    field: str,
) -> pd.DataFrame:
    """Give the mean of a map's pixels in each area.

    A pixel lies in an area that holds its centre; where areas overlap, it counts in each. Polygons
    of one name are one area, and those without a name are the area "unnamed". Pixels count by
    their area on the ellipsoid, which in a geographic CRS shrinks towards the poles.

    Parameters
    ----------
    values : ndarray or MaskedArray, shape (y, x)
        Numbers in any unit. NaN and masked pixels are nodata, and do not count.
    crs : CRS, str or None
        Of the map; without one, which needs polygons to be None, all pixels count alike.
    transform : Affine
        Pixel to world.
    polygons : GeoDataFrame or None
        In any CRS; None takes the whole map as one area.
    field : str
        Attribute that names an area; "" numbers the polygons from 1.

    Returns
    -------
    DataFrame
        area (str, sorted as the field is), pixels (int64), mean (float64, in the map's unit; NaN
        where an area has no pixel with a value) and area_m2 (float64, of the pixels with a value;
        NaN without a CRS).

    Raises
    ------
    DataError
        Map or polygons have no CRS, the polygons have no such field, or none reaches the map.
    """
    image = np.ma.filled(np.ma.asarray(values).astype("float64"), np.nan)
    known = ~np.isnan(image)
    if not crs:
        if polygons is not None:
            raise DataError("The map has no CRS, so that no area can be found in it; give it one.")
        pixels = image[known]
        mean = float(pixels.mean()) if pixels.size else math.nan
        return _table([(WHOLE_MAP, pixels.size, mean, math.nan)])
    map_crs = CRS.from_user_input(crs)
    blocks = PixelAreas(map_crs, transform, image.shape).blocks()
    pixel_m2 = np.where(known, np.concatenate([block for _, block in blocks]), 0)
    layers = np.stack([known, np.where(known, image, 0) * pixel_m2, pixel_m2])
    if polygons is None:
        return _table([(WHOLE_MAP, *_mean(layers.reshape(3, -1)))])
    areas = _named(polygons, field).to_crs(map_crs.to_wkt())
    rows, reached = [], False
    for name, geometry in areas.items():
        inside = _inside(geometry, layers, transform)
        reached |= inside is not None
        rows.append((str(name), *_mean(np.empty((3, 0)) if inside is None else inside)))
    if not reached:
        raise DataError(
            f"None of the {len(areas)} areas reaches the map; check the polygons' CRS, or take "
            "others as [map] areas."
        )
    return _table(rows)


def _named(polygons: gpd.GeoDataFrame, field: str) -> gpd.GeoSeries:
    """Check polygons, and give each area's geometry by its name."""
    if not isinstance(polygons, gpd.GeoDataFrame):
        raise DataError("The areas have no geometries; polygons are expected as [map] areas.")
    if polygons.crs is None:
        raise DataError("The areas have no CRS; add one to the file, as ogr2ogr's -a_srs does.")
    if field and field not in polygons.columns:
        raise DataError(
            f"The areas have no field {field!r}; they have {', '.join(polygons.columns)}; correct "
            "[map] areas_field."
        )
    known = (polygons.geometry.notna() & ~polygons.geometry.is_empty).to_numpy()
    if not field:
        return polygons.geometry[known].set_axis(np.flatnonzero(known) + 1)
    named = polygons[known]
    if (nameless := named[field].isna()).any():
        named = named.assign(**{field: named[field].astype("string").mask(nameless, UNNAMED)})
    return named.dissolve(by=field).geometry


def _inside(
    geometry: Geometry, layers: npt.NDArray[np.float64], transform: Affine
) -> npt.NDArray[np.float64] | None:
    """Give the pixels whose centre lies in a geometry: (layer, pixel); None where none can."""
    west, south, east, north = geometry.bounds
    if not np.isfinite(geometry.bounds).all():  # it lies where the map's CRS has no place
        return None
    corners = [~transform * (x, y) for x in (west, east) for y in (south, north)]
    (left, right), (top, bottom) = (
        (max(0, math.floor(min(places))), min(size, math.ceil(max(places))))
        for places, size in zip(zip(*corners, strict=True), layers.shape[:0:-1], strict=True)
    )
    if left >= right or top >= bottom:
        return None
    part = layers[:, top:bottom, left:right]
    here = transform * Affine.translation(left, top)
    within: npt.NDArray[np.float64] = part[
        :, geometry_mask([geometry], part.shape[1:], here, invert=True)
    ]
    return within


def _mean(layers: npt.NDArray[np.float64]) -> tuple[int, float, float]:
    """Count the pixels with a value, and give their mean by area, and their area."""
    pixels, weighted, area_m2 = layers.sum(axis=1)
    return int(pixels), float(weighted / area_m2) if area_m2 else math.nan, float(area_m2)


def _table(rows: list[tuple[str, int, float, float]]) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=["area", "pixels", "mean", "area_m2"])
    return table.astype({"pixels": "int64", "mean": "float64", "area_m2": "float64"})
