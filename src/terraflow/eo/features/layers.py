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
from rasterio.dtypes import in_dtype_range
from rasterio.enums import ColorInterp, MaskFlags, Resampling
from rasterio.io import DatasetReader
from rasterio.vrt import WarpedVRT

from terraflow.eo.config.addresses import without_query
from terraflow.eo.config.imagery import StaticLayer
from terraflow.eo.features.warp import grid_scale
from terraflow.errors import DataError

__all__ = ["LayerBands", "describe_layers", "read_layer"]

#: A grid whose pixels are so many times as long as a layer's is coarser; less is a distortion
#: between two projections.
COARSER = 1.01


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
        Stored value that is missing.
    masked : bool
        The file has a mask beside its nodata value.
    """

    layer: str
    uri: str
    names: tuple[str, ...]
    bands: tuple[int, ...]
    scales: tuple[float, ...]
    offsets: tuple[float, ...]
    resampling: Resampling
    nodata: float | None
    masked: bool


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
        A file can't be read, has no CRS or not so many bands, or can't hold the nodata value.

    References
    ----------
    https://gdal.org/en/stable/programs/gdalwarp.html#cmdoption-gdalwarp-r
    """
    return [_describe(name, layer, geobox) for name, layer in layers.items()]


def read_layer(layer: LayerBands, geobox: GeoBox) -> dict[str, npt.NDArray[np.float32]]:
    """Read the bands of a layer, warped to a grid.

    Nodata values, masks in or beside the file and an alpha band of 0 are missing, and take no part
    in resampling.

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
        values = _warped(file, layer, geobox, layer.nodata)
        if layer.masked and layer.nodata is not None:  # GDAL heeds one of the two at a time
            values[np.isnan(_warped(file, layer, geobox, None))] = np.nan
    return {
        name: image * np.float32(scale) + np.float32(offset)
        for name, image, scale, offset in zip(
            layer.names, values, layer.scales, layer.offsets, strict=True
        )
    }


def _describe(name: str, layer: StaticLayer, geobox: GeoBox) -> LayerBands:
    with _opened(name, layer.path) as file:
        which = f"Layer {name}, {without_query(layer.path)},"
        if file.crs is None:
            raise DataError(f"{which} has no CRS; add one, as gdal_edit does.")
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
            nodata=_nodata(which, file, layer.nodata),
            masked=MaskFlags.per_dataset in file.mask_flag_enums[0],
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


def _nodata(which: str, file: DatasetReader, configured: float | None) -> float | None:
    dtype = file.dtypes[0]
    if configured is not None:
        if not in_dtype_range(configured, dtype):
            raise DataError(
                f"{which} holds {dtype}, which can't be the nodata {configured:g}; correct nodata "
                "in [features.layers]."
            )
        return configured
    if file.nodata is not None and in_dtype_range(file.nodata, dtype):
        return float(file.nodata)
    unmasked = file.mask_flag_enums[0] == [MaskFlags.all_valid]
    return math.nan if unmasked and np.dtype(dtype).kind == "f" else None


def _warped(
    file: DatasetReader, layer: LayerBands, geobox: GeoBox, nodata: float | None
) -> npt.NDArray[np.float32]:
    """Warp stored values: float32, shape (band, y, x), NaN nodata."""
    scale = grid_scale(GeoBox(file.shape, file.transform, str(file.crs)), geobox)
    with WarpedVRT(
        file,
        crs=str(geobox.crs),
        transform=geobox.affine,
        width=geobox.width,
        height=geobox.height,
        resampling=layer.resampling,
        dtype="float32",
        src_nodata=nodata,
        nodata=np.nan,
        UNIFIED_SRC_NODATA="NO",  # each band has its own, which counts beside an alpha band too
        # else the kernel goes by what is read at once, and values by where a window ends
        **({"XSCALE": scale[0], "YSCALE": scale[1]} if scale else {}),
    ) as warped:
        values: npt.NDArray[np.float32] = warped.read(list(layer.bands))
    return values


@contextmanager
def _opened(name: str, uri: str) -> Iterator[DatasetReader]:
    # a mask beside a local file is found by listing its folder
    options = {} if "://" in uri else {"GDAL_DISABLE_READDIR_ON_OPEN": "FALSE"}
    try:
        with rasterio.Env(**options), rasterio.open(uri) as file:
            yield file
    except (rasterio.errors.RasterioError, OSError) as error:
        raise DataError(
            f"Layer {name} can't be read from {uri}: {error}; correct [features.layers]."
        ) from error
