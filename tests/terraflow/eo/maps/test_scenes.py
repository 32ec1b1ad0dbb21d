from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from area import Area, make_project
from maps import make_model
from terraflow.eo.images.collection import of_month, read_items, write_part
from terraflow.eo.images.places import (
    collections_since,
    latest_collection,
    list_collections,
    project_root,
)
from terraflow.eo.maps import scenes as step_module
from terraflow.eo.maps.map import make_map
from terraflow.eo.maps.scenes import Scenes, find_scenes, show
from terraflow.eo.models.model import LoadedModel
from terraflow.eo.project import OpenProject, Project
from terraflow.errors import ConfigError, NothingToDoError
from terraflow.storage import Storage

DAYS = ("2023-03-01", "2024-01-05", "2024-01-25", "2024-03-01")


@pytest.fixture
def collection(area: Area, storage: Storage) -> str:
    """A collection in the store, of four days."""
    red = np.full((20, 24), 3000, dtype="uint16")
    for day in DAYS:
        area.add(day, red, np.ones((20, 24), "uint8"))
    for item in area.items:
        item.bbox = [15.0, 46.0, 15.1, 46.1]
    return write_part(area.items, project_root("land-cover", storage), storage)


def of_year_model() -> LoadedModel:
    project = make_project(features={"composites": "month_of_year"})
    names = ["red_01", "red_max", "red_std"]
    return make_model(project, info={"features": names, "periods": ["01", "03"]})


def rows(found: Scenes) -> list[tuple[str, int]]:
    return [(scene.scene, scene.images) for scene in found.scenes]


def test_scenes_take_a_years_images_up_to_their_day(collection: str, storage: Storage) -> None:
    found = find_scenes(of_year_model(), [collection], storage)
    assert rows(found) == [
        ("2023-03-01", 1),
        ("2024-01-05", 2),
        ("2024-01-25", 3),
        ("2024-03-01", 3),  # the first of March is 366 days before
    ]


def test_scenes_of_a_number_of_days(collection: str, storage: Storage) -> None:
    found = find_scenes(of_year_model(), [collection], storage, days=21)
    assert [images for _, images in rows(found)] == [1, 1, 2, 1]


def test_scenes_of_whole_composites_stand_alone(collection: str, storage: Storage) -> None:
    project = make_project(features={"composites": "whole"})
    model = make_model(project, info={"periods": ["all"]})
    assert [images for _, images in rows(find_scenes(model, [collection], storage))] == [1] * 4


def test_scenes_outside_the_models_periods_are_counted_not_listed(
    collection: str, storage: Storage
) -> None:
    found = find_scenes(make_model(), [collection], storage, days=1)  # composites of 2024-01
    assert [scene for scene, _ in rows(found)] == ["2024-01-05", "2024-01-25"]
    assert found.other_periods == 2


def test_scenes_of_two_collections_alike_are_listed_once(collection: str, storage: Storage) -> None:
    part = write_part(
        read_items(collection, storage)[:2], "/".join(collection.split("/")[:-2]), storage
    )
    model = of_year_model()
    both = find_scenes(model, [collection, part], storage)
    assert rows(both) == rows(find_scenes(model, [collection], storage))


def test_scene_is_mapped_once_its_map_is_there(collection: str, storage: Storage) -> None:
    model = replace(make_model(), config=make_project())
    before = find_scenes(model, [collection], storage, days=1)
    assert not any(scene.mapped for scene in before.scenes)
    first = before.scenes[0]
    assert make_map(model, first.items, storage).map == first.map
    after = find_scenes(model, [collection], storage, days=1)
    assert [scene.mapped for scene in after.scenes] == [True, False]


@pytest.fixture
def opened(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> OpenProject:
    monkeypatch.setattr(step_module, "load_model", lambda *_, **__: of_year_model())
    monkeypatch.setattr(step_module, "find_champion", lambda name, _: f"models:/{name}/3")
    return OpenProject(Project("land_cover"), make_project(), storage)


def test_step_takes_the_collections_of_an_event_before_the_latest(
    collection: str, opened: OpenProject, capsys: pytest.CaptureFixture[str]
) -> None:
    inputs: dict[str, Any] = {"collections": [collection], "items": "", "unmapped": True}
    found = step_module.step(opened, inputs)
    assert len(found.scenes) == 4
    assert "4 of 4 scenes have no map" in capsys.readouterr().out
    assert show(opened, found.to_dict()) == 0
    assert "2024-03-01" in capsys.readouterr().out


def test_step_without_images_says_how_to_bring_them(opened: OpenProject) -> None:
    with pytest.raises(NothingToDoError, match=r"no images of .* yet; `invoke ingest` brings"):
        step_module.step(opened, {})


def test_latest_collection_is_the_one_written_last(collection: str, storage: Storage) -> None:
    items = read_items(collection, storage)
    root = project_root("land-cover", storage)
    assert list_collections("land-cover", storage) == []  # parts are none
    for name in ("b", "a"):
        Path(root).mkdir(parents=True, exist_ok=True)
        (Path(root) / f"collection-{name}.json").write_text("{}")
    (Path(root) / "collection-b.json").touch()
    found = list_collections("land-cover", storage)
    assert sorted(found) == [f"{root}/collection-a.json", f"{root}/collection-b.json"]
    assert latest_collection("land-cover", storage) == f"{root}/collection-b.json"
    assert len(items) == 4


def test_of_month_takes_the_scenes_of_one_month(collection: str, storage: Storage) -> None:
    root = project_root("land-cover", storage)
    uri, month = of_month(collection, "latest", root, storage)
    assert (len(read_items(uri, storage)), month) == (1, "2024-03")
    uri, month = of_month(collection, "2024-01", root, storage)
    assert (len(read_items(uri, storage)), month) == (2, "2024-01")


@pytest.mark.parametrize(
    ("month", "error", "told"),
    [
        ("spring", ConfigError, "--month 'spring' is no month; write it as 2024-05, or latest"),
        ("2024-13", ConfigError, "is no month"),
        ("2020-01", NothingToDoError, "of 2023-03 to 2024-03, lies in 2020-01"),
    ],
)
def test_of_month_that_is_none_is_refused(
    month: str, error: type[Exception], told: str, collection: str, storage: Storage
) -> None:
    with pytest.raises(error, match=told):
        of_month(collection, month, project_root("land-cover", storage), storage)


def test_collections_since_take_in_what_came_later(storage: Storage) -> None:
    root = project_root("land-cover", storage)
    written = [f"{root}/collection-{name}.json" for name in "cab"]
    for uri in written:
        storage.write(uri, b"{}")
        time.sleep(0.01)  # the store tells them apart by time
    first, second, third = written
    assert collections_since([first], "land-cover", storage) == written
    assert collections_since([third, second, second], "land-cover", storage) == [second, third]
    assert collections_since(["s3://far/c.json"], "land-cover", storage) == ["s3://far/c.json"]
    assert collections_since(["x", second], "land-cover", storage) == ["x", second, third]
