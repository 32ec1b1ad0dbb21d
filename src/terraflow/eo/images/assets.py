"""The configured images among the assets of an item, and what its metadata tell of their values."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from glob import escape
from pathlib import Path
from typing import Any

import pystac

from terraflow.eo.images.rasters.validity import parse_nodata
from terraflow.errors import DataError

__all__ = [
    "NODATA",
    "Image",
    "find_codes_nodata",
    "find_images",
    "find_scaling",
    "find_type",
    "name_source",
]

#: Field of the asset of a copied cloud mask: values that were nodata of its source.
NODATA = "terraflow:nodata"


@dataclass(frozen=True)
class Image:
    """One band of one item.

    Attributes
    ----------
    item, key : str
        Id of the item, and the name of the image in the configuration.
    href : str
        Address of the file, not signed.
    band : int
        Of the file, from 1.
    scale, offset, nodata : float or None
        Physical value = digital number * scale + offset, as the item's metadata tell; what is None
        the file tells.
    codes : bool
        Whether it is a cloud mask, whose rule may count what is nodata elsewhere.
    """

    item: str
    key: str
    href: str
    band: int = 1
    scale: float | None = None
    offset: float | None = None
    nodata: float | None = None
    codes: bool = False


def find_images(
    items: Sequence[pystac.Item], keys: Sequence[str], mask: str = ""
) -> list[list[Image]]:
    """Find the configured images of each item.

    A key is that of an asset; or "key.2", the second band of an asset; or the name of a band, where
    one asset alone has such a band.

    Parameters
    ----------
    keys : sequence of str
    mask : str
        Key of a cloud mask, which is one more, or one of them.

    Returns
    -------
    list of list of Image
        In the order of the items and keys.

    Raises
    ------
    DataError
        An item lacks one; the message names items and the assets that they have. Or it tells a
        nodata that is no number.
    """
    images, missing = [], []
    keys = [*keys, mask] if mask else keys
    for item in items:
        found = {key: _find(item, key, codes=key == mask) for key in dict.fromkeys(keys)}
        images.append([image for image in found.values() if image])
        if lacking := [key for key, image in found.items() if image is None]:
            missing.append(f"{item.id} lacks {', '.join(lacking)} and has {_names(item)}")
    if missing:
        raise DataError(
            f"{len(missing)} of {len(items)} items lack assets that the configuration names: "
            f"{'; '.join(missing[:3])}{' ...' if missing[3:] else ''}; correct [data.bands] or "
            "[cloud_mask], or choose dates and area without these items."
        )
    return images


def find_scaling(item: pystac.Item, key: str) -> tuple[float | None, float | None, float | None]:
    """Find scale, offset and nodata of a configured image, by the item's metadata.

    Parameters
    ----------
    item : pystac.Item
    key : str
        As for `find_images`.

    Returns
    -------
    scale, offset, nodata : float or None
        Physical value = digital number * scale + offset; what is None the file tells.

    Raises
    ------
    DataError
        The item lacks the image.
    """
    ((image,),) = find_images([item], [key])
    return image.scale, image.offset, image.nodata


def name_source(image: Image) -> object:
    """Tell what is copied: without a signature, which changes, and with a local file's version.

    A mask beside a local file has a version, too.
    """
    path = Path(image.href.removeprefix("file://"))
    if "://" in str(path) or not path.exists():
        return replace(image, href=image.href.partition("?")[0])
    files = [path, *path.parent.glob(f"{escape(path.name)}.msk")]
    return image, *((file.stat().st_size, file.stat().st_mtime_ns) for file in files)


def find_codes_nodata(item: pystac.Item, key: str) -> list[float]:
    """List the values of a copied cloud mask that its source and its item had as nodata."""
    told = item.assets[key].extra_fields.get(NODATA, [])
    return [float(value) for value in told]


def find_type(item: pystac.Item, key: str) -> str:
    """Tell the type of a copied image's pixels, as "uint16"; "" where its item does not."""
    told = _band_fields(item.assets[key], 1).get("data_type", "")
    return told if re.fullmatch(r"u?int\d+|float(16|32|64)", str(told)) else ""


