"""Items from a STAC API or a static catalogue."""

from __future__ import annotations

import json
import os
import posixpath
import warnings
from typing import Any
from urllib.parse import unquote, urljoin

import pystac
from pystac_client import Client, ConformanceClasses
from pystac_client.exceptions import APIError
from pystac_client.stac_api_io import StacApiIO
from requests.utils import requote_uri
from shapely.geometry.base import BaseGeometry
from urllib3 import Retry

from terraflow.console import say
from terraflow.eo.config.addresses import without_query
from terraflow.eo.config.bounds import parts
from terraflow.eo.config.imagery import Data
from terraflow.eo.images.sources.local_paths import local_path
from terraflow.eo.images.sources.selection import area_bounds, bounds_text, period_text, select
from terraflow.errors import DataError, StorageError, TerraFlowError
from terraflow.storage import Storage

__all__ = ["find_items", "read_catalogue"]

#: Of requests for metadata; urllib3 honours Retry-After by itself.
RETRY = Retry(
    total=4,
    backoff_factor=0.5,
    status_forcelist=(429, 500, 502, 503, 504),
    allowed_methods=None,
    raise_on_status=False,
)
TIMEOUT_S = (10, 60)  # to connect, to answer
#: Of an item collection; more are an API's, to be searched instead.
MAX_PAGES = 1000


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
    with warnings.catch_warnings(action="ignore"):  # of pystac: what it makes of an API's faults
        items = _find_items(data, catalogue, storage, area)
    if old := [item.id for item in items if item.properties.get("deprecated")]:
        say(f"{len(old)} of {len(items)} items are marked as deprecated there, as {old[0]}")
    return items


