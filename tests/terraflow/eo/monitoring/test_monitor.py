from __future__ import annotations

import io
import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest

from area import Area, make_project, write_labels
from maps import make_model
from terraflow.eo.features import windows
from terraflow.eo.hooks import Hooks
from terraflow.eo.images.collection import Images
from terraflow.eo.models.model import LoadedModel
from terraflow.eo.monitoring import monitor as step_module
from terraflow.eo.monitoring.monitor import draw_pixels, monitor
from terraflow.eo.monitoring.monitored import Monitored
from terraflow.eo.monitoring.served import served_uri
from terraflow.eo.project import OpenProject, Project
from terraflow.eo.samples.preprocess import preprocess
from terraflow.errors import ConfigError, DataError, NothingToDoError
from terraflow.settings import Settings
from terraflow.storage import Storage
from terraflow.tracking import runs as tracking

SIDE = 16


def write_scene(folder: Path, *, brighter: int = 0, day: str = "2024-01-05", clear: int = 1) -> str:
    """An item of dark water in the west and bright forest in the east, and where it is listed."""
    random = np.random.default_rng(0)
    red = np.full((SIDE, SIDE), 5000)
    red[:, : SIDE // 2] = 2000
    red += random.integers(-500, 500, red.shape) + brighter
    area = Area(folder)
    area.add(day, red.astype("uint16"), np.full(red.shape, clear, "uint8"))
    return str(area.save())


@dataclass
class World:
    """A model whose run names the pixels that `preprocess` really drew."""

    model: LoadedModel
    items: str
    population: str
    storage: Storage
    folder: Path

    def monitor(self, items: str, **thresholds: Any) -> Monitored:
        return monitor(self.model, items, self.storage, **thresholds)


@pytest.fixture
def world(tracked_settings: Settings, tmp_path: Path, request: pytest.FixtureRequest) -> World:
    storage = Storage(tracked_settings)
    project = make_project(name=re.sub("[^a-z0-9]+", "-", request.node.name.lower()).strip("-"))
    items = write_scene(tmp_path / "training")
    labels = str(write_labels(tmp_path / "labels.gpkg"))
    prepared = preprocess(project, Hooks(), Images(items=items, labels=labels), storage)
    tags = {"population": prepared.population}
    with tracking.start_run(tracked_settings, project.name, name="train", tags=tags) as run:
        pass
    model = make_model(project, run_id=run.info.run_id)
    return World(model, items, prepared.population, storage, tmp_path)


def test_monitor_items_of_the_training_are_stable_and_logged(world: World) -> None:
    result = world.monitor(world.items)
    assert result.pixels == SIDE**2
    assert set(result.drift.psi.values()) == {0.0}
    assert result.drift.outside_range == 0
    assert result.predicted == {"forest": (0.5, 0.5), "water": (0.5, 0.5)}
    assert (result.drifted, result.exit_code) == (False, 0)
    run = mlflow.get_run(result.run_id)
    assert run.info.status == "FINISHED"
    experiment = mlflow.get_experiment(run.info.experiment_id).name
    assert experiment == f"{world.model.config.name}-monitoring"
    assert run.data.tags["items"] == world.items
    assert run.data.tags["model"] == "models:/land-cover@champion"
    assert (run.data.tags["model_version"], run.data.tags["drifted"]) == ("3", "false")
    assert run.data.metrics["psi_red_2024-01"] == 0
    assert run.data.metrics["predicted_water"] == 0.5
    assert run.data.metrics["predicted_training_water"] == 0.5
    files = {file.path for file in mlflow.MlflowClient().list_artifacts(result.run_id)}
    assert files == {"drift.json", "drift.png"}
    logged = mlflow.artifacts.load_dict(f"runs:/{result.run_id}/drift.json")
    assert logged == json.loads(json.dumps(result.to_dict()))


def test_monitor_brighter_items_have_drifted(world: World) -> None:
    result = world.monitor(write_scene(world.folder / "new", brighter=4000))
    assert (result.drifted, result.exit_code) == (True, 3)
    assert result.drift.psi["red_max"] > 1
    assert result.drift.psi["red_std"] == 0  # one date has no spread, then and now
    assert result.drift.outside_per_feature == {"red_2024-01": 1.0, "red_max": 1.0, "red_std": 0.0}
    assert result.drift.outside_range == 1.0
    assert result.predicted["water"] == (0.5, 0.0)
    metrics = mlflow.get_run(result.run_id).data.metrics
    assert metrics["max_psi"] == max(result.drift.psi.values())
    assert metrics["outside_range"] == result.drift.outside_range


@pytest.mark.parametrize(
    ("thresholds", "drifted"),
    [
        ({"max_psi": 100.0, "max_outside_range": 1.0}, False),
        ({"max_psi": 100.0}, True),
        ({"max_outside_range": 1.0}, True),
    ],
)
def test_monitor_thresholds_of_the_call_count(
    world: World, thresholds: dict[str, float], drifted: bool
) -> None:
    items = write_scene(world.folder / "new", brighter=4000)
    assert world.monitor(items, **thresholds).drifted == drifted


@pytest.mark.parametrize(
    ("thresholds", "message"),
    [
        ({"max_psi": 0.0}, "max_psi is 0; give a number above 0"),
        ({"max_outside_range": 20.0}, "max_outside_range is 20; give a share"),
    ],
)
def test_monitor_impossible_threshold_is_refused(
    storage: Storage, thresholds: dict[str, float], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        monitor(make_model(), "nowhere", storage, **thresholds)


def test_monitor_no_clear_pixel_is_refused(world: World) -> None:
    items = write_scene(world.folder / "cloudy", clear=0)
    with pytest.raises(DataError, match=r"Only 0 pixels of .* have all 3 features, and 100 are"):
        world.monitor(items)


def test_monitor_items_of_another_year_are_refused_with_both_dates(world: World) -> None:
    items = write_scene(world.folder / "later", day="2025-01-05")
    with pytest.raises(
        NothingToDoError,
        match=r"of 2025-01-05 to 2025-01-05, lies in the model's periods 2024-01 to 2024-01",
    ):
        world.monitor(items)


def test_monitor_missing_training_pixels_are_named(world: World) -> None:
    Path(world.population).unlink()
    with pytest.raises(DataError, match=r"are gone: .*population.parquet does not exist; train"):
        world.monitor(world.items)


def test_monitor_deleted_run_of_the_model_is_named(world: World) -> None:
    world.model = replace(world.model, run_id="0" * 32)
    with pytest.raises(DataError, match=r"are gone: its run '0+' names none; train again"):
        world.monitor(world.items)


def test_monitor_training_pixels_without_a_feature_are_refused(world: World) -> None:
    pixels = pd.read_parquet(io.BytesIO(world.storage.read(world.population)))
    pixels.drop(columns="red_std").to_parquet(world.population)
    with pytest.raises(DataError, match=r"lacks 1 of the 3 features of model .* \(red_std\)"):
        world.monitor(world.items)


def test_monitor_items_with_other_features_are_refused(storage: Storage, tmp_path: Path) -> None:
    model = make_model(info={"features": ["red_2024-01", "red_max", "nir_max"]})
    with pytest.raises(DataError, match=r"missing are nir_max .*too many are red_std"):
        draw_pixels(model, write_scene(tmp_path), storage)


def test_draw_pixels_takes_so_many_at_random_over_all_windows(
    storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("terraflow.eo.monitoring.monitor.POPULATION", 120)
    monkeypatch.setattr(windows, "WINDOW_PX", 4)
    items = write_scene(tmp_path)
    first, again = (draw_pixels(make_model(), items, storage)[0] for _ in range(2))
    assert first.equals(again)
    assert len(first) == 120
    west = (first["red_max"] < 0.25).sum()
    assert 40 < west < 80  # half of them, within about 4 standard deviations


def opened(world: World) -> OpenProject:
    return OpenProject(Project("land_cover"), world.model.config, world.storage)


def test_show_names_what_changed_most(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    project = opened(world)
    assert step_module.show(project, world.monitor(world.items).to_dict()) == 0
    assert "Stable." in capsys.readouterr().out
    result = world.monitor(write_scene(world.folder / "new", brighter=4000))
    assert step_module.show(project, result.to_dict()) == 3
    printed = capsys.readouterr().out
    assert f"256 pixels of {result.items}" in printed
    assert printed.index("red_2024-01") < printed.index("red_std")
    assert "(threshold 0.25)" in printed
    assert "50.0%     0.0%" in printed
    assert "Drifted" in printed
    assert result.url in printed


def test_step_takes_the_champion_and_the_thresholds_of_the_options(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def load(uri: str, *_: Any, **__: Any) -> LoadedModel:
        asked.append(uri)
        return world.model

    monkeypatch.setattr(step_module, "load_model", load)
    monkeypatch.setattr(step_module, "find_champion", lambda name, _: f"models:/{name}/7")
    items = write_scene(world.folder / "new", brighter=4000)
    inputs = {"items": items, "max_psi": 100.0, "max_outside": 1.0}
    result = step_module.step(opened(world), inputs)
    assert (result.max_psi, result.max_outside_range, result.drifted) == (100, 1, False)
    defaults = {"items": items, "max_psi": None, "model": "models:/other/1"}
    assert step_module.step(opened(world), defaults).max_psi == 0.25
    assert asked == [f"models:/{world.model.config.name}/7", "models:/other/1"]


def log_requests(world: World, brighter: float, *, run: str = "", hours: int = 0) -> None:
    """Let a server have logged the training's pixels, made brighter."""
    storage = world.storage
    pixels = pd.read_parquet(io.BytesIO(storage.read(world.population)))[world.model.info.features]
    kept = pixels + brighter
    then = pd.Timestamp.now("UTC") - pd.Timedelta(hours=hours)
    kept = kept.assign(terraflow_time=then, terraflow_run=run or world.model.run_id)
    output = io.BytesIO()
    kept.to_parquet(output, index=False)
    root = served_uri(world.model, storage)
    folder = f"{root}/date={then:%Y-%m-%d}/hour={then:%H}"
    storage.write(f"{folder}/{hours}-{run}.parquet", output.getvalue())


def test_monitor_served_rows_like_the_trainings_are_stable(world: World) -> None:
    log_requests(world, 0, hours=30)
    log_requests(world, 0.5, run="another")
    log_requests(world, 0.5, hours=24 * 8)  # too old
    uri = served_uri(world.model, world.storage)
    result = world.monitor(uri, served=True)
    assert result.pixels == SIDE**2
    assert not result.drifted
    assert result.items == uri


def test_monitor_served_rows_that_are_others_have_drifted(world: World) -> None:
    log_requests(world, 0.5)
    assert world.monitor("", served=True).drifted


def test_monitor_without_a_logged_request_says_how_to_log(world: World) -> None:
    with pytest.raises(DataError, match=r"last 7 days is logged in .*; set \[serving\] log_share"):
        world.monitor("", served=True)


def test_monitor_too_few_served_rows_are_a_sentence(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    log_requests(world, 0)
    monkeypatch.setattr(step_module, "MIN_PIXELS", 10_000)
    with pytest.raises(DataError, match=r"Only 256 rows of requests to .* 10000 are needed; raise"):
        world.monitor("", served=True)


def test_step_items_and_served_are_refused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step_module, "load_model", lambda *_, **__: world.model)
    project = OpenProject(Project("area"), world.model.config, world.storage)
    inputs = {"model": "models:/m/1", "items": "x", "served": True}
    with pytest.raises(ConfigError, match="Both images and requests are named; leave out"):
        step_module.step(project, inputs)
    log_requests(world, 0)
    del inputs["items"]
    assert not step_module.step(project, inputs).drifted