def _find(item: pystac.Item, key: str, *, codes: bool) -> Image | None:
    place = _place(item, key)
    if place is None:
        return None
    name, band = place
    asset = item.assets[name]
    scale, offset = _scaling(item, name, band)
    told = _band_fields(asset, band).get("nodata")
    nodata = parse_nodata(told, f"Asset {key} of item {item.id}")
    return Image(item.id, key, asset.href, band, scale, offset, nodata, codes)


def _place(item: pystac.Item, key: str) -> tuple[str, int] | None:
    if key in item.assets:
        return key, 1
    name, _, number = key.rpartition(".")
    if name in item.assets and number.isdecimal() and int(number) > 0:
        return name, int(number)
    named = [
        (name, index)
        for name, asset in item.assets.items()
        for index, band in enumerate(_bands(asset), start=1)
        if key in (band.get("name"), band.get("description"))
    ]
    return named[0] if len(named) == 1 else None


def _bands(asset: pystac.Asset) -> list[dict[str, Any]]:
    bands: list[dict[str, Any]] = asset.extra_fields.get("bands") or asset.extra_fields.get(
        "eo:bands", []
    )
    return bands


def _names(item: pystac.Item) -> str:
    names = []
    for name, asset in item.assets.items():
        inner = [str(band.get("name")) for band in _bands(asset)]
        names.append(f"{name} ({', '.join(inner)})" if len(inner) > 1 else name)
    return ", ".join(names) or "none"


def _band_fields(asset: pystac.Asset, band: int) -> dict[str, Any]:
    """Merge what is told of the asset, then of its band, in STAC 1.0's and 1.1's way.

    References
    ----------
    https://github.com/stac-extensions/raster
    """
    fields = asset.extra_fields
    merged: dict[str, Any] = {}
    for source in (
        fields,
        *fields.get("raster:bands", [])[band - 1 : band],
        *fields.get("bands", [])[band - 1 : band],
    ):
        for name in ("scale", "offset", "nodata", "data_type"):
            value = source.get(f"raster:{name}", source.get(name))
            if value is not None:
                merged[name] = value
    return merged


def _scaling(item: pystac.Item, name: str, band: int) -> tuple[float | None, float | None]:
    """Scale and offset, both or none, with what is known of Sentinel-2 catalogues.

    References
    ----------
    Sentinel-2 processing baseline 04.00: reflectance = (DN - 1000) / 10000 since 2022-01-25,
    DN / 10000 before; https://sentiwiki.copernicus.eu/web/s2-products
    https://github.com/Element84/earth-search/issues/66
    """
    asset = item.assets[name]
    fields = _band_fields(asset, band)
    scale, offset = fields.get("scale"), fields.get("offset")
    if scale is not None or offset is not None:
        scale, offset = float(scale if scale is not None else 1), float(offset or 0)
        # Earth Search's older collection sentinel-2-l2a has subtracted the offset from its COGs
        # where this says so, but still lists it; the JPEG 2000 files beside them are ESA's own.
        if item.properties.get("earthsearch:boa_offset_applied") and not _is_jpeg2000(asset):
            offset = 0.0
        return scale, offset
    # Planetary Computer's items tell the baseline alone, and its files are as ESA made them.
    baseline = item.properties.get("s2:processing_baseline")
    if baseline and re.fullmatch(r"B(0\d|8A|1[0-2])", name):
        return 0.0001, -0.1 if float(baseline) >= 4 else 0.0
    return None, None


def _is_jpeg2000(asset: pystac.Asset) -> bool:
    return asset.media_type == pystac.MediaType.JPEG2000 or asset.href.endswith(".jp2")
