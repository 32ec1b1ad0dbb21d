"""Rasters that do not change in time, as features: elevation, soil, embeddings."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import rasterio
from odc.geo.geobox import GeoBox
from rasterio._err import CPLE_BaseError  # which rasterio raises of some files as it is
from rasterio.enums import ColorInterp, Resampling
from rasterio.io import DatasetReader
from rasterio.windows import Window

from terraflow.eo.config.addresses import without_query
from terraflow.eo.config.imagery import StaticLayer
from terraflow.eo.features.warp import Warp
from terraflow.eo.images.rasters.georeference import check_placed
from terraflow.eo.images.rasters.validity import Validity
from terraflow.errors import DataError

__all__ = ["LayerBands", "describe_layers", "read_layer"]

#: A grid whose pixels are so many times as long as a layer's is coarser; less is a distortion
#: between two projections.
COARSER = 1.01
#: So many of a layer's own pixels are in memory at a time, or what one pixel of the grid covers.
MOST_PX = 4096**2


@dataclass(frozen=True)
class LayerBands:
    """What is read of one layer, and how.

    Attributes
    ----------
    layer, uri : str
        Its name in the configuration, and its address.
    names : tuple of str
        The feature of each band.
    bands : tuple of int
        Numbers in the file, from 1.
    scales, offsets : tuple of float
        Of each band: physical value = stored value * scale + offset.
    resampling : Resampling
    nodata : float or None
        Stored value that is missing, beside what the file tells.
    """

    layer: str
    uri: str
    names: tuple[str, ...]
    bands: tuple[int, ...]
    scales: tuple[float, ...]
    offsets: tuple[float, ...]
    resampling: Resampling
    nodata: float | None


def describe_layers(layers: Mapping[str, StaticLayer], geobox: GeoBox) -> list[LayerBands]:
    """Look into the files of the configured layers.

    Where the configuration does not name a resampling, no value is made that could be a wrong code:
    integers without scale and offset take the nearest pixel. Other numbers are averaged where the
    grid is coarser than the layer, and interpolated bilinearly elsewhere.

    A layer of one band gives a feature of its own name; of several bands, features "name_band", by
    the bands' descriptions where the file has one for each, or else by their numbers.

    Parameters
    ----------
    geobox : GeoBox
        Grid of the whole area, so that all windows are resampled alike.

    Returns
    -------
    list of LayerBands

    Raises
    ------
    DataError
        A file can't be read or placed, has complex numbers or not so many bands, or can't hold the
        nodata value.

    References
    ----------
    https://gdal.org/en/stable/programs/gdalwarp.html#cmdoption-gdalwarp-r
    """
    return [_describe(name, layer, geobox) for name, layer in layers.items()]


def read_layer(layer: LayerBands, geobox: GeoBox) -> dict[str, npt.NDArray[np.float32]]:
    """Read the bands of a layer, warped to a grid.

    Nodata values, what a mask in or beside the file or an alpha band hides, and what is not finite
    are missing, and take no part in resampling.

    Parameters
    ----------
    geobox : GeoBox
        The grid, or any part of it.

    Returns
    -------
    dict
        Name of a feature to ndarray, shape (y, x), float32, in physical values, NaN nodata.

    Raises
    ------
    DataError
        The file can't be read.
    """
    with _opened(layer.layer, layer.uri) as file:
        values = _warped(file, layer, geobox)
    with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is no value
        for image, scale, offset in zip(values, layer.scales, layer.offsets, strict=True):
            image[:] = image * np.float32(scale) + np.float32(offset)
    values[~np.isfinite(values)] = np.nan
    return dict(zip(layer.names, values, strict=True))


def _describe(name: str, layer: StaticLayer, geobox: GeoBox) -> LayerBands:
    with _opened(name, layer.path) as file:
        which = f"Layer {name}, {without_query(layer.path)},"
        check_placed(file, which)
        bands = layer.bands or [
            number
            for number, meaning in enumerate(file.colorinterp, start=1)
            if meaning != ColorInterp.alpha
        ]
        if max(bands, default=0) > file.count:
            raise DataError(
                f"{which} has {file.count} band{'s' if file.count > 1 else ''}, not {max(bands)}; "
                "correct bands in [features.layers]."
            )
        scales = [file.scales[b - 1] if layer.scale is None else layer.scale for b in bands]
        offsets = [file.offsets[b - 1] if layer.offset is None else layer.offset for b in bands]
        plain = any(
            np.dtype(file.dtypes[band - 1]).kind in "iu" and scale == 1 and offset == 0
            for band, scale, offset in zip(bands, scales, offsets, strict=True)
        )
        return LayerBands(
            layer=name,
            uri=layer.path,
            names=tuple(_names(name, file, bands)),
            bands=tuple(bands),
            scales=tuple(scales),
            offsets=tuple(offsets),
            resampling=Resampling[layer.resampling or _default_resampling(file, geobox, plain)],
            nodata=_nodata(which, file, bands, layer.nodata),
        )


def _names(name: str, file: DatasetReader, bands: Sequence[int]) -> list[str]:
    if len(bands) == 1:
        return [name]
    told = [re.sub(r"\W+", "_", file.descriptions[b - 1] or "").strip("_") for b in bands]
    if not all(told) or len(set(told)) < len(told):
        told = [str(band) for band in bands]
    return [f"{name}_{band}" for band in told]


def _default_resampling(file: DatasetReader, geobox: GeoBox, plain: bool) -> str:
    """Choose by the layer's kind, and by the length of the grid's middle pixel in the layer's."""
    if plain:
        return "nearest"
    y, x = geobox.height // 2, geobox.width // 2
    pixel = geobox[y : y + 1, x : x + 1].extent.to_crs(file.crs.to_wkt())
    length = math.sqrt(pixel.area / abs(file.transform.determinant))
    return "average" if length > COARSER else "bilinear"


