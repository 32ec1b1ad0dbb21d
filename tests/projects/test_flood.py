"""A second project: a binary mask from radar, by a TOML file and a few lines of Python."""

from __future__ import annotations

import mlflow
import numpy as np
import pytest
import rasterio
from mlflow.entities.model_registry import ModelVersion

from area import make_project
from projects.conftest import Place
from projects.lines import count_lines
from projects.simulate_flood import simulate
from samples import make_samples, write_samples
from terraflow.eo import open_project, steps
from terraflow.eo.built_in import Classification
from terraflow.eo.hooks import Hooks
from terraflow.eo.promotion.promote import consider
from terraflow.eo.steps import run_up_to, show
from terraflow.eo.training.train import train
from terraflow.settings import Settings
from terraflow.storage import Storage


def test_flood_is_at_most_twenty_lines() -> None:
    assert count_lines("flood") <= 20


@pytest.fixture
def land_cover(tracked_settings: Settings) -> ModelVersion:
    """The champion of land cover, in the same server."""
    storage, config = Storage(tracked_settings), make_project(validation={"folds": 3})
    train(config, Hooks(), write_samples(make_samples(), config, storage), storage)
    consider(storage.settings, config.name, "1", Classification())
    return champion("land-cover")


def champion(name: str) -> ModelVersion:
    return mlflow.MlflowClient().get_model_version_by_alias(name, "champion")


def test_flood_from_ingest_to_monitor_beside_land_cover(
    enter: Place, land_cover: ModelVersion, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = enter("flood")
    flood = simulate(folder / "data")
    project = open_project()

    trained = run_up_to("train", project, {})
    assert trained["promoted"]
    assert trained["model"] == "models:/flood/1"
    assert trained["scores"]["macro_f1"][0] > 0.9

    (folder / "config" / "local").mkdir()
    (folder / "config" / "local" / "flood.toml").write_text(
        '[model]\nname = "lightgbm"\nparameters = {}\n'
    )
    second = run_up_to("train", open_project(), {})
    assert second["model"] == "models:/flood/2"
    client = mlflow.MlflowClient()
    tags = client.get_model_version("flood", "2").tags
    assert tags["promotion_reason"] == second["reason"]
    assert "comparing version 2 of flood with the champion, version 1" in second["reason"]
    assert "macro F1 differs by" in second["reason"]
    run = client.get_run(second["run_id"])
    assert client.get_experiment(run.info.experiment_id).name == "flood"

    made = run_up_to("map", project, {})
    with rasterio.open(made["map"]) as file:
        numbers = file.read(1)
    assert set(np.unique(numbers)) == {0, 1, 2}
    assert (numbers[-3:, -3:] == 0).all()  # nodata on all dates
    assert ((numbers == 2) == flood)[numbers > 0].mean() > 0.9

    table = run_up_to("report", project, {})["table"]
    assert "| flooded |" in table
    assert steps.run_step("origin", project, {"file": made["map"]})
    again = run_up_to("reproduce", project, {"file": made["map"]})
    assert again["pixels"] == 0
    assert show("reproduce", project, again) == 0

    watched = run_up_to("monitor", project, {})
    assert not watched["drifted"]
    assert "slope" in watched["psi"]
    assert show("monitor", project, watched) == 0
    assert "flooded" in capsys.readouterr().out
    now = champion("land-cover")
    assert (now.version, now.run_id) == (land_cover.version, land_cover.run_id)
