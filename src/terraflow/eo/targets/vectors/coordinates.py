"""Where on the earth vector data lie: their CRS, and whether their coordinates can be of it."""

from __future__ import annotations

import math

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import shapely
from odc.geo.geobox import GeoBox
from pyproj import CRS, Transformer
from pyproj.exceptions import ProjError
from shapely.geometry import box

from terraflow.eo.features.grid import crs_name
from terraflow.eo.targets.vectors.purpose import Purpose
from terraflow.errors import ConfigError, DataError, first_line

__all__ = ["in_crs", "placed", "stated_crs"]

DEGREES = "EPSG:4326"
#: Metres, or a share of a degree, below which two CRS give the same place.
SAME_M, SAME_DEG = 5.0, 5e-5


def stated_crs(text: str | None) -> CRS | None:
    """Read [labels] crs.

    Raises
    ------
    ConfigError
        It is not known, or has no place on the earth.
    """
    if text is None:
        return None
    try:
        crs = CRS(text)
    except ProjError as error:
        raise ConfigError(
            f"[labels] crs {text[:60]!r} is not known; write it as EPSG:32633, or as WKT."
        ) from error
    if not _is_placed(crs):
        raise ConfigError(
            f"[labels] crs {crs.name!r} is a local one, which has no place on the earth; write the "
            "one that the coordinates are in, as EPSG:32633."
        )
    return crs


def placed(
    frame: gpd.GeoDataFrame, uri: str, purpose: Purpose, stated: CRS | None = None
) -> gpd.GeoDataFrame:
    """See that geometries have a CRS that their coordinates can be of.

    Parameters
    ----------
    frame : GeoDataFrame
        As it was read.
    uri : str
        Where it comes from, for messages.
    stated : CRS or None
        What the configuration says. It counts where the file tells none, a local one, or degrees
        that are none, as GeoJSON without its member `crs` does of coordinates in metres.

    Returns
    -------
    GeoDataFrame
        With a CRS.

    Raises
    ------
    DataError
        There is no CRS that fits, or two that contradict each other.
    """
    wrong = _what_is_wrong(frame, uri)
    if stated is None:
        if wrong:
            key = f"set {purpose.crs}, or " * bool(purpose.crs)
            raise DataError(
                f"{uri} can't be placed: it {wrong}; {key}write the right one into the file, as "
                "ogr2ogr's -a_srs does."
            )
        return frame
    if not wrong and not _alike(frame, stated):
        raise DataError(
            f"{uri} is in {_name(frame.crs)}, and {purpose.crs} says {_name(stated)}; remove "
            f"{purpose.crs}, or, where the file's is wrong, write the right one into it, as "
            "ogr2ogr's -a_srs does."
        )
    if not wrong:
        return frame
    frame = frame.set_crs(stated, allow_override=True)
    if wrong := _what_is_wrong(frame, uri):
        raise DataError(f"{uri} can't be placed: it {wrong}; correct {purpose.crs}, which says so.")
    return frame


def in_crs(frame: gpd.GeoDataFrame, uri: str, geobox: GeoBox) -> gpd.GeoDataFrame:
    """Bring geometries into the CRS of a grid.

    Of one that reaches where that CRS has no place, the part near the grid is kept.

    Raises
    ------
    DataError
        No way leads from one CRS to the other, or none lies in the images and the cause is seen.
    """
    try:
        moved = frame.to_crs(str(geobox.crs))
    except ProjError as error:
        raise DataError(
            f"{uri} can't be brought from {_name(frame.crs)} to {crs_name(geobox.crs)}, the CRS of "
            f"the images: {first_line(error)}; write the right one into the file, as ogr2ogr's "
            "-a_srs does."
        ) from error
    lost = _finite(frame) & ~_finite(moved)
    if lost.any():
        near = gpd.GeoSeries([_extent(geobox)], crs=str(geobox.crs)).to_crs(frame.crs)
        west, south, east, north = near.total_bounds
        margin = max(east - west, north - south)
        window = box(west - margin, south - margin, east + margin, north + margin)
        parts = frame[lost].make_valid().intersection(window).to_crs(moved.crs)
        moved = moved.set_geometry(moved.geometry.where(~lost, parts))
    if not moved.empty and not moved.intersects(_extent(geobox)).any():
        _explain(frame, uri, geobox)
    return moved


