"""Items to a cube of clear reflectances."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import odc.stac
import pystac
import rasterio
import xarray as xr
from odc.geo.geobox import GeoBox
from odc.geo.xr import xr_coords
from scipy.ndimage import distance_transform_edt

from terraflow.eo.config.addresses import without_query
from terraflow.eo.config.imagery import CloudMask, Scaling
from terraflow.eo.features.grid import native_geobox
from terraflow.eo.features.recipe import FeatureRecipe
from terraflow.eo.features.time.composites import first_clear
from terraflow.eo.features.warp import Warp, is_finer, on_one_lattice, pixel_size_m
from terraflow.eo.images.assets import find_images, find_scaling
from terraflow.eo.images.sources.local_files import UNDATED
from terraflow.eo.images.sources.solar_days import item_time, solar_days

__all__ = ["clear_pixels", "find_unreadable", "load_clear", "observation_times"]

#: Value of a mask where there is none.
UNSEEN = -1
#: By so much at most are metres on the ground longer than UTM's: 30 m are three pixels of 10 m.
UTM_STRETCH = 1.001
#: So many of the images' own pixels of each band are in memory at a time, or one image's.
OWN_PX = 2048**2
#: Side of a dask chunk.
CHUNK_PX = 2048

Images = npt.NDArray[np.float32]
Masks = npt.NDArray[np.bool_]


def load_clear(items: Sequence[pystac.Item], recipe: FeatureRecipe, geobox: GeoBox) -> xr.Dataset:
    """Load the bands, scaled, with cloudy pixels and nodata as NaN.

    Clouds and nodata are left out on each image's own pixels, before these are warped: a mask of
    larger pixels by its nearest, and of smaller ones by any that is not clear. Where several items
    show one day by the sun, the first clear one counts, of the newest processing baseline first.

    Parameters
    ----------
    items : sequence of pystac.Item
        With absolute hrefs, in the order of time and id, and with the projection extension.
    geobox : GeoBox
        The grid, or any part of it; images are warped to it by [grid] resampling.

    Returns
    -------
    Dataset
        One variable a band, dims (time, y, x), one time a solar day, float32, in the unit that
        scale and offset lead to (reflectance, unitless, nominally 0-1, for Sentinel-2 L2A). The
        coordinate `observed`, bool, tells where there are data, clear or not.

    Raises
    ------
    DataError
        An item lacks a band or the mask, or does not tell its grid.
    """
    find_images(items, recipe.assets)  # says which are missing
    # it logs what it also raises, and whoever catches that says it in a sentence
    logging.getLogger("odc.loader").setLevel(logging.CRITICAL)
    shape = (len(items), *geobox.shape)
    first = next(iter(recipe.bands))
    found: dict[str, Images] = {}
    observed = np.zeros(shape, bool)
    for (image, names), indices in _group_by_grid(items, recipe, geobox).items():
        members = [items[i] for i in indices]
        if on_one_lattice(image, geobox):
            values, seen = _load_masked(members, names, recipe, geobox)
        elif warp := Warp.plan(image, geobox, recipe.grid.resampling):
            values, seen = _warp_all(members, names, recipe, warp)
        else:
            continue
        for name in names:
            if len(members) == len(items):
                found[name] = values.pop(name)
                continue
            found.setdefault(name, np.full(shape, np.nan, "float32"))[indices] = values.pop(name)
        if first in names:
            observed[indices] = seen
    for name in recipe.bands:
        found.setdefault(name, np.full(shape, np.nan, "float32"))
    days = solar_days(items, undated=UNDATED)
    if len(days) < len(items):
        found = dict(zip(found, first_clear(list(found.values()), days), strict=True))
        observed = np.stack([observed[day].any(axis=0) for day in days])
    dims = ("time", "y", "x")
    return xr.Dataset(
        {name: (dims, found[name]) for name in recipe.bands},
        coords={
            "time": observation_times(items),
            **xr_coords(geobox, dims=("y", "x")),
            "observed": (dims, observed),
        },
    )


def observation_times(items: Sequence[pystac.Item]) -> npt.NDArray[np.datetime64]:
    """Tell the time of each solar day's first item: datetime64[ns], shape (time,)."""
    firsts = [item_time(items[min(day)]) for day in solar_days(items, undated=UNDATED)]
    return np.array([time.replace(tzinfo=None) for time in firsts], "datetime64[ns]")


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


def _group_by_grid(
    items: Sequence[pystac.Item], recipe: FeatureRecipe, geobox: GeoBox
) -> dict[tuple[GeoBox, tuple[str, ...]], list[int]]:
    """Group items by grids and the bands that are on them, of which all is read at once.

    What has the pixels of `geobox` is on that, whatever the extent of its image.
    """
    groups: dict[tuple[GeoBox, tuple[str, ...]], list[int]] = {}
    for index, item in enumerate(items):
        grids: dict[GeoBox, list[str]] = {}
        for name, asset in recipe.bands.items():
            image = native_geobox(item, asset)
            here = geobox if on_one_lattice(image, geobox) else image
            grids.setdefault(here, []).append(name)
        for image, names in grids.items():
            groups.setdefault((image, tuple(names)), []).append(index)
    return groups


