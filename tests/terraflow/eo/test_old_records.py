"""Models, maps and runs made before records had versions are read, and come out the same.

records/before_versions holds what the code of commit fe63009 made of a small area: two projects,
each with its model, map, run and samples.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
import rasterio
import yaml
from mlflow.entities import Param, RunTag

from terraflow.eo.config.project_file import ProjectConfig, read_recorded
from terraflow.eo.config.sections import Map
from terraflow.eo.hooks import Hooks
from terraflow.eo.images.collection import Images
from terraflow.eo.maps import map as map_step
from terraflow.eo.maps.map import Mapped, make_map
from terraflow.eo.maps.map_file import read_info
from terraflow.eo.maps.map_origin import MapOrigin
from terraflow.eo.maps.origin import describe
from terraflow.eo.maps.report import report
from terraflow.eo.maps.reproduce import compare_maps, reproduce
from terraflow.eo.models.model import LoadedModel, load_model
from terraflow.eo.monitoring.monitor import monitor
from terraflow.eo.promotion.promote import consider
from terraflow.eo.samples.preprocess import Prepared, preprocess, read_report
from terraflow.eo.targets.classes.classification import Classification
from terraflow.eo.targets.vectors.account import LabelAccount
from terraflow.eo.training.held_out import read_data_report
from terraflow.eo.training.train import train
from terraflow.errors import DataError
from terraflow.settings import Settings
from terraflow.storage import Storage
from terraflow.tracking import registry
from terraflow.tracking import runs as tracking

RECORDS = Path(__file__).resolve().parents[1] / "records" / "before_versions"
FEATURES = ["red_2024-01", "red_2024-02", "red_max", "red_std"]
CLASSES = ["forest", "water"]


@dataclass(frozen=True)
class Old:
    """One of the projects, in a folder of its own, with its run on a real server."""

    name: str
    folder: Path
    storage: Storage
    run_id: str
    model_id: str

    @property
    def area(self) -> str:
        return str(self.folder / "area" / "catalog.json")

    @property
    def map(self) -> str:
        return str(self.folder / "map.tif")

    @property
    def told(self) -> dict[str, Any]:
        return read_json(self.folder / "run.json")

    def load(self) -> LoadedModel:
        return load_model(str(self.folder / "model"), self.storage.settings, Hooks())

    def config(self, name: str = "") -> ProjectConfig:
        """What the run recorded, of the copied area."""
        recorded = read_json(self.folder / "run" / "config.json")
        recorded["data"]["catalogue"] = self.area
        recorded["labels"]["source"] = str(self.folder / "labels.gpkg")
        return read_recorded(recorded | {"name": name or self.name})

    def prepare(self, name: str) -> tuple[ProjectConfig, Prepared]:
        """Make samples anew, by the present code."""
        config = self.config(name)
        images = Images(items=self.area, labels=config.labels.source)
        return config, preprocess(config, Hooks(), images, self.storage)

    def register(self, name: str) -> str:
        """Make the old model a version and the champion."""
        client = mlflow.MlflowClient()
        if not client.search_registered_models(f"name = '{name}'"):
            client.create_registered_model(name)
        source = client.get_logged_model(self.model_id).artifact_location
        made = client.create_model_version(name, source, self.run_id, model_id=self.model_id)
        for key, value in self.told["version_tags"].items():
            client.set_model_version_tag(name, made.version, key, value)
        client.set_registered_model_alias(name, "champion", made.version)
        return str(made.version)


def read_json(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text())
    return found


@pytest.fixture
def recreate(tracked_settings: Settings, tmp_path: Path) -> Iterator[Callable[..., Old]]:
    """Copy an old project, and make its run again."""
    made: list[Old] = []

    def make(name: str) -> Old:
        folder = tmp_path / f"{name}-{len(made)}"
        shutil.copytree(RECORDS / name, folder)
        shutil.copytree(RECORDS / "area", folder / "area")
        shutil.copy(RECORDS / "labels.gpkg", folder)
        told = read_json(folder / "run.json")
        tags = {key: value for key, value in told["tags"].items() if key != "mlflow.user"}
        tags |= {key: str(folder / f"{key}.parquet") for key in ("samples", "population")}
        tracking.connect(tracked_settings)
        client = mlflow.MlflowClient()
        experiment = mlflow.set_experiment(f"{name}-before").experiment_id
        run_id = client.create_run(experiment, tags=tags).info.run_id
        params = [Param(key, value) for key, value in told["params"].items()]
        client.log_batch(run_id, params=params, tags=[RunTag("kept", "true")])
        for key, value in told["metrics"].items():
            client.log_metric(run_id, key, value)
        model_id = client.create_logged_model(experiment, "model", run_id).model_id
        path = folder / "model" / "MLmodel"
        text = path.read_text().replace(told["run_id"], run_id)
        path.write_text(re.sub("m-[0-9a-f]{32}", model_id, text))
        client.log_model_artifacts(model_id, str(folder / "model"))
        client.finalize_logged_model(model_id, "READY")
        client.log_artifacts(run_id, str(folder / "run"))
        client.set_terminated(run_id)
        made.append(Old(name, folder, Storage(tracked_settings), run_id, model_id))
        return made[-1]

    yield make
    mlflow.set_tracking_uri(None)


@pytest.fixture(params=["old-records", "old-network"])
def old(request: pytest.FixtureRequest, recreate: Callable[[str], Old]) -> Old:
    """Each of the two: a forest, and the small network."""
    return recreate(request.param)


def write_tags(path: str, **tags: str) -> None:
    with rasterio.open(path, "r+", IGNORE_COG_LAYOUT_BREAK="YES") as file:
        file.update_tags(**{f"TERRAFLOW_{key.upper()}": value for key, value in tags.items()})


def map_again(old: Old) -> Mapped:
    output = str(old.folder / "again" / "map.tif")
    return make_map(old.load(), old.area, old.storage, output=output)


def test_load_model_old_model_tells_what_it_told(old: Old) -> None:
    model = old.load()
    recorded = read_json(old.folder / "run" / "config.json")
    assert model.info.levels == CLASSES
    assert model.info.features == FEATURES
    assert model.info.periods == ["2024-01", "2024-02"]
    assert model.info.seed == model.config.seed == 42
    metrics = old.told["metrics"]
    assert model.info.scores == {n: metrics[n] for n in ("macro_f1", "overall_accuracy")}
    assert model.info.code_commit == "fe63009152f9211646c6b143cbc03cf0018ff7ac"
    assert (model.info.record_version, model.info.hooks.target) == (0, "classification")
    assert model.config.labels.field == recorded["labels"]["class_field"] == "kind"
    assert model.config.model.model_dump() == recorded["model"]
    assert model.config.validation.model_dump() == recorded["validation"]
    assert model.run_id == old.run_id


def test_load_model_old_version_of_the_registry_is_the_same(old: Old) -> None:
    name = f"{old.name}-registered"
    version = old.register(name)
    model = load_model(f"models:/{name}@champion", old.storage.settings, Hooks())
    assert (model.version, model.run_id) == (version, old.run_id)
    assert model.info == old.load().info


def test_make_map_by_the_old_model_gives_the_old_pixels(old: Old) -> None:
    made = map_again(old)
    assert compare_maps(old.map, made.map, old.storage).pixels == 0
    with rasterio.open(old.map) as before, rasterio.open(made.map) as now:
        assert (before.read() == now.read()).all()
        assert set(np.unique(before.read(1))) == {1, 2}
        assert before.profile == now.profile
        assert before.colormap(1) == now.colormap(1)
        assert before.descriptions == now.descriptions
        assert before.nodatavals == now.nodatavals
        assert before.colorinterp == now.colorinterp
        assert before.block_shapes == now.block_shapes
        for band in before.indexes:
            assert before.tags(band) == now.tags(band)
            assert before.overviews(band) == now.overviews(band)


def test_make_map_by_the_old_model_gives_the_old_bytes(
    old: Old, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All but what tells the origin, as the commit and the place of the items."""
    with rasterio.open(old.map) as file:
        tags = {
            key.removeprefix("TERRAFLOW_").lower(): value
            for key, value in file.tags().items()
            if key.startswith("TERRAFLOW_")
        }

    class AsBefore(MapOrigin):
        def to_tags(self) -> dict[str, str]:
            return tags

    monkeypatch.setattr(map_step, "make_origin", lambda *_: AsBefore.from_tags(tags))
    made = map_again(old)
    assert Path(made.map).read_bytes() == Path(old.map).read_bytes()