def _explain(frame: gpd.GeoDataFrame, uri: str, geobox: GeoBox) -> None:
    """Raise an error where another reading of the coordinates lies in the images."""
    begin = f"None of the {len(frame)} labelled geometries of {uri} lies in the images, but they do"
    tried = {_name(crs): crs for crs in (frame.crs, CRS(str(geobox.crs)), CRS(DEGREES))}
    for swapped in (False, True):
        for name, crs in tried.items():
            if not _reaches(frame, crs, geobox, swapped=swapped):
                continue
            if not swapped:
                raise DataError(
                    f"{begin} where their coordinates are taken for {name} in place of "
                    f"{_name(frame.crs)}; if they are that, correct [labels] crs where it is set, "
                    "or write it into the file, as ogr2ogr's -a_srs does."
                )
            and_are = "" if crs == frame.crs else f" and are {name}"
            raise DataError(
                f"{begin} where x and y are exchanged{and_are}; "
                "exchange them, as QGIS's Swap X and Y coordinates does, or the names of a table's "
                "columns."
            )


def _reaches(frame: gpd.GeoDataFrame, crs: CRS, geobox: GeoBox, *, swapped: bool) -> bool:
    """Tell whether geometries lie in the images if their coordinates are read in another way."""
    points = frame.geometry[~(frame.geometry.isna() | frame.is_empty)].representative_point()
    xy = shapely.get_coordinates(points.array)[:, :: -1 if swapped else 1]
    if not xy.size or not _are_degrees(xy, crs).all():
        return False
    try:
        to_grid = Transformer.from_crs(crs, CRS(str(geobox.crs)), always_xy=True)
        x, y = to_grid.transform(*xy.T)
    except ProjError:
        return False
    west, south, east, north = geobox.boundingbox.bbox
    return bool(((west <= x) & (x <= east) & (south <= y) & (y <= north)).any())


def _what_is_wrong(frame: gpd.GeoDataFrame, uri: str) -> str:
    """Tell why geometries have no place; "" is right."""
    if frame.crs is None:
        return "has no CRS"
    if not _is_placed(frame.crs):
        return f"is in a local CRS, {frame.crs.name!r}, which has no place on the earth"
    xy = shapely.get_coordinates(frame.geometry.array)
    wrong = ~_are_degrees(xy, frame.crs)
    if not wrong.any():
        return ""
    x, y = xy[wrong][0]
    kind = "GeoJSON without a crs member" if "json" in uri.lower() else _name(frame.crs)
    return f"has coordinates as {x:.10g}, {y:.10g}, which are no degrees, though {kind} means these"


def _are_degrees(xy: npt.NDArray[np.float64], crs: CRS) -> npt.NDArray[np.bool_]:
    """Tell which coordinates can be of a CRS: those of a geographic one are angles.

    Longitudes may run on past 180; coordinates that are no numbers tell nothing.
    """
    if not crs.is_geographic:
        return np.ones(len(xy), dtype=bool)
    quarter = math.pi / 2 / crs.axis_info[0].unit_conversion_factor * (1 + 1e-9)
    within = (np.abs(xy) <= [4 * quarter, quarter]).all(axis=1)
    able: npt.NDArray[np.bool_] = np.asarray(within | ~np.isfinite(xy).all(axis=1))
    return able


def _alike(frame: gpd.GeoDataFrame, stated: CRS) -> bool:
    """Tell whether geometries lie at the same place in their CRS and in another one."""
    bounds = frame.total_bounds
    if not np.isfinite(bounds).all() or frame.crs.equals(stated, ignore_axis_order=True):
        return True
    try:
        to_stated = Transformer.from_crs(frame.crs, stated, always_xy=True)
        x, y = to_stated.transform(bounds[[0, 2]], bounds[[1, 3]])
    except ProjError:
        return False
    near = SAME_DEG if stated.is_geographic else SAME_M
    return bool(np.allclose([*x, *y], bounds[[0, 2, 1, 3]], rtol=0, atol=near))


def _is_placed(crs: CRS) -> bool:
    return bool(crs.is_geographic or crs.is_projected) and not crs.name.startswith("Undefined")


def _finite(frame: gpd.GeoDataFrame) -> npt.NDArray[np.bool_]:
    finite: npt.NDArray[np.bool_] = np.isfinite(frame.bounds.to_numpy()).all(axis=1)
    return finite


def _extent(geobox: GeoBox) -> shapely.Geometry:
    return box(*geobox.boundingbox.bbox)


def _name(crs: CRS) -> str:
    authority = crs.to_authority()
    return ":".join(authority) if authority else crs.name