def _warp_all(
    items: Sequence[pystac.Item], names: Sequence[str], recipe: FeatureRecipe, warp: Warp
) -> tuple[dict[str, Images], Masks]:
    """Load items some at a time, whose own pixels may be many more than those of the grid."""
    shape = (len(items), *warp.geobox.shape)
    warped = {name: np.empty(shape, "float32") for name in names}
    observed = np.empty(shape, bool)
    step = max(1, OWN_PX // (warp.tile.width * warp.tile.height))
    for start in range(0, len(items), step):
        values, seen = _load_masked(items[start : start + step], names, recipe, warp.tile)
        for index, known in enumerate(seen, start=start):
            observed[index] = warp.covered(known)
            for name in names:
                warped[name][index] = warp.apply(values[name][index - start])
    return warped, observed


def _load_masked(
    items: Sequence[pystac.Item], names: Sequence[str], recipe: FeatureRecipe, tile: GeoBox
) -> tuple[dict[str, Images], Masks]:
    """Load bands on their own pixels, (time, y, x) of `tile`; tell where the first has data."""
    bands = {name: recipe.bands[name] for name in names}
    # items may differ in type and nodata, and end inside the grid: all of that becomes NaN
    loaded = _load(
        items, list(dict.fromkeys(bands.values())), tile, dtype="float32", nodata=float("nan")
    )
    scaled = xr.Dataset(
        {
            name: _scaled(loaded[asset], items, asset, recipe.scaling.get(name, Scaling()))
            for name, asset in bands.items()
        }
    )
    observed = scaled[names[0]].notnull().data
    if recipe.mask:
        clear, seen = _load_mask(items, recipe.mask, tile, native_geobox(items[0], bands[names[0]]))
        scaled = scaled.where(xr.DataArray(clear, dims=("time", "y", "x")))
        observed = observed & seen
    cube = scaled.assign_coords(observed=(("time", "y", "x"), observed)).compute()
    return {name: cube[name].values for name in names}, cube["observed"].values


def _load_mask(
    items: Sequence[pystac.Item], rule: CloudMask, tile: GeoBox, image: GeoBox
) -> tuple[Masks, Masks]:
    """Tell where pixels are clear, and where the mask tells anything.

    Parameters
    ----------
    tile : GeoBox
        Part of the lattice of `image`, the whole grid of a band.

    Returns
    -------
    clear, seen : ndarray, shape (time, y, x) of `tile`, bool
    """
    masks = [native_geobox(item, rule.asset) for item in items]
    finer = [is_finer(mask, image) for mask in masks]
    if not any(finer):
        return _read_mask(items, rule, tile, image)
    clear, seen = (np.zeros((len(items), *tile.shape), bool) for _ in range(2))
    for index, (item, mask) in enumerate(zip(items, masks, strict=True)):
        if not finer[index]:
            clear[index : index + 1], seen[index : index + 1] = _read_mask(
                [item], rule, tile, image
            )
        elif warp := Warp.plan(mask, tile, "max"):
            own_clear, own_seen = _read_mask([item], rule, warp.tile, mask)
            clear[index] = ~warp.touched(~own_clear[0])
            seen[index] = warp.touched(own_seen[0])
    return clear, seen


def _read_mask(
    items: Sequence[pystac.Item], rule: CloudMask, tile: GeoBox, image: GeoBox
) -> tuple[Masks, Masks]:
    """Read masks by the nearest pixel, and make what is not clear wider, as `_load_mask` says."""
    size_m, reach_m = pixel_size_m(image), rule.dilate_m * UTM_STRETCH
    rim = math.ceil(reach_m / min(size_m))
    flags = _load(items, [rule.asset], tile.pad(rim), dtype="int32", nodata=UNSEEN)[rule.asset]
    flags = flags.compute()
    clear, seen = clear_pixels(flags, rule).values, flags.values != UNSEEN
    if rim:
        for index, hidden in enumerate(seen & ~clear):
            if hidden.any():
                clear[index] &= distance_transform_edt(~hidden, size_m) > reach_m
    inner = (slice(None), slice(rim, rim + tile.height), slice(rim, rim + tile.width))
    return clear[inner], seen[inner]


def _load(
    items: Sequence[pystac.Item], assets: list[str], geobox: GeoBox, **options: Any
) -> xr.Dataset:
    loaded = odc.stac.load(
        items,
        bands=assets,
        geobox=geobox,
        groupby="id",
        fail_on_error=True,
        resampling="nearest",
        chunks={"time": 1, "x": CHUNK_PX, "y": CHUNK_PX},
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