def test_make_map_by_the_old_model_has_the_old_item(old: Old) -> None:
    before, now = read_json(old.folder / "map.json"), read_json(Path(map_again(old).item))
    for key in ("geometry", "bbox", "stac_extensions"):
        assert before[key] == now[key]
    assert before["assets"]["map"]["bands"] == now["assets"]["map"]["bands"]
    assert before["assets"]["map"]["roles"] == now["assets"]["map"]["roles"]
    for key in ("start_datetime", "proj:code", "proj:transform", "mlm:input", "terraflow:seed"):
        assert before["properties"][key] == now["properties"][key]
    assert before["properties"]["terraflow:macro_f1"] == now["properties"]["terraflow:macro_f1"]
    # that of the items is of where they lie
    key = "terraflow:config_digest"
    assert before["properties"][key] == now["properties"][key]


def test_describe_old_map_tells_its_origin(old: Old) -> None:
    info = read_info(old.map, old.storage)
    assert (info.origin.record_version, info.origin.target) == (0, "classification")
    rows = dict(describe(info))
    assert rows["model"] == f"models:/{old.name}/1"
    assert rows["run"] == old.told["run_id"]
    assert rows["TerraFlow"] == "0.1.0"
    assert rows["code commit"] == rows["mapped by commit"] == old.told["tags"]["code_commit"]
    assert rows["data digest"] == old.told["tags"]["data_digest"]
    assert float(rows["macro F1"]) == pytest.approx(old.told["metrics"]["macro_f1"], abs=5e-4)
    assert rows["classes"] == "forest, water"
    assert rows["grid"] == "16 rows x 16 columns, EPSG:32633"


