"""Geometries as people bring them, made such that each can be laid on a grid."""

from __future__ import annotations

from typing import Any, cast

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import shapely
from shapely import MultiPolygon, Polygon

from terraflow.eo.targets.vectors.account import Accounting
from terraflow.errors import DataError

__all__ = ["NAME", "clean"]

#: Column of what each geometry is counted as.
NAME = "name_"
NO_GEOMETRY, NO_NUMBERS = "no geometry", "coordinates that are no numbers"
LINES, NO_AREA, TWICE = "lines", "no area", "twice the same"

Geometries = npt.NDArray[Any]


def clean(frame: gpd.GeoDataFrame, uri: str, accounting: Accounting) -> gpd.GeoDataFrame:
    """Part geometries of several parts, repair polygons, and leave out what is no label.

    A part counts by itself, so that polygons that were dissolved by class are again as many as
    there are places. Height and measure are left aside. Lines are no labels.

    Parameters
    ----------
    frame : GeoDataFrame
        Geometries of any type, or none, in the grid's CRS; column `NAME`.

    Returns
    -------
    GeoDataFrame
        Valid polygons, of which a repaired one may have several parts, and points, in order.

    Raises
    ------
    DataError
        Nothing is left.
    """
    features, frame = len(frame), _parted(frame)
    accounting.read.update(frame[NAME])
    if len(frame) > features:
        accounting.remarks.append(
            f"{features} features of {uri} have {len(frame)} parts, of which each is a place of "
            "its own."
        )
    frame = _keep(frame, ~(frame.geometry.isna() | frame.is_empty), NO_GEOMETRY, accounting)
    frame = _keep(frame, np.isfinite(frame.bounds).all(axis=1), NO_NUMBERS, accounting)
    areal = frame.geom_type == "Polygon"
    lines = ~areal & (frame.geom_type != "Point")
    if lines.any():
        accounting.remarks.append(
            f"{lines.sum()} lines of {uri} are left out, since they cover no pixel; buffer them "
            "to make polygons of them."
        )
    frame = _keep(frame, ~lines, LINES, accounting)
    wrong = ~frame.is_valid
    geometry = np.asarray(frame.geometry.array).copy()
    geometry[wrong] = [repaired(polygon) for polygon in geometry[wrong]]
    frame = frame.set_geometry(gpd.GeoSeries(geometry, frame.index, crs=frame.crs))
    whole = ~frame.is_empty
    accounting.repaired.update(frame.loc[wrong & whole, NAME])
    frame = _keep(frame, whole, NO_AREA, accounting)
    alike = gpd.GeoDataFrame(
        {"shape": shapely.to_wkb(shapely.normalize(frame.geometry.array)), NAME: frame[NAME]}
    )
    frame = _keep(frame, ~alike.duplicated(), TWICE, accounting)
    if frame.empty:
        raise DataError(
            f"No polygon or point of {uri} is left ({accounting.reasons}); expected polygons or "
            "points; repair them as QGIS's Fix geometries does, and buffer lines."
        )
    return frame.reset_index(drop=True)


def repaired(polygon: Polygon) -> Polygon | MultiPolygon:
    """Make a polygon valid: what its outer ring encloses, less what its inner rings do.

    Both loops of a ring that crosses itself are kept, spikes and rings that are there twice are
    not, and an inner ring outside of the outer one takes nothing away; GEOS's own method for
    polygons would make land of it. Empty where no area is left.

    References
    ----------
    https://libgeos.org/doxygen/classgeos_1_1operation_1_1valid_1_1MakeValid.html
    """
    outer = _areal(Polygon(polygon.exterior))
    inner = shapely.union_all([_areal(Polygon(ring)) for ring in polygon.interiors])
    found = outer if shapely.is_empty(inner) else outer.difference(inner)
    return cast("Polygon | MultiPolygon", _areal(found))


def _areal(geometry: Any) -> Any:
    """Give the parts that have an area, made valid."""
    valid = shapely.make_valid(geometry, method="structure", keep_collapsed=False)
    parts = [part for part in _parts(valid) if part.geom_type == "Polygon" and part.area > 0]
    return parts[0] if len(parts) == 1 else MultiPolygon(parts)


def _parts(geometry: Any) -> list[Any]:
    """List the parts of a geometry, also of collections in collections."""
    if not hasattr(geometry, "geoms"):
        return [geometry]
    return [part for each in geometry.geoms for part in _parts(each)]


def _parted(frame: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    """Make a row of each part; what has none keeps its row."""
    geometry = np.asarray(shapely.force_2d(frame.geometry.array))
    kinds = shapely.get_type_id(geometry)
    several = np.isin(kinds, [4, 5, 6, 7])  # multi-points, -lines and -polygons, collections
    several &= ~shapely.is_empty(geometry)
    parts = [_parts(each) if many else [each] for each, many in zip(geometry, several, strict=True)]
    rows = np.repeat(np.arange(len(frame)), [len(each) for each in parts])
    found = np.empty(len(rows), dtype=object)
    found[:] = [part for each in parts for part in each]
    attributes = frame.drop(columns=frame.geometry.name).iloc[rows].reset_index(drop=True)
    return gpd.GeoDataFrame(attributes, geometry=found, crs=frame.crs)


def _keep(
    frame: gpd.GeoDataFrame, kept: Any, reason: str, accounting: Accounting
) -> gpd.GeoDataFrame:
    kept = np.asarray(kept, dtype=bool)
    accounting.drop(reason, frame.loc[~kept, NAME])
    return frame[kept]
