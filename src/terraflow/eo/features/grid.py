"""The one grid on which everything is computed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pystac
import shapely
from affine import Affine
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox
from odc.geo.geom import BoundingBox
from pyproj import Transformer
from pyproj.exceptions import CRSError
from rasterio.features import rasterize
from rasterio.warp import transform_bounds
from shapely.affinity import translate
from shapely.geometry import box
from shapely.geometry.base import BaseGeometry

from terraflow.console import command
from terraflow.eo.config.imagery import Grid
from terraflow.eo.features.limits.size import check_covered, check_size
from terraflow.eo.features.warp import pixel_size_m
from terraflow.errors import ConfigError, DataError

__all__ = [
    "area_on_grid",
    "centres_inside",
    "crs_name",
    "native_geobox",
    "project_grid",
    "windows",
]

#: In pixels: edges this near to a pixel's edge lie on it.
TOLERANCE_PX = 1e-3
#: Longest straight piece of an outline in degrees: 1.1 km, whose chord in any CRS of the region is
#: off by centimetres.
PIECE_DEG = 0.01
#: Beyond it there is no number of pixels to tell; infinite and undefined places are, too.
FARTHEST_PX = 1e100


def native_geobox(item: pystac.Item, asset: str) -> GeoBox:
    """Grid of an asset from the projection extension.

    Raises
    ------
    DataError
        The item does not tell CRS, transform and shape, or the grid is rotated or south-up.

    References
    ----------
    https://github.com/stac-extensions/projection
    """
    fields: dict[str, Any] = item.properties | item.assets[asset].extra_fields
    crs = fields.get("proj:code") or fields.get("proj:epsg") or fields.get("proj:wkt2")
    transform, shape = fields.get("proj:transform"), fields.get("proj:shape")
    if not (crs and transform and shape):
        raise DataError(
            f"Item {item.id} does not tell the grid of {asset}; its catalogue needs proj:code, "
            f"proj:transform and proj:shape of the STAC projection extension; "
            f"`{command('ingest')}` adds them."
        )
    affine = Affine(*transform[:6])
    if affine.e > 0 or affine.a < 0 or affine.b or affine.d:
        raise DataError(
            f"Item {item.id} has a grid of {asset} that is not north-up ({list(affine)[:6]}); warp "
            "the file, as gdalwarp does."
        )
    return GeoBox(tuple(shape), affine, crs)


def project_grid(items: Sequence[pystac.Item], asset: str, grid: Grid) -> GeoBox:
    """Make the grid that holds all items: the first item's pixels, unless config says others.

    Parameters
    ----------
    items : sequence of pystac.Item
        Each with the projection extension.
    asset : str
        Key of the asset whose grid counts.
    grid : Grid
        CRS and resolution that override the first item's.

    Returns
    -------
    GeoBox
        Its edges are whole pixels away from the first item's corner, or, where CRS or resolution
        are configured, multiples of the resolution.

    Raises
    ------
    DataError
        An item does not tell its grid.
    ConfigError
        The CRS is unknown, of other units than the resolution that is missing, or has the two
        sides of the antimeridian at its two ends where an image lies on both; or the grid has more
        pixels than can be worked on.
    """
    native = native_geobox(items[0], asset)
    if native.crs is None:  # for the type checker: native_geobox has seen to it
        raise DataError(f"Item {items[0].id} has no CRS; add one to the file.")
    crs = _crs(grid.crs) if grid.crs else native.crs
    affine = native.affine
    if grid.resolution or crs != native.crs:
        if not grid.resolution and crs.units != native.crs.units:
            raise ConfigError(
                f"[grid] crs {crs_name(crs)} has other units than the images' "
                f"{crs_name(native.crs)}; set [grid] resolution too."
            )
        step = grid.resolution or abs(native.affine.a)
        affine = Affine(step, 0, 0, 0, -step, 0)
    boxes = dict.fromkeys(native_geobox(item, asset).boundingbox for item in items)
    for each in boxes:
        _check_whole(each, crs)
    corners = [_pixels(each, crs, affine) for each in boxes]
    left, top = min(c[0] for c in corners), min(c[1] for c in corners)
    right, bottom = max(c[2] for c in corners), max(c[3] for c in corners)
    shape = bottom - top, right - left
    of = f"{crs.units[0].partition('_')[0]} ({crs_name(crs)})"  # of "degrees_north"
    check_size(shape, affine.a, of, configured=bool(grid.resolution))
    geobox = GeoBox(shape, affine * Affine.translation(left, top), crs)
    if affine != native.affine:
        areas = (math.prod(pixel_size_m(pixels)) for pixels in (geobox, native))
        check_covered(affine.a, of, *areas)
    return geobox


def area_on_grid(area: BaseGeometry, geobox: GeoBox) -> BaseGeometry:
    """Transform polygons to the CRS of a grid, cut to what lies around it.

    Parameters
    ----------
    area : geometry
        In degrees (EPSG:4326), its edges straight in longitude and latitude, as RFC 7946 means
        them; cut at the antimeridian where it crosses it.

    Returns
    -------
    geometry
        In the CRS of the grid; empty where the area does not reach it.
    """
    crs = str(geobox.crs)
    near = _around(geobox, Transformer.from_crs(crs, "EPSG:4326", always_xy=True))
    if near is not None:
        # the grid may lie on both sides of the antimeridian
        turns = [translate(area, turn) for turn in (-360, 0, 360)]
        area = shapely.union_all([shapely.intersection(turned, near) for turned in turns])
    to_grid = Transformer.from_crs("EPSG:4326", crs, always_xy=True)
    return shapely.transform(
        shapely.segmentize(area, PIECE_DEG),
        lambda places: np.column_stack(to_grid.transform(places[:, 0], places[:, 1])),
    )


def centres_inside(area: BaseGeometry, geobox: GeoBox) -> npt.NDArray[np.bool_]:
    """Tell the pixels whose centre lies in polygons: bool, shape (y, x).

    Parameters
    ----------
    area : geometry
        In the CRS of the grid, as `area_on_grid` gives it.
    """
    near = shapely.intersection(area, box(*geobox.pad(1).boundingbox.bbox))
    if near.is_empty:
        return np.zeros(geobox.shape, bool)
    burnt = rasterize(
        [(near, 1)], out_shape=geobox.shape, transform=geobox.affine, fill=0, dtype="uint8"
    )
    inside: npt.NDArray[np.bool_] = burnt == 1
    return inside


def windows(geobox: GeoBox, side_px: int) -> list[tuple[slice, slice]]:
    """Cut a grid into tiles, row by row: slices of rows and columns."""
    return [
        (slice(y, min(y + side_px, geobox.height)), slice(x, min(x + side_px, geobox.width)))
        for y in range(0, geobox.height, side_px)
        for x in range(0, geobox.width, side_px)
    ]


def crs_name(crs: CRS | None) -> str:
    """Name a CRS by its code, else by its name, never by its whole definition."""
    if crs is None:
        return "no CRS"
    return f"EPSG:{crs.epsg}" if crs.epsg else str(crs.proj.name)


def _check_whole(bounds: BoundingBox, crs: CRS) -> None:
    """See that a box across the antimeridian is one piece in a CRS."""
    if bounds.crs is None or bounds.crs == crs:
        return
    west, south, east, north = transform_bounds(str(bounds.crs), "EPSG:4326", *bounds.bbox)
    if west <= east:
        return
    to_grid = Transformer.from_crs("EPSG:4326", str(crs), always_xy=True)
    middle = (south + north) / 2
    x, _ = to_grid.transform([179.8, 179.9, -179.9], [middle] * 3)
    if abs(x[2] - x[1]) > 100 * abs(x[1] - x[0]):
        raise ConfigError(
            f"[grid] crs {crs_name(crs)} has the two sides of the antimeridian at its two ends, "
            "and images lie on both; leave it out, or set one whose middle is near, as EPSG:3832."
        )


def _around(geobox: GeoBox, to_degrees: Transformer) -> BaseGeometry | None:
    """Box around a grid in degrees, of which longitudes may pass 180; None where it has none."""
    side = max(geobox.shape) * abs(geobox.affine.a)
    edge = shapely.segmentize(box(*geobox.boundingbox.bbox), side / 20)
    x, y = np.array(edge.exterior.coords).T
    longitude, latitude = to_degrees.transform(x, y)
    middle = to_degrees.transform(x.mean(), y.mean())[0]
    longitude = (longitude - middle + 180) % 360 - 180 + middle
    bounds = longitude.min(), latitude.min(), longitude.max(), latitude.max()
    if not all(map(math.isfinite, bounds)) or bounds[2] - bounds[0] > 180:
        return None  # around a pole, or beyond the globe
    return box(*bounds).buffer(0.1)


def _crs(text: str) -> CRS:
    try:
        return CRS(text)
    except CRSError as error:
        raise ConfigError(
            f"[grid] crs {text[:60]!r} is not known; write it as EPSG:32633, or as WKT."
        ) from error


def _pixels(box: BoundingBox, crs: CRS, affine: Affine) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of a box in whole pixels of a grid, outward."""
    west, south, east, north = (box if box.crs == crs else box.to_crs(crs)).bbox
    # not by the inverse, which a tiny pixel has not
    left, right = (west - affine.c) / affine.a, (east - affine.c) / affine.a
    top, bottom = (north - affine.f) / affine.e, (south - affine.f) / affine.e
    if not all(abs(place) < FARTHEST_PX for place in (left, top, right, bottom)):
        raise ConfigError(
            f"An image of the bounds {[round(edge, 6) for edge in box.bbox]} ({crs_name(box.crs)}) "
            f"has no place on a grid of {crs_name(crs)} with pixels of {affine.a:g}; correct "
            "[grid] crs and resolution, or leave them out."
        )
    return (
        math.floor(left + TOLERANCE_PX),
        math.floor(top + TOLERANCE_PX),
        math.ceil(right - TOLERANCE_PX),
        math.ceil(bottom - TOLERANCE_PX),
    )