def _find_items(
    data: Data, catalogue: str, storage: Storage, area: BaseGeometry | None
) -> list[pystac.Item]:
    try:
        source = _Source(storage)
        catalogue = source.find(catalogue)
        document = source.read(catalogue)
        if document.get("conformsTo"):
            client = Client.open(catalogue, stac_io=source.http, timeout=TIMEOUT_S)
            if client.conforms_to(ConformanceClasses.ITEM_SEARCH):
                found = _search(client, data, catalogue, area)
                items = [_located(i, i.get_self_href() or catalogue, source) for i in found]
                return select(items, data, catalogue, area)
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
        It can't be read, is no STAC, or has a next page that can't be followed.
    """
    try:
        source = _Source(storage)
        uri = source.find(uri)
        with warnings.catch_warnings(action="ignore"):
            return _items_of(source.read(uri), uri, source)
    except _READ_ERRORS as error:
        raise _unreadable(uri, error) from error


class _Source:
    """Reads JSON by HTTP, with retries, and from the store."""

    def __init__(self, storage: Storage) -> None:
        self.http = StacApiIO(timeout=TIMEOUT_S, max_retries=RETRY)
        self.storage = storage

    def read(self, href: str) -> dict[str, Any]:
        remote = href.startswith(("http://", "https://"))
        text = self.http.read_text(href) if remote else self.storage.read(href)
        document: dict[str, Any] = json.loads(text)
        return document

    def find(self, href: str, base: str = "") -> str:
        """Make an address absolute; of a file or object decode it, unless one has this very name.

        STAC's hrefs are URIs, of which some writers encode nothing.
        """
        plain, decoded = (_absolute(text, base) for text in (href, unquote(href)))
        if plain.startswith("/vsi") or ("://" in plain and not plain.startswith(("file:", "s3:"))):
            return plain
        if not plain.startswith("s3:"):
            path = local_path(plain)
            return decoded if not os.path.exists(path) and os.path.exists(decoded) else path
        try:
            there = decoded == plain or self.storage.exists(plain)
            return plain if there or not self.storage.exists(decoded) else decoded
        except StorageError:  # of another's bucket, which may answer to GDAL alone
            return plain


_READ_ERRORS = (
    APIError,
    StorageError,
    pystac.STACError,
    pystac.STACTypeError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
)


def _items_of(document: dict[str, Any], uri: str, source: _Source) -> list[pystac.Item]:
    """Follow links to all items below a document, and to its further pages.

    pystac knows no pages, and loses what follows # or ? in the name of a local folder.
    """
    items: list[pystac.Item] = []
    waiting, seen, pages = [uri], {uri}, 0
    while waiting:
        here = waiting.pop()
        if here != uri:
            document = source.read(here)
        if document.get("type") == "Feature":
            item = _located(pystac.Item.from_dict(document), here, source)
            item.set_self_href(here)
            items.append(item)
        elif document.get("type") == "FeatureCollection":
            page = [pystac.Item.from_dict(feature) for feature in document["features"]]
            items += [_located(i, i.get_self_href() or here, source) for i in page]
            pages += 1
        if pages > MAX_PAGES:
            raise _endless(uri, f"has more than {MAX_PAGES} pages")
        found = [source.find(link["href"], here) for link in _links_down(document, uri)]
        waiting += [href for href in dict.fromkeys(found) if href not in seen]
        seen.update(found)
    return items


def _links_down(document: dict[str, Any], uri: str) -> list[dict[str, Any]]:
    kind = document.get("type")
    if kind == "Feature":
        return []
    if kind != "FeatureCollection":
        if "stac_version" not in document:
            raise ValueError(f"its type is {kind}, and it has no stac_version")
        return [link for link in document["links"] if link["rel"] in ("item", "child")]
    pages = [link for link in document.get("links", []) if link["rel"] == "next"]
    if any(link.get("method", "GET").upper() != "GET" for link in pages):
        raise _endless(uri, "has a next page that is asked for by POST")
    return pages


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
    bounds, found = area_bounds(area), dict[str, pystac.Item]()
    for part in parts(bounds):  # not every API takes a box across the antimeridian
        search = client.search(
            collections=[data.collection],
            bbox=part,
            datetime=None if period == "../.." else period,
            limit=100,
        )
        found |= {item.id: item for item in search.items()}
    if not found:
        raise DataError(
            f"{catalogue} has no item of {data.collection} in the area "
            f"{bounds_text(bounds)} {period_text(data)}; change [data] area, start or end."
        )
    return list(found.values())


def _of_collection(items: list[pystac.Item], name: str, catalogue: str) -> list[pystac.Item]:
    chosen = [item for item in items if item.collection_id == name]
    if not chosen:
        known = sorted({item.collection_id for item in items if item.collection_id})
        raise DataError(
            f"{catalogue} has no collection {name}; set [data] collection to one of "
            f"{', '.join(known)}."
            if known
            else f"{catalogue} has no collections; remove [data] collection = {name!r}."
        )
    return chosen


def _located(item: pystac.Item, base: str, source: _Source) -> pystac.Item:
    for asset in item.assets.values():
        asset.href = source.find(asset.href, base)
    return item


def _absolute(href: str, base: str) -> str:
    if not base or "://" in href or href.startswith(("/vsi", "file:")):
        return href
    if base.startswith(("http://", "https://")):
        return requote_uri(urljoin(base, href))  # GDAL asks for no blanks and accents
    scheme, found, path = base.rpartition("://")  # urljoin knows no s3, and no # in local names
    if href.startswith("/"):
        return href
    return scheme + found + posixpath.normpath(posixpath.join(posixpath.dirname(path), href))


def _endless(catalogue: str, what: str) -> DataError:
    return DataError(
        f"{without_query(catalogue)} {what}, so that it is not read as a whole; name the STAC API "
        "itself as [data] catalogue, with collection and area."
    )


def _unreadable(catalogue: str, error: Exception) -> DataError:
    # the cause of our own errors is said by them already
    causes = (error,) if isinstance(error, TerraFlowError) else (error, error.__cause__)
    texts = [str(e) for e in causes if e]
    reason = without_query(" ".join(": ".join(texts).split())).rstrip(".")[:400]
    return DataError(
        f"Catalogue {catalogue} can't be read ({reason}); expected a STAC API or a static STAC "
        "catalogue, collection or item collection; check its address ([data] catalogue, or "
        "--items) and the network."
    )
