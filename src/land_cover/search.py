"""Items from a STAC API or a static catalogue, and the signing of their addresses."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from urllib.parse import urljoin

import pystac
import requests
from pystac.stac_io import DefaultStacIO
from pystac_client import Client, ConformanceClasses
from pystac_client.exceptions import APIError
from pystac_client.stac_api_io import StacApiIO
from shapely.geometry.base import BaseGeometry
from urllib3 import Retry

from terraflow.errors import DataError, StorageError
from terraflow.storage import Storage

from .sections import Data
from .selection import bounds_text, period_text, select

__all__ = ["find_items", "read_catalogue", "sign"]

#: Of requests for metadata; urllib3 honours Retry-After by itself.
RETRY = Retry(
    total=4, backoff_factor=0.5, status_forcelist=(429, 500, 502, 503, 504), allowed_methods=None,
    raise_on_status=False,
)  # fmt: skip
TIMEOUT_S = (10, 60)  # to connect, to answer


def find_items(
    data: Data, catalogue: str, storage: Storage, area: BaseGeometry | None
) -> list[pystac.Item]:
    """Find the items of a catalogue that the configuration asks for.

    Parameters
    ----------
    data : Data
        Section [data]: collection, dates, cloud cover, number.
    catalogue : str
        Path or URI of a STAC API, or of a static catalogue, collection, item collection or item.
    storage : Storage
        Reads what is not HTTP.
    area : geometry or None
        In degrees (EPSG:4326).

    Returns
    -------
    list of pystac.Item
        Sorted by time and id, with absolute hrefs, not signed.

    Raises
    ------
    DataError
        The catalogue can't be read, lacks the collection, or no item fits; the message tells what
        there is.

    References
    ----------
    https://github.com/radiantearth/stac-api-spec/tree/v1.0.0/item-search
    """
    try:
        source = _StacIO(storage)
        document = source.read_json(catalogue)
        if document.get("conformsTo"):
            client = Client.open(catalogue, stac_io=source.http, timeout=TIMEOUT_S)
            if client.conforms_to(ConformanceClasses.ITEM_SEARCH):
                return select(_search(client, data, catalogue, area), data, catalogue, area)
        items = _items_of(document, catalogue, source)
    except _READ_ERRORS as error:
        raise _unreadable(catalogue, error) from error
    if data.collection:
        items = _of_collection(items, data.collection, catalogue)
    return select(items, data, catalogue, area)


def read_catalogue(uri: str, storage: Storage) -> list[pystac.Item]:
    """Read all items of a static catalogue, collection, item collection or item.

    Returns
    -------
    list of pystac.Item
        With absolute hrefs.

    Raises
    ------
    DataError
        It can't be read, or is no STAC.
    """
    try:
        source = _StacIO(storage)
        return _items_of(source.read_json(uri), uri, source)
    except _READ_ERRORS as error:
        raise _unreadable(uri, error) from error


def sign(href: str, data: Data) -> str:
    """Sign the address of an asset, where [data] sign asks for it.

    Tokens are kept until shortly before they expire, so that this is cheap before every read.

    Raises
    ------
    DataError
        The signing service does not answer.
    """
    if data.sign == "none":
        return href
    import planetary_computer  # noqa: PLC0415 - slow, and few need it

    try:
        signed: str = planetary_computer.sign(href)
    except (requests.RequestException, ValueError) as error:
        raise DataError(
            f"Planetary Computer does not sign {href.partition('?')[0]}: {error}; check the "
            "network and run it again."
        ) from error
    return signed


class _StacIO(DefaultStacIO):
    """Lets pystac read a static catalogue by HTTP, with retries, and from the store."""

    def __init__(self, storage: Storage) -> None:
        super().__init__()
        self.http = StacApiIO(timeout=TIMEOUT_S, max_retries=RETRY)
        self.storage = storage

    def read_text_from_href(self, href: str) -> str:
        if href.startswith(("http://", "https://")):
            text: str = self.http.read_text(href)
            return text
        return self.storage.read(href).decode()


_READ_ERRORS = (
    APIError, StorageError, pystac.STACError, pystac.STACTypeError, ValueError, KeyError, TypeError,
    AttributeError,
)  # fmt: skip


def _items_of(document: dict[str, Any], uri: str, source: _StacIO) -> list[pystac.Item]:
    if document.get("type") == "FeatureCollection":
        items: Iterable[pystac.Item] = map(pystac.Item.from_dict, document["features"])
        return [_with_absolute_hrefs(item, item.get_self_href() or uri) for item in items]
    if document.get("type") == "Feature":
        return [_with_absolute_hrefs(pystac.Item.from_dict(document), uri)]
    root = pystac.Catalog.from_file if document.get("type") == "Catalog" else (
        pystac.Collection.from_file
    )  # fmt: skip
    items = root(uri, stac_io=source).get_items(recursive=True)
    return [_with_absolute_hrefs(item, item.get_self_href() or uri) for item in items]


def _search(
    client: Client, data: Data, catalogue: str, area: BaseGeometry | None
) -> list[pystac.Item]:
    known = sorted(collection.id for collection in client.get_collections())
    if data.collection not in known:
        what = f"has no collection {data.collection}" if data.collection else "is a STAC API"
        raise DataError(
            f"{catalogue} {what}; set [data] collection to one of {', '.join(known) or 'none'}."
        )
    if area is None:
        raise DataError(
            f"{catalogue} is a STAC API, which is not read as a whole; set [data] area to a box or "
            "a GeoJSON file."
        )
    period = f"{data.start or '..'}/{data.end or '..'}"
    # cloud cover is compared here and not by the API, which would drop items that don't tell it
    found = client.search(
        collections=[data.collection],
        bbox=area.bounds,
        datetime=None if period == "../.." else period,
        limit=100,
    )
    items = [_with_absolute_hrefs(i, i.get_self_href() or catalogue) for i in found.items()]
    if not items:
        raise DataError(
            f"{catalogue} has no item of {data.collection} in the area "
            f"{bounds_text(area.bounds)} {period_text(data)}; change [data] area, start or end."
        )
    return items


def _of_collection(items: list[pystac.Item], name: str, catalogue: str) -> list[pystac.Item]:
    chosen = [item for item in items if item.collection_id == name]
    if not chosen:
        known = sorted({item.collection_id for item in items if item.collection_id})
        raise DataError(
            f"{catalogue} has no collection {name}; set [data] collection to one of "
            f"{', '.join(known)}." if known else
            f"{catalogue} has no collections; remove [data] collection = {name!r}."
        )  # fmt: skip
    return chosen


def _with_absolute_hrefs(item: pystac.Item, base: str) -> pystac.Item:
    for asset in item.assets.values():
        asset.href = _absolute(asset.href, base)
    return item


def _absolute(href: str, base: str) -> str:
    if "://" in href or href.startswith("/"):
        return href
    if base.startswith("s3://"):  # urljoin knows no s3
        return "s3://" + urljoin("http://" + base.removeprefix("s3://"), href).removeprefix(
            "http://"
        )
    return urljoin(base, href)


def _unreadable(catalogue: str, error: Exception) -> DataError:
    texts = [str(e) for e in (error, error.__cause__) if e]
    reason = " ".join(": ".join(texts).split()).rstrip(".")[:400]
    return DataError(
        f"Catalogue {catalogue} can't be read ({reason}); expected a STAC API or a static STAC "
        "catalogue, collection or item collection; check [data] catalogue and the network."
    )