def test_reproduce_old_map_whose_items_are_gone_says_so(old: Old) -> None:
    gone = str(old.folder / "gone" / "collection.json")
    write_tags(old.map, items=gone)
    with pytest.raises(DataError, match=rf"{re.escape(gone)} can't be read"):
        reproduce(old.map, Hooks(), old.storage, model=old.load())


def test_reproduce_old_map_comes_out_equal(old: Old, capsys: pytest.CaptureFixture[str]) -> None:
    name = f"{old.name}-reproduced"
    write_tags(old.map, items=old.area, model=f"models:/{name}/{old.register(name)}")
    found = reproduce(old.map, Hooks(), old.storage)
    assert (found.pixels, found.total) == (0, 256)
    told = capsys.readouterr().out
    assert "Warning: the code commit was fe63009" in told
    assert "Warning: the items changed since" in told  # their addresses did
    assert "configuration changed" not in told


def test_report_old_map_and_run_give_the_areas(old: Old) -> None:
    write_tags(old.map, run_id=old.run_id)
    made = report(old.map, Classification(), Map(), old.storage)
    areas = json.loads(Path(made.files["area"]).read_text())
    with rasterio.open(old.map) as file:
        mapped = np.bincount(file.read(1).ravel(), minlength=3)[1:]
    assert areas["method"] == "pixel count"
    assert [areas["classes"][name]["pixels"] for name in CLASSES] == mapped.tolist()
    metrics = old.told["metrics"]
    assert areas["cross_validated"]["overall_accuracy"] == metrics["overall_accuracy"]
    for name in CLASSES:
        told = areas["classes"][name]["cross_validated"]
        assert told["users_accuracy"] == metrics[f"users_accuracy_{name}"]


def test_read_data_report_old_run_has_its_label_counts(old: Old) -> None:
    before = read_json(old.folder / "run" / "data_report.json")
    assert read_data_report(old.run_id).label_counts == before["class_sizes"]
    assert read_data_report(old.run_id).record_version == 0


def test_preprocess_gives_the_old_samples(old: Old) -> None:
    _, prepared = old.prepare(f"{old.name}-samples")
    for name in ("samples", "population"):
        before = pd.read_parquet(old.folder / f"{name}.parquet")
        assert pd.read_parquet(getattr(prepared, name)).equals(before), name
    told = read_report(prepared.report, old.storage)
    assert told.dates == {"2024-01": 2, "2024-02": 1}  # which was not told then
    assert told.labels.used == {"forest": 1, "water": 1}  # nor was this
    told = told.model_copy(update={"dates": {}, "labels": LabelAccount()})
    assert told.model_dump(exclude={"record_version", "data_digest"}) == read_report(
        str(old.folder / "report.json"), old.storage
    ).model_dump(exclude={"record_version", "data_digest"})


