"""Tables with coordinates or a text of a geometry in each row: read as geometries."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from pyproj import CRS
from shapely.errors import ShapelyError

from terraflow.errors import DataError, first_line

__all__ = ["has_places", "to_points"]

DEGREES = "EPSG:4326"
#: Names of columns in any case.
GEOGRAPHIC = [("longitude", "latitude"), ("lon", "lat"), ("long", "lat"), ("lng", "lat")]
PROJECTED = [("x", "y"), ("easting", "northing")]
#: Columns of geometries in WKT or WKB, as GeoPandas and databases write them into tables.
GEOMETRY = ("geometry", "geom", "the_geom", "wkt", "wkb", "wkb_geometry")


def has_places(names: Iterable[str]) -> bool:
    """Tell whether a table of such columns can be read as geometries."""
    known = {name.strip().lower() for name in names}
    return any({*pair} <= known for pair in [*GEOGRAPHIC, *PROJECTED]) or bool(known & {*GEOMETRY})


def to_points(table: pd.DataFrame, uri: str, crs: CRS | None) -> gpd.GeoDataFrame:
    """Make points of a table, or the geometries that it holds as WKT or WKB.

    Parameters
    ----------
    table : DataFrame
        With columns longitude and latitude, lon and lat, x and y, or easting and northing, or with
        one of `GEOMETRY`, which goes before them.
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
        It has no such columns, or several that differ, a row without a number in them, or no CRS
        is known.
    """
    table = table.rename(columns=lambda name: str(name).strip())
    known: dict[str, list[str]] = {}
    for name in table.columns:
        known.setdefault(name.lower(), []).append(name)
    if whole := [name for name in GEOMETRY if name in known]:
        return _geometries(table, known[whole[0]][0], uri, crs)
    pairs = [pair for pair in [*GEOGRAPHIC, *PROJECTED] if {*pair} <= set(known)]
    if not pairs:
        raise DataError(_no_places(table.columns, uri))
    degrees = crs is None or crs.is_geographic
    fitting = [pair for pair in pairs if (pair in GEOGRAPHIC) == degrees] or pairs
    columns = [(x, y) for pair in fitting for x in known[pair[0]] for y in known[pair[1]]]
    x, y = columns[0]
    if crs is None and fitting[0] not in GEOGRAPHIC:
        raise DataError(
            f"{uri} has columns {x} and {y} and no CRS; set [labels] crs, as EPSG:32633, or name "
            "them longitude and latitude if they are degrees."
        )
    for other in columns[1:]:
        if not _same(table, (x, y), other):
            raise DataError(
                f"{uri} has columns {x} and {y}, and also {other[0]} and {other[1]}, whose numbers "
                "are others; remove or rename those that are not the place."
            )
    numbers = _numbers(table, x, y, uri)
    if crs is None:
        _check_degrees(numbers, uri)
    elif not degrees and fitting[0] in GEOGRAPHIC and _are_degrees(numbers).all():
        raise DataError(
            f"{uri} has columns {x} and {y} that hold degrees, and [labels] crs says {crs.name}; "
            "remove [labels] crs, or set it to EPSG:4326."
        )
    points = gpd.points_from_xy(numbers[x], numbers[y])
    return gpd.GeoDataFrame(table.replace("", None), geometry=points, crs=crs or DEGREES)


def _no_places(names: Sequence[str], uri: str) -> str:
    if str(names[0]).lower().startswith("sep="):
        return (
            f"{uri} begins with a line {names[0]!r}, which only Excel reads; remove this line, so "
            "that the first one holds the names of the columns."
        )
    return (
        f"{uri} has no geometries, only {', '.join(map(str, names))}; expected "
        "polygons or points in a format OGR reads, a table with columns longitude and latitude "
        "or x and y, or a raster that GDAL reads."
    )


def _geometries(table: pd.DataFrame, name: str, uri: str, crs: CRS | None) -> gpd.GeoDataFrame:
    """Read geometries of WKT, which may begin with an SRID, or of WKB."""
    column = table[name].replace("", None)
    known = column.notna()
    texts: Any = column[known].to_numpy(dtype=object)
    try:
        if known.any() and isinstance(texts[0], bytes):
            shapes = shapely.from_wkb(texts)
        else:
            shapes = shapely.from_wkt([str(text).rpartition(";")[2] for text in texts])
    except (ShapelyError, TypeError) as error:
        raise DataError(
            f"{uri} holds in its column {name} what is no geometry in WKT or WKB: "
            f"{first_line(error)}; correct or remove such rows."
        ) from error
    found = np.full(len(table), None, dtype=object)
    found[known.to_numpy()] = shapes
    rest = table.drop(columns=name).replace("", None)
    return gpd.GeoDataFrame(rest, geometry=found, crs=crs)


def _numbers(table: pd.DataFrame, x: str, y: str, uri: str) -> pd.DataFrame:
    """Read two columns as finite numbers."""
    numbers = table[[x, y]].apply(pd.to_numeric, errors="coerce").astype("float64")
    wrong = ~np.isfinite(numbers).all(axis=1)
    if not wrong.any():
        return numbers
    texts = table.loc[wrong, [x, y]].astype("str")
    first = ", ".join(texts.iloc[0])
    if texts.apply(lambda column: column.str.fullmatch(r"\s*-?\d+,\d+\s*")).any(axis=None):
        raise DataError(
            f"{uri} holds numbers with a decimal comma in {x} or {y}, first in the row of {first}; "
            "write them with a decimal point, and so those of other columns."
        )
    raise DataError(
        f"{uri} lacks a number in {x} or {y} in {wrong.sum()} of its {len(table)} rows, first "
        f"in that of {first}; correct or remove such rows."
    )


def _same(table: pd.DataFrame, one: tuple[str, str], other: tuple[str, str]) -> bool:
    """Tell whether two pairs of columns hold the same; of a name that is there twice none does."""
    a, b = (table[list(pair)].astype("str").to_numpy() for pair in (one, other))
    return a.shape == b.shape == (len(table), 2) and bool((a == b).all())


def _are_degrees(numbers: pd.DataFrame) -> pd.Series:
    return pd.Series((numbers.abs().to_numpy() <= [180, 90]).all(axis=1), numbers.index)


def _check_degrees(numbers: pd.DataFrame, uri: str) -> None:
    beyond = ~_are_degrees(numbers)
    if beyond.any():
        x, y = numbers.columns
        first = numbers[beyond].iloc[0]
        raise DataError(
            f"{uri} holds {x} {first[x]:g}, {y} {first[y]:g}, which are no degrees; correct it, or "
            "set [labels] crs to the CRS of these columns."
        )
