from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from area import Area, make_project
from land_cover.config import ProjectConfig
from land_cover.ingest import _absolute, ingest, read_items
from terraflow.errors import DataError
from terraflow.storage import Storage

ONES = np.ones((4, 4), "uint8")


def project_of(area: Area, start: str = "2024-01-01", end: str = "2024-12-31") -> ProjectConfig:
    data = {"catalogue": str(area.save()), "start": start, "end": end, "bands": {"red": "B04"}}
    return make_project(data=data)


def test_ingest_takes_the_dates_both_days_included(area: Area, storage: Storage) -> None:
    for day in ("2024-06-30", "2024-04-01", "2024-05-01", "2024-07-01"):
        area.add(day, np.ones((4, 4), "uint16"), ONES)
    selection = ingest(project_of(area, "2024-04-01", "2024-06-30"), storage)
    items = read_items(selection["items"], storage)
    assert [item.id for item in items] == ["2024-04-01", "2024-05-01", "2024-06-30"]
    assert Path(items[0].assets["B04"].href).is_absolute()


def test_ingest_twice_gives_the_same_uri(area: Area, storage: Storage) -> None:
    area.add("2024-04-01", np.ones((4, 4), "uint16"), ONES)
    assert ingest(project_of(area), storage) == ingest(project_of(area), storage)


def test_ingest_no_item_in_the_dates_gives_the_span(area: Area, storage: Storage) -> None:
    area.add("2024-04-01", np.ones((4, 4), "uint16"), ONES)
    wanted = r"between 2030-01-01 and 2030-02-01; its 1 items lie between 2024-04-01 and 2024-04-01"
    with pytest.raises(DataError, match=wanted):
        ingest(project_of(area, "2030-01-01", "2030-02-01"), storage)


def test_ingest_empty_catalogue_is_told(area: Area, storage: Storage) -> None:
    with pytest.raises(DataError, match="it holds no item at all"):
        ingest(project_of(area), storage)


def test_ingest_missing_catalogue_is_named(storage: Storage) -> None:
    data = {"catalogue": "/nowhere.json", "start": "2024-01-01", "end": "2024-12-31",
            "bands": {"red": "B04"}}  # fmt: skip
    with pytest.raises(DataError, match=r"Catalogue /nowhere\.json can't be read"):
        ingest(make_project(data=data), storage)


def test_ingest_json_that_is_no_catalogue_is_refused(tmp_path: Path, storage: Storage) -> None:
    (tmp_path / "c.json").write_text(json.dumps({"hello": 1}))
    data = {"catalogue": str(tmp_path / "c.json"), "start": "2024-01-01", "end": "2024-12-31",
            "bands": {"red": "B04"}}  # fmt: skip
    with pytest.raises(DataError, match="Expected a static STAC catalogue"):
        ingest(make_project(data=data), storage)


@pytest.mark.parametrize(
    ("href", "base", "expected"),
    [
        ("./red.tif", "/data/a/item.json", "/data/a/red.tif"),
        ("../b/red.tif", "s3://eo-data/a/item.json", "s3://eo-data/b/red.tif"),
        ("red.tif", "https://example.org/a/item.json", "https://example.org/a/red.tif"),
        ("s3://other/red.tif", "/data/a/item.json", "s3://other/red.tif"),
        ("/data/red.tif", "s3://eo-data/item.json", "/data/red.tif"),
    ],
)
def test_absolute_href(href: str, base: str, expected: str) -> None:
    assert _absolute(href, base) == expected


def test_ingest_simulated_area_is_made_once_and_says_that_it_is(storage: Storage) -> None:
    project = make_project(
        data={"start": "2024-04-01", "end": "2024-09-30", "bands": {"red": "B04"}}
    )
    first = ingest(project, storage)
    items = read_items(first["items"], storage)
    assert len(items) == 6
    assert all(item.properties["simulated"] and "SIMULATED" in item.id for item in items)
    assert all(set(item.assets) == {"B02", "B03", "B04", "B08", "B11", "SCL"} for item in items)
    image = Path(items[0].assets["B04"].href)
    before = image.stat().st_mtime_ns
    assert ingest(project, storage) == first
    assert image.stat().st_mtime_ns == before
