"""Where geometries lie: the CRS of their file, checked against their coordinates."""

from __future__ import annotations

import geopandas as gpd
import numpy as np
from odc.geo.geobox import GeoBox
from pyproj import CRS
from pyproj.exceptions import CRSError, ProjError

from terraflow.errors import DataError

__all__ = ["check_placed", "to_grid"]

#: In degrees: an area across the antimeridian may run on past 180; rounding past a pole is none.
MOST_DEGREES = (360.0, 90.0 + 1e-6)
WRITE_CRS = (
    "write the right one into the file, as `ogr2ogr -a_srs EPSG:32633 new.gpkg old.gpkg` or QGIS's "
    "export as GeoPackage does"
)


def check_placed(
    frame: gpd.GeoDataFrame, uri: str, stated: CRS | None, key: str = "[labels] crs"
) -> gpd.GeoDataFrame:
    """See that geometries have a CRS that their coordinates can be of.

    Parameters
    ----------
    stated : CRS or None
        What the configuration says; it is taken where the file tells none, or one that can't be.

    Raises
    ------
    DataError
        There is no CRS, it is a local one, its coordinates can't be of it, or the configuration
        says another one.
    """
    told = _told(frame)
    impossible = told is not None and told.is_geographic and _beyond_degrees(frame)
    if told is None or impossible or _is_local(told):
        if stated is None:
            raise DataError(_unplaced(frame, uri, told, key))
        frame = frame.set_crs(stated, allow_override=True)
        if stated.is_geographic and _beyond_degrees(frame):
            raise DataError(
                f"{uri} holds coordinates as {_farthest(frame)}, which are no degrees, and {key} "
                f"says {stated.name}; correct it."
            )
    elif stated is not None and not _same(told, stated):
        raise DataError(
            f"{uri} says that its CRS is {told.name}, and {key} says {stated.name}; remove the "
            "key, which is for files that tell none, or correct the file."
        )
    return frame


def to_grid(frame: gpd.GeoDataFrame, uri: str, geobox: GeoBox) -> gpd.GeoDataFrame:
    """Bring geometries to the CRS of a grid.

    Raises
    ------
    DataError
        There is no way from their CRS to the grid's.
    """
    try:
        return frame.to_crs(str(geobox.crs))
    except (CRSError, ProjError, ValueError) as error:
        raise DataError(
            f"{uri} can't be brought from its CRS {frame.crs.name} to that of the images: "
            f"{str(error).splitlines()[0]}; {WRITE_CRS}."
        ) from error


def _told(frame: gpd.GeoDataFrame) -> CRS | None:
    """Give the file's CRS; GeoPackages and others call it undefined where there is none."""
    crs: CRS | None = frame.crs
    return None if crs is None or crs.name.lower().startswith(("undefined", "unknown")) else crs


def _is_local(crs: CRS) -> bool:
    return "engineering" in crs.type_name.lower()


def _beyond_degrees(frame: gpd.GeoDataFrame) -> bool:
    bounds = frame.total_bounds
    if not np.isfinite(bounds).any():
        return False
    most = np.nanmax(np.abs(bounds.reshape(2, 2)), axis=0)
    return bool((most > MOST_DEGREES).any())


def _farthest(frame: gpd.GeoDataFrame) -> str:
    x, y = frame.total_bounds[2:]
    return f"{x:.10g}, {y:.10g}"


def _unplaced(frame: gpd.GeoDataFrame, uri: str, told: CRS | None, key: str) -> str:
    set_key = f', or set {key}, as "EPSG:32633"' if key else ""
    if told is None:
        return f"{uri} has no CRS; add one to the file, as ogr2ogr's -a_srs does{set_key}."
    if told.is_geographic:
        return (
            f"{uri} holds coordinates as {_farthest(frame)}, which are no degrees, though its CRS "
            f"is {told.name}, which a GeoJSON without a CRS always means; {WRITE_CRS}{set_key}."
        )
    return (
        f"{uri} has a local CRS, {told.name!r}, which has no place on Earth; {WRITE_CRS}{set_key}."
    )


def _same(one: CRS, other: CRS) -> bool:
    return bool(one.equals(other, ignore_axis_order=True)) or (
        one.to_epsg() is not None and one.to_epsg() == other.to_epsg()
    )
