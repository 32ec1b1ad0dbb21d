"""The collection of ingested images: what `ingest` leaves, and every later step reads."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

import pystac

from terraflow.eo.config.bounds import Bounds, as_bounds, smallest
from terraflow.eo.config.record import Record
from terraflow.eo.images.sources.search import read_catalogue
from terraflow.eo.images.sources.solar_days import item_span, item_time
from terraflow.errors import ConfigError, DataError, NothingToDoError
from terraflow.storage import Storage, join

__all__ = [
    "DIGEST",
    "Images",
    "content",
    "extent",
    "of_month",
    "read_digest",
    "read_items",
    "write_collection",
    "write_part",
]

#: Field of the collection: SHA-256 over the checksums of all its images.
DIGEST = "terraflow:digest"


class Images(Record):
    """What `ingest` returns.

    Attributes
    ----------
    items : str
        URI of a STAC collection, whose field "terraflow:digest" stands for its data.
    labels : str
        URI of the reference data.
    """

    items: str
    labels: str


def read_items(uri: str, storage: Storage) -> list[pystac.Item]:
    """Read the items of a static collection, catalogue or item collection.

    Returns
    -------
    list of pystac.Item
        Sorted by time and id, with absolute hrefs.

    Raises
    ------
    DataError
        It can't be read, or holds no item.
    """
    items = read_catalogue(uri, storage)
    if not items:
        raise DataError(f"{uri} holds no item at all; name a collection that `ingest` wrote.")
    return sorted(items, key=lambda item: (item_time(item), item.id))


def read_digest(uri: str, storage: Storage) -> str:
    """Read the digest of the data in a collection, "" where it has none.

    Raises
    ------
    StorageError
        The collection can't be read.
    """
    return str(json.loads(storage.read(uri)).get(DIGEST, ""))


def write_collection(
    name: str, root: str, items: dict[str, pystac.Item], storage: Storage
) -> tuple[str, str]:
    """Write a collection of items that are in the store.

    Parameters
    ----------
    name : str
        Id of the collection.
    root : str
        URI of the folder to write to.
    items : dict
        URI to item.

    Returns
    -------
    uri, digest : str
        Of the collection, and of all its images. The digest is the same for the same pixels; the
        URI for the same `content` of all items, in any order and wherever their copies lie.

    Raises
    ------
    StorageError
        The store can't be written.
    """
    lines = sorted(
        f"{item.id} {key} {asset.extra_fields.get('file:checksum', asset.href)}\n"
        for item in items.values()
        for key, asset in item.assets.items()
    )
    digest = hashlib.sha256("".join(lines).encode()).hexdigest()
    times = [time for item in items.values() for time in item_span(item)]
    collection = pystac.Collection(
        name,
        f"Images of {name}, clipped to its area.",
        pystac.Extent(
            pystac.SpatialExtent([list(extent(items.values()))]),
            pystac.TemporalExtent([[min(times), max(times)]]),
        ),
        extra_fields={DIGEST: digest},
    )
    contents = sorted(json.dumps(content(item), sort_keys=True) for item in items.values())
    for uri in items:
        collection.add_link(pystac.Link("item", uri, media_type="application/geo+json"))
    document = json.dumps(
        collection.to_dict(include_self_link=False, transform_hrefs=False), sort_keys=True
    ).encode()
    named = hashlib.sha256("\n".join([name, *contents]).encode()).hexdigest()[:12]
    return storage.write(join(root, f"collection-{named}.json"), document), digest


def content(item: pystac.Item) -> dict[str, Any]:
    """Give what an item says, without where its copies lie: two copies of one source have it alike.

    Left out are the addresses of assets that have a checksum, and links but those to the source.
    """
    document = item.to_dict(include_self_link=False, transform_hrefs=False)
    links = [link for link in document["links"] if link["rel"] == "derived_from"]
    assets = {
        key: {k: v for k, v in asset.items() if k != "href" or "file:checksum" not in asset}
        for key, asset in document["assets"].items()
    }
    return document | {"links": links, "assets": assets}


def of_month(items_uri: str, month: str, root: str, storage: Storage) -> tuple[str, str]:
    """Write a collection of the items of one month.

    Parameters
    ----------
    month : str
        As 2024-05; "latest" takes that of the latest item.
    root : str
        URI of the project's part of the store.

    Returns
    -------
    uri, month : str

    Raises
    ------
    ConfigError
        It is no month.
    NothingToDoError
        No item lies in it.
    """
    if month != "latest" and not re.fullmatch(r"\d{4}-(0[1-9]|1[0-2])", month):
        raise ConfigError(f"--month {month!r} is no month; write it as 2024-05, or latest.")
    items = read_items(items_uri, storage)
    months = [f"{item_time(item):%Y-%m}" for item in items]
    wanted = months[-1] if month == "latest" else month
    chosen = [item for item, its in zip(items, months, strict=True) if its == wanted]
    if not chosen:
        raise NothingToDoError(
            f"None of the {len(items)} items of {items_uri}, of {months[0]} to {months[-1]}, lies "
            f"in {wanted}; choose another month, or ingest images of it."
        )
    return write_part(chosen, root, storage), wanted


def write_part(items: Sequence[pystac.Item], root: str, storage: Storage) -> str:
    """Write a collection of some items of others, in the folder `scenes` of a project.

    An item that has no address of its own, as in an item collection, is written beside it.

    Parameters
    ----------
    root : str
        URI of the project's part of the store.

    Returns
    -------
    str
        URI, the same for the same items.

    Raises
    ------
    StorageError
        The store can't be written.
    """
    folder, found = join(root, "scenes"), {}
    for item in items:
        uri = item.get_self_href()
        if not uri:
            document = json.dumps(item.to_dict(transform_hrefs=False), sort_keys=True).encode()
            name = hashlib.sha256(document).hexdigest()[:12]
            uri = storage.write(join(folder, f"item-{name}.json"), document)
        found[uri] = item
    return write_collection(root.rpartition("/")[2], folder, found, storage)[0]


def extent(items: Iterable[pystac.Item]) -> Bounds:
    """Bounds of all items: west, south, east, north in degrees (EPSG:4326).

    West is greater than east where they lie on both sides of the antimeridian.

    Of items that do not tell where they lie: the whole world.
    """
    bounds = [as_bounds(item.bbox) for item in items if item.bbox]
    return smallest(bounds or [(-180.0, -90.0, 180.0, 90.0)])
