"""Items to a cube of clear reflectances."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import odc.stac
import pystac
import rasterio
import xarray as xr
from odc.geo.geobox import GeoBox

from terraflow.eo.config.addresses import without_query
from terraflow.eo.config.imagery import CloudMask, Scaling
from terraflow.eo.features.recipe import FeatureRecipe
from terraflow.eo.images.assets import find_images, find_scaling

__all__ = ["clear_pixels", "find_unreadable", "load_clear"]

#: Value of a mask where there is none.
UNSEEN = -1


def load_clear(
    items: Sequence[pystac.Item], recipe: FeatureRecipe, geobox: GeoBox, *, chunk_px: int = 2048
) -> xr.Dataset:
    """Load the bands, scaled, with cloudy pixels and nodata as NaN.

    Parameters
    ----------
    items : sequence of pystac.Item
        With absolute hrefs, in the order of time and id.
    geobox : GeoBox
        The grid, or any part of it; images are warped to it by [grid] resampling, masks by the
        nearest pixel.
    chunk_px : int
        Side of a dask chunk.

    Returns
    -------
    Dataset, lazy on dask
        One variable a band, dims (time, y, x), float32, in the unit that scale and offset lead to
        (reflectance, unitless, nominally 0-1, for Sentinel-2 L2A). The coordinate `observed`, bool,
        tells where there are data, clear or not.

    Raises
    ------
    DataError
        An item lacks a band or the mask.
    """
    bands, mask = recipe.bands, recipe.mask
    find_images(items, recipe.assets)  # says which are missing
    # it logs what it also raises, and whoever catches that says it in a sentence
    logging.getLogger("odc.loader").setLevel(logging.CRITICAL)
    # items may differ in type and nodata, and end inside the grid: all of that becomes NaN
    loaded = _load(
        items,
        list(dict.fromkeys(bands.values())),
        geobox,
        chunk_px,
        resampling=recipe.grid.resampling,
        dtype="float32",
        nodata=float("nan"),
    )
    scaled = {
        name: _scaled(loaded[asset], items, asset, recipe.scaling.get(name, Scaling()))
        for name, asset in bands.items()
    }
    observed = next(iter(scaled.values())).notnull()
    if mask:
        flags = _load(
            items,
            [mask.asset],
            geobox,
            chunk_px,
            resampling="nearest",
            dtype="int32",
            nodata=UNSEEN,
        )[mask.asset]
        observed = observed & (flags != UNSEEN)
        clear = clear_pixels(flags, mask)
        scaled = {name: values.where(clear) for name, values in scaled.items()}
    return xr.Dataset(scaled).assign_coords(observed=observed)


def clear_pixels(mask: xr.DataArray, rule: CloudMask) -> xr.DataArray:
    """Tell clear pixels by a list of codes or by bit flags.

    Parameters
    ----------
    mask : DataArray, shape (time, y, x), integer
        Sentinel-2's scene layer (SCL), Landsat's QA_PIXEL, or a plain mask; -1 is nodata.

    Returns
    -------
    DataArray, shape (time, y, x), bool

    References
    ----------
    Landsat Collection 2 Level-2 Science Product Guide (LSDS-1619), pixel quality assessment band.
    """
    if rule.clear is not None:
        return mask.isin(rule.clear)
    flags = sum(1 << bit for bit in rule.cloudy_bits or [])
    return ((mask & np.int32(flags)) == 0) & (mask != UNSEEN)


def find_unreadable(items: Sequence[pystac.Item], keys: Sequence[str]) -> tuple[str, str] | None:
    """Read the items' images one by one, after loading them together has failed.

    Returns
    -------
    tuple of str or None
        Address and error of the first that can't be read.
    """
    for images in find_images(items, keys):
        for href in (image.href for image in images):
            try:
                with rasterio.open(href) as file:
                    file.checksum(1)
            except (rasterio.errors.RasterioError, OSError) as error:
                return without_query(href), without_query(str(error.__cause__ or error))
    return None


def _load(
    items: Sequence[pystac.Item], assets: list[str], geobox: GeoBox, chunk_px: int, **options: Any
) -> xr.Dataset:
    loaded = odc.stac.load(
        items,
        bands=assets,
        geobox=geobox,
        groupby="id",
        fail_on_error=True,
        chunks={"time": 1, "x": chunk_px, "y": chunk_px},
        **options,
    )
    degrees = {"latitude": "y", "longitude": "x"}
    return loaded.rename({name: to for name, to in degrees.items() if name in loaded.dims})


def _scaled(
    data: xr.DataArray, items: Sequence[pystac.Item], asset: str, over: Scaling
) -> xr.DataArray:
    # groupby="id" gives one time step an item, in the order of time and id
    told = [find_scaling(item, asset) for item in items]
    values = data if over.nodata is None else data.where(data != over.nodata)
    scale = [over.scale if over.scale is not None else item[0] for item in told]
    offset = [over.offset if over.offset is not None else item[1] for item in told]

    def along_time(numbers: list[float | None], default: float) -> xr.DataArray:
        known = np.array([default if n is None else n for n in numbers], "float32")
        return xr.DataArray(known, dims="time", coords={"time": data.time})

    if set(scale) - {None, 1}:
        values = values * along_time(scale, 1)
    return values + along_time(offset, 0) if set(offset) - {None, 0} else values
