"""Means of a map of numbers over areas."""

from __future__ import annotations

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd
from affine import Affine
from rasterio.crs import CRS
from rasterio.features import rasterize

from terraflow.errors import DataError

__all__ = ["mean_per_area"]

WHOLE = "whole map"


def mean_per_area(
    values: npt.NDArray[np.floating],
    crs: CRS,
    transform: Affine,
    areas: gpd.GeoDataFrame | None = None,
    field: str = "",
) -> pd.DataFrame:
    """Average a map over polygons; a pixel counts where its centre lies.

    Parameters
    ----------
    values : ndarray, shape (y, x)
        Any unit; NaN is nodata, and left out.
    crs : CRS
        Of the map.
    transform : Affine
        Pixel to world.
    areas : GeoDataFrame, optional
        Polygons in any CRS; where they overlap, the last one has the pixel. None takes the whole
        map for one area.
    field : str
        Column that names an area; those of one name are one. "" numbers them from 1.

    Returns
    -------
    DataFrame
        Columns area, pixels (number of those with a value) and mean (NaN where there are none), in
        the order of the areas.

    Raises
    ------
    DataError
        The areas have no CRS or no such column, or none of them reaches the map.
    """
    names: list[object]
    if areas is None:
        names, numbers = [WHOLE], np.ones(values.shape, dtype="int32")
    else:
        names, numbers = _burn(areas, field, values.shape, crs, transform)
    known = np.isfinite(values) & (numbers > 0)
    if areas is not None and not (numbers > 0).any():
        raise DataError(
            f"None of the {len(areas)} areas reaches the map; check [map] areas and its CRS."
        )
    size = len(names) + 1
    pixels = np.bincount(numbers[known], minlength=size)[1:]
    sums = np.bincount(numbers[known], weights=values[known].astype("float64"), minlength=size)[1:]
    with np.errstate(invalid="ignore"):
        return pd.DataFrame({"area": names, "pixels": pixels, "mean": sums / pixels})


def _burn(
    areas: gpd.GeoDataFrame, field: str, shape: tuple[int, ...], crs: CRS, transform: Affine
) -> tuple[list[object], npt.NDArray[np.int32]]:
    """Give the names of areas, and the number of each pixel's, from 1; 0 is none."""
    if areas.crs is None:
        raise DataError("[map] areas have no CRS; add one to the file, as ogr2ogr's -a_srs does.")
    if field and field not in areas.columns:
        raise DataError(
            f"[map] areas have no field {field!r}; they have {', '.join(areas.columns)}; correct "
            "[map] areas_field."
        )
    areas = areas[areas.geometry.notna()].to_crs(crs.to_wkt())
    labels = areas[field] if field else pd.Series(range(1, len(areas) + 1))
    codes, names = pd.factorize(labels)
    numbers = np.zeros(shape, dtype="int32")
    shapes = [(s, c + 1) for s, c in zip(areas.geometry, codes, strict=True) if not s.is_empty]
    if shapes:
        rasterize(shapes, out=numbers, transform=transform)
    return list(names), numbers
