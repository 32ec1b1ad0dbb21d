"""From a STAC catalogue to the list of items to use."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urljoin

import pystac
from pystac.stac_io import DefaultStacIO

from terraflow.errors import DataError, StorageError
from terraflow.storage import Storage, join

from .config import ProjectConfig
from .simulate import make_area

__all__ = ["Selection", "ingest", "read_items"]

Selection = dict[str, str]


def ingest(project: ProjectConfig, storage: Storage) -> Selection:
    """Select the items of the dates and write their list into the store.

    Returns
    -------
    dict
        "items": URI of a STAC item collection with absolute hrefs; "labels": URI of the polygons.

    Raises
    ------
    DataError
        The catalogue can't be read, or no item lies in the dates.
    StorageError
        The store can't be written.
    """
    root = storage.settings.data_uri
    catalogue, labels = project.data.catalogue, project.labels.source
    if project.simulated:
        catalogue, simulated = make_area(storage, root, seed=project.seed)
        labels = simulated if labels == "simulated" else labels
    items = _select(_all_items(catalogue, storage), project, catalogue)
    features = [_with_absolute_hrefs(item) for item in items]
    document = json.dumps({"type": "FeatureCollection", "features": features}, sort_keys=True)
    digest = hashlib.sha256(document.encode()).hexdigest()[:12]
    uri = join(root, project.name, f"items-{digest}.json")
    return {"items": storage.write(uri, document.encode()), "labels": labels}


def read_items(uri: str, storage: Storage) -> list[pystac.Item]:
    """Read what `ingest` wrote, sorted by time."""
    features = json.loads(storage.read(uri))["features"]
    return [pystac.Item.from_dict(feature) for feature in features]


class _StacIO(DefaultStacIO):
    """Lets pystac read from the store."""

    def __init__(self, storage: Storage) -> None:
        super().__init__()
        self.storage = storage

    def read_text_from_href(self, href: str) -> str:
        return self.storage.read(href).decode()


def _all_items(catalogue: str, storage: Storage) -> list[pystac.Item]:
    try:
        root = pystac.Catalog.from_file(catalogue, stac_io=_StacIO(storage))
        return list(root.get_items(recursive=True))
    except (StorageError, pystac.STACError, pystac.STACTypeError, ValueError, KeyError) as error:
        raise DataError(
            f"Catalogue {catalogue} can't be read: {error} Expected a static STAC catalogue; "
            "check [data] catalogue in the configuration."
        ) from error


def _select(items: list[pystac.Item], project: ProjectConfig, catalogue: str) -> list[pystac.Item]:
    start, end = project.data.start, project.data.end
    times = {item.id: _time(item) for item in items}
    chosen = [item for item in items if start <= times[item.id].date() <= end]
    if not chosen:
        span = (
            f"its {len(items)} items lie between {min(times.values()):%Y-%m-%d} and "
            f"{max(times.values()):%Y-%m-%d}"
            if items
            else "it holds no item at all"
        )
        raise DataError(
            f"No item of {catalogue} lies between {start} and {end}; {span}; change [data] start "
            "and end."
        )
    return sorted(chosen, key=lambda item: (times[item.id], item.id))


def _time(item: pystac.Item) -> datetime:
    time = item.datetime or item.common_metadata.start_datetime
    if time is None:
        raise DataError(f"Item {item.id} has no datetime; add one to the catalogue.")
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _with_absolute_hrefs(item: pystac.Item) -> dict[str, Any]:
    base = item.get_self_href() or ""
    document = item.to_dict(include_self_link=False, transform_hrefs=False)
    document["links"] = []
    for asset in document["assets"].values():
        asset["href"] = _absolute(asset["href"], base)
    return document


def _absolute(href: str, base: str) -> str:
    if "://" in href or href.startswith("/"):
        return href
    if base.startswith("s3://"):  # urljoin knows no s3
        return "s3://" + urljoin("http://" + base.removeprefix("s3://"), href).removeprefix(
            "http://"
        )
    return urljoin(base, href)
