"""Tables with a pair of coordinates in each row, the commonest form of samples: read as points."""

from __future__ import annotations

import geopandas as gpd
import numpy as np
import pandas as pd
from pyproj import CRS
from pyproj.exceptions import CRSError
from shapely.errors import GEOSException

from terraflow.errors import ConfigError, DataError

__all__ = ["stated_crs", "to_points"]

DEGREES = "EPSG:4326"
#: Names of columns in any case, the first pair that is there; with a CRS stated the last.
GEOGRAPHIC = [("longitude", "latitude"), ("lon", "lat"), ("long", "lat"), ("lng", "lat")]
#: Names of a column of geometries as well-known text.
WKT = ("wkt", "geometry", "geom", "the_geom", "_wkt")
PAIRS = [*GEOGRAPHIC, ("x", "y"), ("easting", "northing")]


def stated_crs(text: str | None) -> CRS | None:
    """Read [labels] crs.

    Raises
    ------
    ConfigError
        It is not known.
    """
    if text is None:
        return None
    try:
        return CRS(text)
    except CRSError as error:
        raise ConfigError(
            f"[labels] crs {text[:60]!r} is not known; write it as EPSG:32633, or as WKT."
        ) from error


def to_points(table: pd.DataFrame, uri: str, crs: CRS | None) -> gpd.GeoDataFrame:
    """Make points of a table.

    Parameters
    ----------
    table : DataFrame
        With columns longitude and latitude, lon and lat, x and y, or easting and northing.
    uri : str
        Where it comes from, for messages.
    crs : CRS or None
        Of the coordinates. Without one longitude and latitude are degrees (EPSG:4326), and x and y
        can't be read.

    Returns
    -------
    GeoDataFrame
        Empty fields are None.

    Raises
    ------
    DataError
        It has no such columns, a row without a number in them, or no CRS is known.
    """
    known = {str(name).lower(): str(name) for name in table.columns}
    if wkt := next((known[name] for name in WKT if name in known), ""):
        return _of_text(table, wkt, uri, crs)
    pairs = [pair for pair in PAIRS if set(pair) <= set(known)]
    if not pairs:
        raise DataError(
            f"{uri} has no geometries, only {', '.join(map(str, table.columns))}; expected "
            "polygons or points in a format OGR reads, a table with columns longitude and latitude "
            "or x and y, or a raster that GDAL reads."
        )
    pair = pairs[0] if crs is None else pairs[-1]
    x, y = (known[name] for name in pair)
    if crs is None and pair not in GEOGRAPHIC:
        raise DataError(
            f"{uri} has columns {x} and {y} and no CRS; set [labels] crs, as EPSG:32633, or name "
            "them longitude and latitude if they are degrees."
        )
    numbers = table[[x, y]].apply(_to_numbers)
    wrong = numbers.isna().any(axis=1)
    if wrong.any():
        first = ", ".join(map(str, table.loc[wrong, [x, y]].iloc[0]))
        raise DataError(
            f"{uri} lacks a number in {x} or {y} in {wrong.sum()} of its {len(table)} rows, first "
            f"in that of {first}; correct or remove such rows."
        )
    if crs is None:
        _check_degrees(numbers, uri)
    points = gpd.points_from_xy(numbers[x], numbers[y])
    return gpd.GeoDataFrame(table.replace("", None), geometry=points, crs=crs or DEGREES)


def _of_text(table: pd.DataFrame, column: str, uri: str, crs: CRS | None) -> gpd.GeoDataFrame:
    """Read geometries that are written as well-known text."""
    try:
        geometry = gpd.GeoSeries.from_wkt(table[column].replace("", None), crs=crs)
    except (GEOSException, TypeError) as error:
        raise DataError(
            f"{uri} holds what is no geometry in {column}: {str(error).splitlines()[0]}; write it "
            "as well-known text, as POINT (14.5 46.0)."
        ) from error
    rest = table.drop(columns=column).replace("", None)
    return gpd.GeoDataFrame(rest, geometry=geometry)


def _to_numbers(column: pd.Series) -> pd.Series:
    """Read numbers, with a decimal comma where all have one: 14,55."""
    if column.dtype != object and not pd.api.types.is_string_dtype(column):
        return pd.to_numeric(column, errors="coerce")
    texts = column.astype(str).str.strip()
    if texts.str.fullmatch(r"[+-]?\d+,\d+").all():
        texts = texts.str.replace(",", ".")
    return pd.to_numeric(texts, errors="coerce").where(np.isfinite, np.nan)


def _check_degrees(numbers: pd.DataFrame, uri: str) -> None:
    beyond = (numbers.abs().to_numpy() > [180, 90]).any(axis=1)
    if beyond.any():
        x, y = numbers.columns
        first = numbers[beyond].iloc[0]
        raise DataError(
            f"{uri} holds {x} {first[x]:g}, {y} {first[y]:g}, which are no degrees; correct it, or "
            "set [labels] crs to the CRS of these columns."
        )
