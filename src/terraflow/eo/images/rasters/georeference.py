"""Whether a raster lies somewhere on the earth, on a grid, by what its file tells."""

from __future__ import annotations

import math
import shlex
from pathlib import PurePosixPath

from affine import Affine
from pyproj import CRS
from pyproj.exceptions import CRSError
from rasterio._err import CPLE_BaseError  # which rasterio raises of some CRS as it is
from rasterio.errors import RasterioError
from rasterio.io import DatasetReader
from rasterio.warp import transform

from terraflow.eo.config.addresses import without_query
from terraflow.errors import DataError

__all__ = ["check_placed", "check_upright", "straightened"]

#: In pixels, across the image: a smaller rotation is one of rounding.
ROUNDING_PX = 1e-3
#: In degrees: pixels around the poles may reach a little beyond them, and longitudes go on.
FARTHEST = 540.0, 91.0


def check_placed(file: DatasetReader, name: str) -> None:
    """See that a raster has a CRS of places on the earth, and a grid in it.

    Parameters
    ----------
    name : str
        What the raster is, as an error begins.

    Raises
    ------
    DataError
        It has no CRS or a local one, no grid, ground control points or rational polynomials
        instead, or coordinates that its CRS does not have.
    """
    if file.transform.is_identity and file.gcps[0]:
        line = _warp_line(file, f"--dst-crs {_crs_text(file.gcps[1])}")
        raise DataError(
            f"{name} is placed by {len(file.gcps[0])} ground control points, and has no grid; "
            f"warp it with `{line}`, and name the new file in its place."
        )
    if file.transform.is_identity and file.rpcs is not None:
        source, target = _names(file)
        raise DataError(
            f"{name} is placed by rational polynomials (RPC), and has no grid; warp it with "
            f"`gdalwarp -rpc -t_srs EPSG:4326 {source} {target}` of GDAL's own programs, and name "
            "the new file in its place."
        )
    if file.crs is None:
        raise DataError(f"{name} has no CRS; write it into the file with `rio edit-info --crs`.")
    if told := _unplaceable(file):
        raise DataError(
            f"{name} has {told}, which can't be placed on the earth; write the CRS in which its "
            f"coordinates are into the file, as with `rio edit-info --crs EPSG:32633 "
            f"{_names(file)[0]}`."
        )
    if file.transform.is_identity:
        raise DataError(
            f"{name} does not tell its grid; write it into the file with `rio "
            "edit-info --transform`."
        )


def check_upright(file: DatasetReader, name: str) -> None:
    """See that a raster's columns go east and its rows north or south, but for rounding.

    Raises
    ------
    DataError
        Its grid is rotated or mirrored.
    """
    grid = straightened(file)
    if not (grid.b or grid.d or grid.a < 0):
        return
    height, width = math.hypot(grid.b, grid.e), math.hypot(grid.a, grid.d)
    crs = _crs_text(file.crs)
    corners = [grid * (x, y) for x in (0, file.width) for y in (0, file.height)]
    x, y = zip(*corners, strict=True)
    # without the bounds of a mirrored grid `rio warp` keeps it mirrored
    line = _warp_line(
        file,
        f"--dst-crs {crs} --bounds {min(x):.12g} {min(y):.12g} {max(x):.12g} {max(y):.12g} "
        f"--res {width:.12g} --res {height:.12g}",
    )
    raise DataError(
        f"{name} has a rotated or mirrored grid; warp it with `{line}`, and name the new file in "
        "its place."
    )


def straightened(file: DatasetReader) -> Affine:
    """Transform of a raster, without a rotation that moves no pixel by more than rounding."""
    grid: Affine = file.transform
    slant = (
        max(abs(grid.b / grid.a) * file.height, abs(grid.d / grid.e) * file.width)
        if (grid.a and grid.e)
        else math.inf
    )
    return Affine(grid.a, 0, grid.c, 0, grid.e, grid.f) if slant < ROUNDING_PX else grid


def _unplaceable(file: DatasetReader) -> str:
    """Tell why a CRS has no places on the earth, or the raster none in it; "" if all is well."""
    x, y = file.transform * (file.width / 2, file.height / 2)
    try:
        crs = CRS.from_wkt(file.crs.to_wkt())
        if crs.geodetic_crs is None:
            return f"the local CRS {crs.name!r}" if crs.name != "unknown" else "a local CRS"
        if crs.is_geocentric:
            return f"the geocentric CRS {crs.name!r}"
        if crs.is_geographic:
            degrees = math.degrees(crs.axis_info[0].unit_conversion_factor)
            if any(abs(n) * degrees > most for n, most in zip((x, y), FARTHEST, strict=True)):
                return f"coordinates as {x:.0f}, {y:.0f} in the degrees of {crs.name!r}"
        transform(file.crs, "EPSG:4326", [x], [y])
    except (RasterioError, CPLE_BaseError, CRSError):
        return f"the CRS {_short(file)!r}"
    return ""


def _short(file: DatasetReader) -> str:
    text: str = file.crs.to_wkt()
    return text.partition('"')[2].partition('"')[0] or text[:40]


def _crs_text(crs: object) -> str:
    """Write a CRS for a command line: by its code, else whole."""
    return shlex.quote(str(crs))


def _names(file: DatasetReader) -> tuple[str, str]:
    """Name a raster, and one that is made of it, for a command line."""
    source = without_query(file.name)
    stem = PurePosixPath(source).stem
    place = "" if "://" in source else source[: len(source) - len(PurePosixPath(source).name)]
    return shlex.quote(source), shlex.quote(f"{place}{stem}_warped.tif")


def _warp_line(file: DatasetReader, options: str) -> str:
    source, target = _names(file)
    return f"rio warp {source} {target} {options}"
