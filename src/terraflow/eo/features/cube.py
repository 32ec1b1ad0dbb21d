"""Items to a cube of clear reflectances."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pystac
import rasterio
import xarray as xr
from odc.geo.geobox import GeoBox
from odc.geo.xr import xr_coords

from terraflow.eo.config.addresses import without_query
from terraflow.eo.features.grid import native_geobox
from terraflow.eo.features.native import Images, Masks, load_masked
from terraflow.eo.features.recipe import FeatureRecipe
from terraflow.eo.features.time.composites import first_clear
from terraflow.eo.features.warp import Warp, on_one_lattice
from terraflow.eo.images.assets import find_images
from terraflow.eo.images.sources.local_files import UNDATED
from terraflow.eo.images.sources.solar_days import item_time, solar_days

__all__ = ["find_unreadable", "load_clear", "observation_times"]

#: So many of the images' own pixels of each band are in memory at a time, or one image's.
OWN_PX = 2048**2


def load_clear(items: Sequence[pystac.Item], recipe: FeatureRecipe, geobox: GeoBox) -> xr.Dataset:
    """Load the bands, scaled, with cloudy pixels, nodata and what is not finite as NaN.

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
        An item lacks a band or the mask, or does not tell its grid; or a cloud mask holds
        fractions where its rule is one of codes or flags.
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
            values, seen = load_masked(members, names, recipe, geobox)
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
        values, seen = load_masked(items[start : start + step], names, recipe, warp.tile)
        for index, known in enumerate(seen, start=start):
            observed[index] = warp.covered(known)
            for name in names:
                warped[name][index] = warp.apply(values[name][index - start])
    return warped, observed
