"""One image's window over the area: written as a cloud-optimised GeoTIFF, described for STAC."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pystac
import rasterio
import rasterio.shutil
from affine import Affine
from rasterio._err import CPLE_BaseError  # of which some writing errors are
from rasterio.errors import RasterioError
from rasterio.io import DatasetReader
from rasterio.warp import transform_bounds
from rasterio.windows import Window

from terraflow.disks.space import check_room
from terraflow.eo.config.addresses import without_query
from terraflow.eo.config.bounds import Bounds, overlap
from terraflow.eo.images.assets import NODATA, Image
from terraflow.eo.images.rasters.filling import Filling
from terraflow.eo.images.rasters.georeference import check_placed, check_upright, straightened
from terraflow.eo.images.rasters.validity import Validity, is_marked
from terraflow.errors import DataError, StorageError

__all__ = [
    "UnreadableError",
    "describe",
    "read_bounds",
    "reading",
    "write_clip",
]

#: Rows read at a time, and their bytes at most, so that memory does not grow with the scene.
STRIP_PX, STRIP_BYTES = 1024, 128 * 1024**2
ROUNDING_PX = 1e-4
#: Metadata item of a copy of codes: the values that its source has as nodata.
CODES_NODATA = "TERRAFLOW_NODATA"


class UnreadableError(Exception):
    """A try to read an image has failed."""


@contextmanager
def reading() -> Iterator[None]:
    """Turn GDAL's errors into `UnreadableError`."""
    try:
        yield
    except (RasterioError, OSError) as error:
        text = str(error.__cause__ or error)
        raise UnreadableError(without_query(text).rstrip(".")) from None


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except (RasterioError, CPLE_BaseError) as error:
        raise StorageError(
            f"A copy can't be written in {folder} ({error.__cause__ or error}); free space there "
            "and run it again: what is copied is kept."
        ) from error