def test_train_on_the_old_samples_is_compared_with_the_old_champion(old: Old) -> None:
    config, prepared = old.prepare(f"{old.name}-compared")
    old.register(config.name)
    trained = train(config, Hooks(), prepared, old.storage)
    decision = consider(old.storage.settings, config.name, "2", Classification())
    assert not decision.promoted
    assert re.search(
        rf"^Not better beyond chance, comparing version 2 of {config.name} with the champion, "
        r"version 1: macro F1 differs by .* on 256 pixels in 16 blocks",
        decision.reason,
    )
    for name in ("macro_f1", "overall_accuracy", "f1_forest"):
        value, low, high = trained.scores[name]
        assert value == pytest.approx(old.told["metrics"][name])
        assert low <= value <= high
        assert high - low > 0.1  # of then they were resamples, which all agreed on a 1


def test_train_on_the_old_samples_replaces_a_worse_old_champion(old: Old) -> None:
    config, prepared = old.prepare(f"{old.name}-worse")
    path = old.folder / "run" / "predictions.parquet"
    table = pd.read_parquet(path)
    wrong = np.where(table.index % 3 == 0, "forest", table["predicted"])
    table.assign(predicted=wrong).to_parquet(path)
    mlflow.MlflowClient().log_artifact(old.run_id, str(path))
    old.register(config.name)
    train(config, Hooks(), prepared, old.storage)
    decision = consider(old.storage.settings, config.name, "2", Classification())
    assert decision.promoted
    assert decision.reason.startswith("Better, comparing version 2")
    champion = registry.find_by_alias(config.name, "champion")
    assert champion is not None
    assert champion.version == "2"


def test_consider_old_run_with_an_old_champion_compares_both(
    recreate: Callable[[str], Old],
) -> None:
    champion, challenger = recreate("old-records"), recreate("old-network")
    name = "old-with-old"
    challenger.register(name)
    champion.register(name)
    decision = consider(champion.storage.settings, name, "1", Classification())
    assert not decision.promoted
    assert re.search(
        r"comparing version 1 of old-with-old with the champion, version 2: .* 256 pixels",
        decision.reason,
    )


def test_monitor_old_model_reads_the_population_of_its_run(old: Old) -> None:
    result = monitor(old.load(), old.area, old.storage)
    assert set(result.psi) == set(FEATURES)
    assert set(result.psi.values()) == {0.0}
    assert result.outside_range == 0
    assert result.pixels == len(pd.read_parquet(old.folder / "population.parquet")) > 200
    assert not result.drifted
    assert set(result.predicted) == set(CLASSES)
    assert all(before == now > 0 for before, now in result.predicted.values())


def edit_model(old: Old, edit: Callable[[dict[str, Any]], None]) -> None:
    """Change what the model recorded of its configuration."""
    path = old.folder / "model" / "MLmodel"
    told = yaml.safe_load(path.read_text())
    config = json.loads(told["metadata"]["project"])
    edit(config)
    told["metadata"]["project"] = json.dumps(config)
    told["metadata"]["invented"] = {"later": True}
    path.write_text(yaml.safe_dump(told))


def test_load_model_key_renamed_since_is_read(old: Old) -> None:
    def edit(config: dict[str, Any]) -> None:
        assert "field" not in config["labels"]
        config["labels"]["class_field"] = "land_use"

    edit_model(old, edit)
    assert old.load().config.labels.field == "land_use"


def test_load_model_keys_unknown_today_are_left_aside(old: Old) -> None:
    def edit(config: dict[str, Any]) -> None:
        config["gone"] = {"section": 1}
        config["model"]["gone"] = "key"
        config["data"]["gone"] = None
        config["cloud_mask"]["gone"] = [1]

    before = old.load()
    edit_model(old, edit)
    model = old.load()
    assert model.config == before.config
    assert compare_maps(old.map, map_again(old).map, old.storage).pixels == 0


def test_load_model_key_that_is_missing_takes_its_default(old: Old) -> None:
    def edit(config: dict[str, Any]) -> None:
        del config["monitor"]
        del config["validation"]["gap_px"]

    edit_model(old, edit)
    config = old.load().config
    assert (config.monitor.max_psi, config.validation.gap_px) == (0.25, 0)


def test_load_model_value_of_the_wrong_type_says_what_is_wrong(old: Old) -> None:
    def edit(config: dict[str, Any]) -> None:
        config["seed"] = "many"

    edit_model(old, edit)
    with pytest.raises(DataError, match=r"does not tell what it was trained with \(seed: "):
        old.load()
