"""Items to a cube of clear reflectances."""

from __future__ import annotations

from typing import Any

import numpy as np
import odc.stac
import pystac
import rasterio
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox

from terraflow.errors import DataError

from .config import ProjectConfig

__all__ = ["band_scaling", "find_unreadable", "load_clear", "native_geobox"]

CHUNK_PX = 2048


def load_clear(items: list[pystac.Item], project: ProjectConfig) -> xr.Dataset:
    """Load the bands, scaled, with cloudy pixels and nodata as NaN.

    Parameters
    ----------
    items : list of pystac.Item
        With absolute hrefs; the first band of the first item gives the grid.

    Returns
    -------
    Dataset, lazy
        One variable a band, dims (time, y, x), float32, in the unit that the items' scale and
        offset lead to (reflectance, unitless, nominally 0-1, for Sentinel-2 L2A).

    Raises
    ------
    DataError
        An item lacks a band, the mask or its grid.
    """
    bands = project.data.bands
    wanted = [*bands.values(), project.cloud_mask.asset]
    missing = [f"{i.id}: {', '.join(a for a in wanted if a not in i.assets)}"
               for i in items if any(a not in i.assets for a in wanted)]  # fmt: skip
    if missing:
        raise DataError(
            f"{len(missing)} of {len(items)} items lack assets that the configuration names "
            f"({'; '.join(missing[:3])}); they have {', '.join(items[0].assets)}; correct "
            "[data.bands] or [cloud_mask]."
        )
    geobox = native_geobox(items[0], next(iter(bands.values())))
    loaded = odc.stac.load(
        items,
        bands=wanted,
        geobox=geobox,
        groupby="id",
        resampling="nearest",
        chunks={"time": 1, "x": CHUNK_PX, "y": CHUNK_PX},
        fail_on_error=True,
    )
    clear = loaded[project.cloud_mask.asset].isin(project.cloud_mask.clear)
    cube = {
        name: _scaled(loaded[asset], items, asset).where(clear) for name, asset in bands.items()
    }
    return xr.Dataset(cube)


def native_geobox(item: pystac.Item, asset: str) -> GeoBox:
    """Grid of an asset from the projection extension.

    Raises
    ------
    DataError
        The item does not tell CRS, transform and shape.

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
            "proj:transform and proj:shape of the STAC projection extension."
        )
    return GeoBox(tuple(shape), Affine(*transform[:6]), crs)


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


def find_unreadable(items: list[pystac.Item], project: ProjectConfig) -> tuple[str, str] | None:
    """Read the items' images one by one, after loading them together has failed.

    Returns
    -------
    tuple of str or None
        Address and error of the first that can't be read.
    """
    for item in items:
        for asset in (*project.data.bands.values(), project.cloud_mask.asset):
            href = item.assets[asset].href
            try:
                with rasterio.open(href) as file:
                    file.checksum(1)
            except (rasterio.errors.RasterioError, OSError) as error:
                return href, str(error.__cause__ or error)
    return None


def _scaled(data: xr.DataArray, items: list[pystac.Item], asset: str) -> xr.DataArray:
    # groupby="id" gives one time step an item, in the order of time and id
    scaling = np.array([band_scaling(item, asset) for item in items], dtype="float64")
    nodata = data.attrs.get("nodata")
    values = data.astype("float32")
    if nodata is not None and not np.isnan(nodata):
        values = values.where(data != nodata)
    steps = {"time": data.time}
    scale = xr.DataArray(scaling[:, 0].astype("float32"), dims="time", coords=steps)
    offset = xr.DataArray(scaling[:, 1].astype("float32"), dims="time", coords=steps)
    return values * scale + offset