def write_clip(
    file: DatasetReader,
    image: Image,
    bounds: Bounds | None,
    cog: Path,
    stopped: Callable[[], bool] = bool,
) -> list[str] | None:
    """Write the window of an image that covers the bounds: its own pixels and grid, north up.

    What tells of pixels that they are no values, be it a nodata value of the file or the item, a
    mask, an alpha band or that a float is not finite, becomes the one nodata value of the copy:
    NaN of floats; of integers the first that is told, or else, where a mask hides pixels, the least
    of the next wider type. Codes of a cloud mask stay as they are, also those that are nodata,
    which the field "terraflow:nodata" lists: the rule of the mask may count them.

    Parameters
    ----------
    file : DatasetReader
        The image.
    image : Image
        Which band, scale and offset that go before the file's own, and nodata beside the file's.
    bounds : tuple of float or None
        West, south, east, north in degrees (EPSG:4326), west greater than east across the
        antimeridian; their box in the image's CRS is snapped outward to whole pixels. None takes
        all.
    cog : Path
        Single-band COG to write; same input, same bytes.
    stopped : callable
        Asked between strips of rows.

    Returns
    -------
    list of str or None
        What is remarkable about its nodata, in words; None, and nothing written, where the image
        does not reach the bounds.

    Raises
    ------
    UnreadableError
        The image's pixels can't be read.
    DataError
        It can't be placed, has a rotated or mirrored grid, complex numbers, or not so many bands.
    StorageError
        The disk has no room for it.
    """
    _check(file, image)
    window = _window(file, bounds)
    if window is None:
        return None
    validity = Validity.of(file, image.band, [image.nodata])
    filling = Filling.of(file, validity, codes=image.codes)
    check_room(
        cog.parent,
        window.height * window.width * filling.dtype.itemsize,
        f"A copy of {image.key} of item {image.item}, {window.height} x {window.width} pixels,",
        "make [data] area smaller",
    )
    strip_px = max(1, min(STRIP_PX, STRIP_BYTES // (window.width * filling.dtype.itemsize)))
    with _writing(cog.parent):
        raw = cog.with_suffix(".raw.tif")
        with rasterio.open(raw, "w", **_profile(file, window, filling)) as copy:
            copy.scales, copy.offsets = _scaling(file, image)
            if image.codes and validity.nodata:
                copy.update_tags(**{CODES_NODATA: json.dumps(validity.nodata)})
            for top in range(0, window.height, strip_px):
                if stopped():
                    raise UnreadableError("it was stopped")
                rows = min(strip_px, window.height - top)
                first = window.height - top - rows if _south_up(file) else top
                part = Window(window.col_off, window.row_off + first, window.width, rows)
                with reading():
                    data = filling.read(file, part)
                if _south_up(file):
                    data = data[::-1]
                copy.write(data, 1, window=Window(0, top, window.width, rows))
        rasterio.shutil.copy(
            raw,
            cog,
            driver="COG",
            compress="DEFLATE",
            predictor="YES",
            num_threads=1,
            overviews="NONE",  # whoever warps to a coarser grid would read one instead of pixels
        )
        raw.unlink()
    return _remarks(validity, image, file)


def read_bounds(file: DatasetReader) -> Bounds:
    """Bounds of an image: west, south, east, north in degrees (EPSG:4326).

    West is greater than east where it crosses the antimeridian.
    """
    left, bottom, right, top = file.bounds
    bottom, top = min(bottom, top), max(bottom, top)  # the first row may be the southernmost
    west, south, east, north = transform_bounds(file.crs, "EPSG:4326", left, bottom, right, top)
    if not all(map(math.isfinite, (west, south, east, north))):
        return -180.0, -90.0, 180.0, 90.0  # corners off the globe, as in some sinusoidal tiles
    south, north = max(south, -90.0), min(north, 90.0)  # pixels around a pole reach beyond it
    if east - west >= 360:
        return -180.0, south, 180.0, north
    # in degrees an image may run on past 180
    turns = [longitude - 360 if longitude > 180 else longitude for longitude in (west, east)]
    return turns[0], south, turns[1], north


def describe(cog: Path, uri: str) -> tuple[pystac.Asset, Bounds]:
    """Tell a copy's grid, values and checksum by the projection, raster and file extensions.

    Returns
    -------
    asset : pystac.Asset
        At `uri`.
    bounds : tuple of float
        West, south, east, north in degrees (EPSG:4326).

    References
    ----------
    https://github.com/stac-extensions/projection, https://github.com/stac-extensions/raster,
    https://github.com/stac-extensions/file
    """
    with cog.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    with rasterio.open(cog) as file:
        code = file.crs.to_epsg(confidence_threshold=100)
        band: dict[str, Any] = {
            "data_type": file.dtypes[0],
            "scale": file.scales[0],
            "offset": file.offsets[0],
        }
        if file.nodata is not None:
            band["nodata"] = file.nodata if math.isfinite(file.nodata) else str(file.nodata)
        fields: dict[str, Any] = {
            "proj:code": f"EPSG:{code}" if code else None,
            "proj:transform": list(file.transform)[:6],
            "proj:shape": [file.height, file.width],
            "raster:bands": [band],
            "file:checksum": f"1220{digest}",  # a multihash: sha2-256 of 32 bytes
            "file:size": cog.stat().st_size,
        }
        if told := file.tags().get(CODES_NODATA):
            fields[NODATA] = json.loads(told, parse_constant=str)
        if code is None:
            fields["proj:wkt2"] = file.crs.to_wkt(version="WKT2_2019")
        bounds = read_bounds(file)
    asset = pystac.Asset(uri, media_type=pystac.MediaType.COG, roles=["data"], extra_fields=fields)
    return asset, bounds


def _check(file: DatasetReader, image: Image) -> None:
    name = f"Asset {image.key} of item {image.item} ({without_query(image.href)})"
    if file.count < image.band:
        raise DataError(
            f"{name} has {file.count} bands, not {image.band}; correct [data.bands] or "
            "[cloud_mask]."
        )
    check_placed(file, name)
    check_upright(file, name)


def _south_up(file: DatasetReader) -> bool:
    """Tell whether the first row is the southernmost."""
    return bool(file.transform.e > 0)


def _window(file: DatasetReader, bounds: Bounds | None) -> Window | None:
    """Window of the pixels that bounds in degrees touch; None if there is none."""
    if bounds is None:
        return Window(0, 0, file.width, file.height)
    # together first, in degrees: far from its centre a projection has no sound coordinates
    common = overlap(read_bounds(file), bounds)
    if common is None:
        return None
    west, south, east, north = transform_bounds("EPSG:4326", file.crs, *common, densify_pts=21)
    corners = [~straightened(file) * corner for corner in ((west, north), (east, south))]
    if not all(math.isfinite(number) for corner in corners for number in corner):
        return None
    columns, rows = zip(*corners, strict=True)
    left, right = _snap(columns, file.width)
    top, bottom = _snap(rows, file.height)
    return Window(left, top, right - left, bottom - top) if left < right and top < bottom else None


def _snap(ends: Sequence[float], size: int) -> tuple[int, int]:
    """Whole pixels outward, unless an end is off a pixel's edge by rounding only."""
    first, last = math.floor(min(ends) + ROUNDING_PX), math.ceil(max(ends) - ROUNDING_PX)
    return max(first, 0), min(last, size)


def _remarks(validity: Validity, image: Image, file: DatasetReader) -> list[str]:
    """Tell what of the nodata is left aside, and where item and file tell different values."""
    dtype = file.dtypes[image.band - 1]
    remarks = [
        f"nodata {value:g} is that of no pixel, since {dtype} can't hold it"
        for value in validity.left_aside
    ]
    if len(validity.nodata) > 1:
        item, own = validity.nodata
        if not is_marked(np.array([own], dtype), [item]).all():
            remarks.append(f"nodata {item:g} by the item and {own:g} by the file both count")
    return remarks


def _profile(file: DatasetReader, window: Window, filling: Filling) -> dict[str, Any]:
    transform = straightened(file) * Affine.translation(window.col_off, window.row_off)
    if _south_up(file):
        transform = transform * Affine(1, 0, 0, 0, -1, window.height)
    return {
        "driver": "GTiff",
        "count": 1,
        "dtype": filling.dtype.name,
        "nodata": filling.nodata,
        "crs": file.crs,
        "width": window.width,
        "height": window.height,
        "transform": transform,
        "tiled": True,
        "blockxsize": 512,
        "blockysize": 512,
        "bigtiff": "IF_SAFER",
    }


def _scaling(file: DatasetReader, image: Image) -> tuple[tuple[float], tuple[float]]:
    if image.scale is None or image.offset is None:
        return (file.scales[image.band - 1],), (file.offsets[image.band - 1],)
    return (image.scale,), (image.offset,)
