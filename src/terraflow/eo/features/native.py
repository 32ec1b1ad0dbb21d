"""Images and their cloud masks on their own pixels, before these are warped."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import odc.stac
import pystac
import xarray as xr
from odc.geo.geobox import GeoBox
from scipy.ndimage import distance_transform_edt

from terraflow.eo.config.imagery import CloudMask, Scaling
from terraflow.eo.features.grid import native_geobox
from terraflow.eo.features.recipe import FeatureRecipe
from terraflow.eo.features.warp import Warp, is_finer, pixel_size_m
from terraflow.eo.images.assets import find_codes_nodata, find_scaling, find_type
from terraflow.eo.images.rasters.validity import can_hold, is_marked
from terraflow.errors import ConfigError, DataError

__all__ = ["Images", "Masks", "check_nodata", "clear_pixels", "load_masked"]

#: By so much at most are metres on the ground longer than UTM's: 30 m are three pixels of 10 m.
UTM_STRETCH = 1.001
#: Side of a dask chunk.
CHUNK_PX = 2048
#: From here on a float64, as which flags are read, does not hold each integer.
LARGEST_FLAGS = 2.0**53

Images = npt.NDArray[np.float32]
Masks = npt.NDArray[np.bool_]


def load_masked(
    items: Sequence[pystac.Item], names: Sequence[str], recipe: FeatureRecipe, tile: GeoBox
) -> tuple[dict[str, Images], Masks]:
    """Load bands on their own pixels, without what is nodata, not finite or not clear.

    Parameters
    ----------
    names : sequence of str
        Bands that are on one grid.
    tile : GeoBox
        Part of the lattice of that grid.

    Returns
    -------
    bands : dict
        Name to ndarray, shape (time, y, x) of `tile`, float32, physical values, NaN nodata.
    observed : ndarray, same shape, bool
        Where the first band has data, and the mask tells anything.

    Raises
    ------
    DataError
        The cloud mask holds fractions where its rule is one of codes or flags.
    """
    bands = {name: recipe.bands[name] for name in names}
    # items may differ in type and nodata, and end inside the grid: all of that becomes NaN
    loaded = _load(
        items, list(dict.fromkeys(bands.values())), tile, dtype="float32", nodata=float("nan")
    ).compute()
    scaled = {
        name: _scaled(loaded[asset].values, items, asset, recipe.scaling.get(name, Scaling()))
        for name, asset in bands.items()
    }
    observed = np.isfinite(scaled[names[0]])
    if recipe.mask:
        clear, seen = _load_mask(items, recipe.mask, tile, native_geobox(items[0], bands[names[0]]))
        observed &= seen
        for values in scaled.values():
            values[~clear] = np.nan
    return scaled, observed


def clear_pixels(mask: xr.DataArray, rule: CloudMask) -> xr.DataArray:
    """Tell clear pixels by a list of codes, by bit flags or by a threshold.

    Parameters
    ----------
    mask : DataArray, shape (time, y, x)
        Sentinel-2's scene layer (SCL), Landsat's QA_PIXEL, or a plain mask; of a threshold
        physical values. NaN is nodata, which is not clear.

    Returns
    -------
    DataArray, shape (time, y, x), bool

    References
    ----------
    Landsat Collection 2 Level-2 Science Product Guide (LSDS-1619), pixel quality assessment band.
    """
    if rule.above is not None:  # as float32, in which 0.4 may be stored
        return mask.astype("float32") <= np.float32(rule.above)
    if rule.clear is not None:
        return mask.isin(rule.clear)
    flags = sum(1 << bit for bit in rule.cloudy_bits or [])
    return ((mask.fillna(0).astype("int64") & np.int64(flags)) == 0) & mask.notnull()


def check_nodata(items: Sequence[pystac.Item], recipe: FeatureRecipe) -> None:
    """See that nodata values contradict neither the cloud mask's rule nor the images' types.

    Raises
    ------
    DataError
        A nodata value of the cloud mask is clear by its bits or threshold.
    ConfigError
        No image of a band can hold the nodata that is configured.
    """
    for name, over in recipe.scaling.items():
        types = {find_type(item, recipe.bands[name]) for item in items} - {""}
        held = over.nodata is None or any(can_hold(over.nodata, dtype) for dtype in types)
        if types and not held:
            raise ConfigError(
                f"[data.scaling] {name} has nodata {over.nodata:g}, which images of "
                f"{', '.join(sorted(types))} can't hold; correct it, or leave it out: what files "
                "and items tell counts without it."
            )
    rule = recipe.mask
    if rule is None or rule.clear is not None or rule.nodata is not None:
        return
    what = f"cloudy_bits = {rule.cloudy_bits}" if rule.cloudy_bits else f"above = {rule.above:g}"
    for item in items:
        for value in find_codes_nodata(item, rule.asset):
            physical = xr.DataArray(_physical(np.array([value]), item, rule))
            if value >= 0 and clear_pixels(physical, rule).all():  # less is no flag and no share
                raise DataError(
                    f"The cloud mask {rule.asset} of item {item.id} has the nodata {value:g}, "
                    f"which by [cloud_mask] {what} is a clear pixel; write nodata = "
                    f'"none" in [cloud_mask] if such pixels are clear, or nodata = {value:g} if '
                    "nothing is known of them."
                )


def _scaled(data: Images, items: Sequence[pystac.Item], asset: str, over: Scaling) -> Images:
    """Give physical values, finite or NaN, of stored ones."""
    # groupby="id" gives one time step an item, in the order of time and id
    result = np.empty_like(data)
    with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is no value
        for stored, item, values in zip(data, items, result, strict=True):
            told = find_scaling(item, asset)
            scale = np.float32(_first(over.scale, told[0], 1))
            offset = np.float32(_first(over.offset, told[1], 0))
            values[:] = stored * scale + offset
            nodata = find_codes_nodata(item, asset)
            configured = [] if over.nodata is None else [over.nodata]
            values[is_marked(stored, [*nodata, *configured]) | ~np.isfinite(values)] = np.nan
    return result


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
    # as float64: it holds fractions, all flags of 32 bits, and NaN where there is nothing
    options = {"dtype": "float64", "nodata": float("nan")}
    flags = _load(items, [rule.asset], tile.pad(rim), **options)[rule.asset].compute()
    for values, item in zip(flags.values, items, strict=True):
        values[is_marked(values, _unseen(item, rule)) | ~np.isfinite(values)] = np.nan
        _check_values(values, item, rule)
        values[:] = _physical(values, item, rule)
    clear, seen = clear_pixels(flags, rule).values, flags.notnull().values
    if rim:
        for index, hidden in enumerate(seen & ~clear):
            if hidden.any():
                clear[index] &= distance_transform_edt(~hidden, size_m) > reach_m
    inner = (slice(None), slice(rim, rim + tile.height), slice(rim, rim + tile.width))
    return clear[inner], seen[inner]


def _unseen(item: pystac.Item, rule: CloudMask) -> list[float]:
    """List the values of a mask that tell nothing: its nodata, unless the rule says otherwise."""
    if isinstance(rule.nodata, float):
        return [rule.nodata]
    if rule.nodata == "none":
        return []
    told = find_codes_nodata(item, rule.asset)
    listed = [] if rule.nodata == "file" else rule.clear or []
    return [value for value in told if value not in listed]


def _physical(
    values: npt.NDArray[np.float64], item: pystac.Item, rule: CloudMask
) -> npt.NDArray[np.float64]:
    """Scale what a threshold is compared with; codes and flags are as they are stored."""
    if rule.above is None:
        return values
    scale, offset, _ = find_scaling(item, rule.asset)
    return values * _first(scale, 1) + _first(offset, 0)


def _check_values(values: npt.NDArray[np.float64], item: pystac.Item, rule: CloudMask) -> None:
    """See that a mask's values are of the kind that its rule is for."""
    name = f"The cloud mask {rule.asset} of item {item.id}"
    finite = values[np.isfinite(values)]
    fractions = finite[finite != np.floor(finite)]
    if rule.above is None and fractions.size:
        raise DataError(
            f"{name} holds fractions, as {fractions[0]:.6g}, which no list of codes or bits names; "
            "write a threshold in [cloud_mask] in their place, as above = 0.4: what is above it is "
            "cloudy."
        )
    if rule.above is None and np.abs(finite).max(initial=0) >= LARGEST_FLAGS:
        raise DataError(
            f"{name} holds numbers of more than 53 bits; write those that count to a file of 32 "
            "bits."
        )
    if fractions.size and (rule.above or 0) >= 1 and finite.max() <= 1:
        raise DataError(
            f"{name} holds fractions of 0 to 1, none of which is above {rule.above:g}; write "
            f"above = {(rule.above or 0) / 100:g} in [cloud_mask] if per cent are meant."
        )


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


def _first(*numbers: float | None) -> float:
    return next((number for number in numbers if number is not None), math.nan)
