from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pystac
import pytest

from terraflow.eo.config.digests import code_closure
from terraflow.eo.images.collection import (
    DIGEST,
    Images,
    extent,
    read_digest,
    read_items,
    write_collection,
)
from terraflow.errors import DataError, StorageError
from terraflow.storage import Storage, join


def item(name: str, day: int, *, checksum: str = "1220aa", west: float = 14) -> pystac.Item:
    found = pystac.Item(
        name, None, [west, 46, west + 1, 47], datetime(2024, 5, day, tzinfo=UTC), {}
    )
    asset = pystac.Asset("/images/red.tif", extra_fields={"file:checksum": checksum})
    found.add_asset("red", asset)
    return found


def write(items: list[pystac.Item], storage: Storage, root: str = "") -> tuple[str, str]:
    root = root or join(storage.settings.data_uri, "area")
    uris = {join(root, "items", f"{i.id}.json"): i for i in items}
    for uri, i in uris.items():
        plain = i.to_dict(include_self_link=False, transform_hrefs=False)
        storage.write(uri, json.dumps(plain).encode())
    return write_collection("area", root, uris, storage)


def test_write_collection_reads_back_sorted_by_time_and_id(storage: Storage) -> None:
    uri, _ = write([item("c", 3), item("b", 1), item("a", 3)], storage)
    found = read_items(uri, storage)
    assert [i.id for i in found] == ["b", "a", "c"]
    assert found[0].assets["red"].href == "/images/red.tif"


def test_write_collection_tells_extent_and_dates(storage: Storage) -> None:
    uri, _ = write([item("a", 3, west=14), item("b", 9, west=16)], storage)
    document = json.loads(storage.read(uri))
    assert document["extent"]["spatial"]["bbox"] == [[14, 46, 17, 47]]
    assert document["extent"]["temporal"]["interval"] == [
        ["2024-05-03T00:00:00Z", "2024-05-09T00:00:00Z"]
    ]
    assert document["id"] == "area"


def test_write_collection_digest_is_of_the_checksums_in_any_order(storage: Storage) -> None:
    one, two = item("a", 1, checksum="1220aa"), item("b", 2, checksum="1220bb")
    uri, digest = write([one, two], storage)
    assert read_digest(uri, storage) == digest
    assert write([two, one], storage)[1] == digest
    elsewhere = write([one, two], storage, join(storage.settings.data_uri, "elsewhere"))
    assert elsewhere[1] == digest
    others = {
        write([one], storage)[1],
        write([one, item("b", 2, checksum="1220cc")], storage)[1],
        write([item("a", 1, checksum="1220bb"), item("b", 2, checksum="1220aa")], storage)[1],
    }
    assert len(others | {digest}) == 4


def test_write_collection_of_the_same_items_has_the_same_uri_and_of_others_another(
    storage: Storage,
) -> None:
    first, _ = write([item("a", 1)], storage)
    assert write([item("a", 1)], storage)[0] == first
    assert write([item("a", 1), item("b", 2)], storage)[0] != first
    assert storage.exists(first)  # what an older run used stays


def test_write_collection_is_named_by_what_its_items_say_not_by_where_copies_lie_or_by_order(
    storage: Storage,
) -> None:
    root = join(storage.settings.data_uri, "area")

    def named(*items: pystac.Item, folder: str = "items") -> str:
        return write_collection(
            "area", root, {join(root, folder, f"{i.id}.json"): i for i in items}, storage
        )[0]

    first = named(item("a", 1), item("b", 2))
    assert named(item("b", 2), item("a", 1)) == first
    assert named(item("a", 1), item("b", 2), folder="copied-again") == first
    moved, scaled, unchecked = item("a", 1), item("a", 1), item("a", 1)
    moved.assets["red"].href = "/images/red-2.tif"
    assert named(moved, item("b", 2)) == first
    scaled.assets["red"].extra_fields["raster:bands"] = [{"scale": 2}]
    assert named(scaled, item("b", 2)) != first
    del unchecked.assets["red"].extra_fields["file:checksum"]
    told = named(unchecked)
    unchecked.assets["red"].href = "/images/red-2.tif"  # nothing else tells what it is
    assert named(unchecked) != told


def test_read_digest_of_another_catalogue_is_empty(tmp_path: Path, storage: Storage) -> None:
    path = tmp_path / "catalog.json"
    path.write_text('{"type": "Catalog"}')
    assert read_digest(str(path), storage) == ""
    assert DIGEST not in path.read_text()


def test_read_digest_missing_collection_is_refused(tmp_path: Path, storage: Storage) -> None:
    with pytest.raises(StorageError, match="nowhere"):
        read_digest(str(tmp_path / "nowhere.json"), storage)


def test_read_items_empty_collection_is_refused(tmp_path: Path, storage: Storage) -> None:
    path = tmp_path / "none.json"
    path.write_text('{"type": "FeatureCollection", "features": []}')
    with pytest.raises(DataError, match=r"none\.json holds no item at all; name a collection"):
        read_items(str(path), storage)


def test_extent_holds_all_items() -> None:
    assert extent([item("a", 1, west=14), item("b", 1, west=-3)]) == (-3, 46, 15, 47)


def test_images_reads_what_a_later_step_returned() -> None:
    outputs = {"items": "a.json", "labels": "b.gpkg", "samples": "c.parquet", "record_version": 1}
    assert Images.model_validate(outputs) == Images(items="a.json", labels="b.gpkg")


def test_collection_does_not_import_the_downloader() -> None:
    closure = code_closure("terraflow.eo.images.collection")
    assert "terraflow.eo.images.sources.search" in closure
    assert "terraflow.eo.images.download" not in closure
    assert "terraflow.eo.images.ingest" not in closure
