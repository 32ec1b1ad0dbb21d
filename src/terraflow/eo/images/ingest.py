"""From a catalogue or files to a STAC collection in the store, clipped to the area."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pystac
from shapely.geometry import mapping
from shapely.geometry.base import BaseGeometry

from terraflow.console import say
from terraflow.eo.config.addresses import without_query
from terraflow.eo.config.bounds import Bounds, as_geometry
from terraflow.eo.config.imagery import SIMULATED
from terraflow.eo.config.project_file import ProjectConfig
from terraflow.eo.config.step import Configured
from terraflow.eo.images.assets import Image, find_images, name_source
from terraflow.eo.images.collection import Images, extent, write_collection
from terraflow.eo.images.download import Copy, Downloader
from terraflow.eo.images.places import project_root
from terraflow.eo.images.products.sentinel_2 import tell_assumed
from terraflow.eo.images.sources.local_files import find_files
from terraflow.eo.images.sources.search import find_items
from terraflow.eo.images.sources.selection import (
    AREA,
    area_bounds,
    bounds_text,
    outline_file,
    read_area,
    select,
)
from terraflow.eo.images.sources.signing import sign
from terraflow.eo.images.sources.simulate import make_area
from terraflow.eo.images.sources.solar_days import dates_text
from terraflow.errors import DataError
from terraflow.storage import Storage, join

__all__ = ["copy_item", "find_labels", "find_waiting", "ingest", "show", "step"]

#: Part of every name, to be raised when copies are made otherwise.
FORMAT = "3"
EXTENSIONS = [
    "https://stac-extensions.github.io/projection/v2.0.0/schema.json",
    "https://stac-extensions.github.io/raster/v1.1.0/schema.json",
    "https://stac-extensions.github.io/file/v2.1.0/schema.json",
]
#: Of a source's properties and extensions what the copies tell for themselves.
REPLACED = (
    "proj:",
    "raster:",
    "file:",
    "earthsearch:boa_offset",
    "/projection/",
    "/raster/",
    "/file/",
)


def ingest(config: ProjectConfig, storage: Storage) -> Images:
    """Copy the configured images of the area and dates into the store.

    What is there is not copied again, so that a second run downloads nothing, one that was stopped
    goes on, and later dates add to the earlier. A file that changes under the same address is seen
    if it is a local file only.

    Returns
    -------
    Images

    Raises
    ------
    DataError
        The source can't be read, or nothing in it fits the configuration.
    StorageError
        The store can't be written.

    References
    ----------
    https://github.com/radiantearth/stac-spec/blob/v1.1.0/collection-spec/collection-spec.md
    """
    area = read_area(config.data, storage)
    bounds = area_bounds(area) if area is not None else None
    root = project_root(config.name, storage)
    if area is not None and config.data.has_outline:
        storage.write(*outline_file(area, root))
    tasks = _plan(config, storage, area)
    downloader = Downloader(storage, bounds, sign=lambda href: sign(href, config.data))
    copied = _copy(tasks, downloader)
    found = [pystac.Item.from_dict(json.loads(storage.read(uri))) for uri in _uris(tasks)]
    inside = {uri: i for uri, i in zip(_uris(tasks), found, strict=True) if i.assets}
    if bounds and not inside:
        raise DataError(
            f"No image reaches the area {bounds_text(bounds)} (west, south, east, north in "
            f"degrees); those of {len(found)} items lie within {bounds_text(extent(found))}; "
            "change [data] area."
        )
    uri, digest = write_collection(config.name, root, inside, storage)
    what = "simulated items" if config.simulated else "items"
    say(f"{len(inside)} {what}, {copied} images copied now, digest of all images {digest[:12]}")
    say(f"Of {dates_text(list(inside.values()))}")
    return Images(items=uri, labels=find_labels(config, storage))


def copy_item(
    item: pystac.Item, keys: Sequence[str], root: str, storage: Storage, *, mask: str = ""
) -> str:
    """Copy the named images of one item, each into a file of its own, as `ingest` does.

    Parameters
    ----------
    mask : str
        Which of them is the cloud mask.
    root : str
        Folder or URI for the copies.

    Returns
    -------
    str
        URI of the copied item.

    Raises
    ------
    DataError
        The item lacks one, or an image can't be read.
    StorageError
        They can't be written.
    """
    [images] = find_images([item], keys, mask)
    task = _Task(root, item, images, None)
    _copy([task], Downloader(storage))
    return task.uri


def find_waiting(config: ProjectConfig, storage: Storage) -> list[str]:
    """List the ids of the configured items that are not in the store yet.

    Raises
    ------
    DataError
        The source can't be read, or nothing in it fits the configuration.
    StorageError
        The store does not answer.
    """
    tasks = _plan(config, storage, read_area(config.data, storage))
    return [task.item.id for task in tasks if not storage.exists(task.uri)]


def _plan(config: ProjectConfig, storage: Storage, area: BaseGeometry | None) -> list[_Task]:
    """Name what is to be copied, whether it is there or not."""
    bounds = area_bounds(area) if area is not None else None
    root = project_root(config.name, storage)
    items = _find_sources(config, storage, area)
    mask = config.cloud_mask.asset if config.cloud_mask else ""
    images = find_images(items, list(config.data.bands.values()), mask)
    outline = ""
    if area is not None and config.data.has_outline:
        outline, _ = outline_file(area, root)
    return [
        _Task(root, item, these, bounds, outline) for item, these in zip(items, images, strict=True)
    ]


def step(project: Configured, inputs: Mapping[str, Any]) -> Images:
    """Ingest, or take the collection that `items` names."""
    if items := inputs.get("items"):
        return Images(items=items, labels=find_labels(project.config, project.storage))
    return ingest(project.config, project.storage)


def show(project: Configured, outputs: Mapping[str, Any]) -> int:
    """Tell where the collection is."""
    del project
    say(f"Collection: {outputs['items']}")
    return 0


def find_labels(config: ProjectConfig, storage: Storage) -> str:
    """URI of the reference data: the configured ones, or those of the simulated area.

    Raises
    ------
    StorageError
        The store can't be written.
    """
    if config.simulated and config.labels.source == SIMULATED:
        return _simulate(config, storage)[1]
    return config.labels.source


class _Task:
    """One item to copy; its names tell what is copied from where, and of which area."""

    def __init__(
        self,
        root: str,
        item: pystac.Item,
        images: Sequence[Image],
        bounds: Bounds | None,
        outline: str = "",
    ) -> None:
        self.item = item
        self.properties = _kept(item.properties) | ({AREA: outline} if outline else {})
        folder = join(root, "images", _slug(item.id))
        self.images = {
            join(folder, f"{_slug(image.key)}-{_hash(name_source(image), bounds)}.tif"): image
            for image in images
        }
        told = (list(self.images), item.properties, item.datetime, *([outline] if outline else []))
        self.uri = join(root, "items", f"{_slug(item.id)}-{_hash(*told)}.json")

    def document(self, copies: dict[str, Copy]) -> bytes:
        """Write the item; without assets if an image of it does not reach the area."""
        mine = [copies[uri] for uri in self.images]
        outside = [copy for copy in mine if copy.asset is None]
        bounds = (outside or mine)[0].bounds
        source = self.item
        item = pystac.Item(
            source.id,
            geometry=mapping(as_geometry(bounds)),
            bbox=list(bounds),
            datetime=source.datetime,
            properties=self.properties,
            stac_extensions=[
                *(e for e in source.stac_extensions if not any(r in e for r in REPLACED)),
                *EXTENSIONS,
            ],
        )
        for copy, image in zip(mine, self.images.values(), strict=True):
            if copy.asset and not outside:
                item.add_asset(image.key, copy.asset)
        origin = source.get_self_href() or ""
        if "://" in origin:
            item.add_link(pystac.Link("derived_from", without_query(origin)))
        return _json(item.to_dict(include_self_link=False, transform_hrefs=False))


def _find_sources(
    config: ProjectConfig, storage: Storage, area: BaseGeometry | None
) -> list[pystac.Item]:
    data, catalogue = config.data, config.data.catalogue
    if data.files:
        items = find_files(data.files, data.name_pattern, data.date_format)
        items = select(items, data, data.files, area)
        tell_assumed(items)
        return items
    if config.simulated:
        catalogue, _ = _simulate(config, storage)
    return find_items(data, catalogue, storage, area)


def _simulate(config: ProjectConfig, storage: Storage) -> tuple[str, str]:
    return make_area(storage, storage.settings.data_uri, seed=config.seed)


def _copy(tasks: Iterable[_Task], downloader: Downloader) -> int:
    """Copy what is not there, and write each item when its images are; count the images."""
    storage = downloader.storage
    waiting = {task.uri: task for task in tasks if not storage.exists(task.uri)}
    owners: dict[str, list[_Task]] = {}  # one image may be of several items
    for task in waiting.values():
        for uri in task.images:
            owners.setdefault(uri, []).append(task)
    if not owners:
        return 0
    copies: dict[str, Copy] = {}
    for uri, copy in downloader.copy_all({u: of[0].images[u] for u, of in owners.items()}):
        copies[uri] = copy
        for task in owners[uri]:
            if task.images.keys() <= copies.keys():
                storage.write(task.uri, task.document(copies))
    return len(copies)


def _uris(tasks: Iterable[_Task]) -> list[str]:
    return list(dict.fromkeys(task.uri for task in tasks))


def _kept(properties: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in properties.items() if not key.startswith(REPLACED)}


def _hash(*parts: object) -> str:
    return hashlib.sha256(repr((FORMAT, *parts)).encode()).hexdigest()[:12]


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]", "_", text)[:100]


def _json(document: dict[str, Any]) -> bytes:
    return json.dumps(document, sort_keys=True).encode()