def _nodata(
    which: str, file: DatasetReader, bands: Sequence[int], configured: float | None
) -> float | None:
    held = [Validity.of(file, band, [configured]).left_aside for band in bands]
    if configured is not None and all(configured in aside for aside in held):
        raise DataError(
            f"{which} holds {file.dtypes[bands[0] - 1]}, which can't be the nodata "
            f"{configured:g}; correct nodata in [features.layers]."
        )
    return configured


def _warped(file: DatasetReader, layer: LayerBands, geobox: GeoBox) -> npt.NDArray[np.float32]:
    """Warp stored values: float32, shape (band, y, x), NaN nodata."""
    image = GeoBox(file.shape, file.transform, str(file.crs))
    warp = Warp.plan(image, geobox, layer.resampling.name)
    if warp is None:
        return np.full((len(layer.bands), *geobox.shape), np.nan, "float32")
    if warp.tile.width * warp.tile.height > MOST_PX and max(geobox.shape) > 1:
        axis = int(geobox.width > geobox.height)
        half = geobox.shape[axis] // 2
        parts = [geobox[:, :half], geobox[:, half:]] if axis else [geobox[:half], geobox[half:]]
        return np.concatenate([_warped(file, layer, part) for part in parts], axis=axis + 1)
    return np.stack(
        [warp.resample(_read(file, band, layer.nodata, image, warp.tile)) for band in layer.bands]
    )


def _read(
    file: DatasetReader, band: int, nodata: float | None, image: GeoBox, tile: GeoBox
) -> npt.NDArray[np.float32]:
    """Read stored values of a tile, which may reach beyond the image: float32, NaN nodata."""
    column, row = (round(place) for place in ~image.affine * (tile.affine.c, tile.affine.f))
    left, top = max(column, 0), max(row, 0)
    right, bottom = min(column + tile.width, image.width), min(row + tile.height, image.height)
    window = Window(left, top, right - left, bottom - top)
    data = file.read(band, window=window)
    missing = Validity.of(file, band, [nodata]).missing(file, data, window)
    values = np.full(tile.shape, np.nan, "float32")
    with np.errstate(over="ignore"):
        values[top - row : bottom - row, left - column : right - column] = np.where(
            missing, np.nan, data
        )
    return values


@contextmanager
def _opened(name: str, uri: str) -> Iterator[DatasetReader]:
    # a mask beside a local file is found by listing its folder
    options = {} if "://" in uri else {"GDAL_DISABLE_READDIR_ON_OPEN": "FALSE"}
    try:
        with rasterio.Env(**options), rasterio.open(uri) as file:
            yield file
    except (rasterio.errors.RasterioError, CPLE_BaseError, OSError) as error:
        raise DataError(
            f"Layer {name} can't be read from {uri}: {error}; correct [features.layers]."
        ) from error
