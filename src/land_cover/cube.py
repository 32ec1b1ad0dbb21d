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

from terraflow.errors import DataError

from .config import ProjectConfig
from .sections import CloudMask, Scaling

__all__ = ["band_scaling", "check_assets", "clear_pixels", "find_unreadable", "load_clear"]


def load_clear(
    items: Sequence[pystac.Item], project: ProjectConfig, geobox: GeoBox, *, chunk_px: int = 2048
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
        (reflectance, unitless, nominally 0-1, for Sentinel-2 L2A).

    Raises
    ------
    DataError
        An item lacks a band or the mask.
    """
    check_assets(items, project)
    bands, mask = project.data.bands, project.cloud_mask
    resampling: dict[str, str] = {"*": project.grid.resampling}
    if mask:
        resampling[mask.asset] = "nearest"
    # it logs what it also raises, and whoever catches that says it in a sentence
    logging.getLogger("odc.loader").setLevel(logging.CRITICAL)
    loaded = odc.stac.load(
        items,
        bands=list(dict.fromkeys([*bands.values(), *([mask.asset] if mask else [])])),
        geobox=geobox,
        groupby="id",
        resampling=resampling,
        chunks={"time": 1, "x": chunk_px, "y": chunk_px},
        fail_on_error=True,
    )
    clear = clear_pixels(loaded[mask.asset], mask) if mask else None
    cube = {}
    for name, asset in bands.items():
        scaling = project.data.scaling.get(name, Scaling())
        values = _scaled(loaded[asset], items, asset, scaling)
        cube[name] = values if clear is None else values.where(clear)
    return xr.Dataset(cube)


def check_assets(items: Sequence[pystac.Item], project: ProjectConfig) -> None:
    """See that every item has all bands and the mask.

    Raises
    ------
    DataError
        An item lacks one.
    """
    mask = project.cloud_mask
    wanted = [*project.data.bands.values(), *([mask.asset] if mask else [])]
    missing = [f"{i.id}: {', '.join(a for a in wanted if a not in i.assets)}"
               for i in items if any(a not in i.assets for a in wanted)]  # fmt: skip
    if missing:
        raise DataError(
            f"{len(missing)} of {len(items)} items lack assets that the configuration names "
            f"({'; '.join(missing[:3])}); they have {', '.join(items[0].assets)}; correct "
            "[data.bands] or [cloud_mask]."
        )


def clear_pixels(mask: xr.DataArray, rule: CloudMask) -> xr.DataArray:
    """Tell clear pixels by a list of classes or by bit flags.

    Parameters
    ----------
    mask : DataArray, shape (time, y, x), integer
        Sentinel-2's scene classification, Landsat's QA_PIXEL, or a plain mask. Flags of nodata
        pixels count as unclear where the mask tells its nodata.

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
    unclear = (mask.astype("uint32") & np.uint32(flags)) > 0
    nodata = mask.attrs.get("nodata")
    return ~unclear if nodata is None else ~unclear & (mask != nodata)


def band_scaling(item: pystac.Item, asset: str) -> tuple[float, float, float | None]:
    """Scale, offset and nodata of a single-band asset, from STAC 1.0's or 1.1's fields.

    Returns
    -------
    scale, offset : float
        Physical value = digital number * scale + offset.
    nodata : float or None

    References
    ----------
    https://github.com/stac-extensions/raster
    """
    fields = item.assets[asset].extra_fields
    band: dict[str, Any] = {}
    for source in (fields, *fields.get("raster:bands", [])[:1], *fields.get("bands", [])[:1]):
        for key in ("scale", "offset", "nodata"):
            value = source.get(f"raster:{key}", source.get(key))
            if value is not None:
                band[key] = float(value)
    return band.get("scale", 1.0), band.get("offset", 0.0), band.get("nodata")


def find_unreadable(items: Sequence[pystac.Item], project: ProjectConfig) -> tuple[str, str] | None:
    """Read the items' images one by one, after loading them together has failed.

    Returns
    -------
    tuple of str or None
        Address and error of the first that can't be read.
    """
    mask = [project.cloud_mask.asset] if project.cloud_mask else []
    for item in items:
        for asset in (*project.data.bands.values(), *mask):
            href = item.assets[asset].href
            try:
                with rasterio.open(href) as file:
                    file.checksum(1)
            except (rasterio.errors.RasterioError, OSError) as error:
                return href, str(error.__cause__ or error)
    return None


def _scaled(
    data: xr.DataArray, items: Sequence[pystac.Item], asset: str, over: Scaling
) -> xr.DataArray:
    # groupby="id" gives one time step an item, in the order of time and id
    told = [band_scaling(item, asset) for item in items]
    nodata = over.nodata if over.nodata is not None else data.attrs.get("nodata")
    values = data.astype("float32")
    if nodata is not None and not np.isnan(nodata):
        values = values.where(data != nodata)
    scale = [over.scale if over.scale is not None else item[0] for item in told]
    offset = [over.offset if over.offset is not None else item[1] for item in told]

    def along_time(numbers: list[float]) -> xr.DataArray:
        return xr.DataArray(np.array(numbers, "float32"), dims="time", coords={"time": data.time})

    return values * along_time(scale) + along_time(offset)
