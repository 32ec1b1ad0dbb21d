"""Two more projects go through every step, beside each other: a flood mask, and crop yield."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
import rasterio
from mlflow.entities.model_registry import ModelVersion
from sklearn.ensemble import RandomForestRegressor
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

from area import make_project
from samples import make_samples, write_samples
from terraflow.eo import open_project, steps
from terraflow.eo.hooks import Hooks
from terraflow.eo.project import OpenProject
from terraflow.eo.training.folds import spatial_folds
from terraflow.eo.training.train import train
from terraflow.settings import Settings
from terraflow.storage import Storage

Enter = Callable[[str], Path]


def run(step: str, project: OpenProject, **options: Any) -> dict[str, Any]:
    return steps.run_up_to(step, project, options)


def champion(name: str) -> ModelVersion:
    return mlflow.MlflowClient().get_model_version_by_alias(name, "champion")


def lines_of_python(root: Path) -> int:
    paths = [*root.rglob("src/**/*.py"), root / "tasks.py"]
    return sum(len(path.read_text().splitlines()) for path in paths)


@pytest.fixture
def land_cover(tracked_settings: Settings) -> ModelVersion:
    """The champion of land cover, in the same server."""
    storage, config = Storage(tracked_settings), make_project(validation={"folds": 3})
    train(config, Hooks(), write_samples(make_samples(), config, storage), storage)
    return champion("land-cover")


def go_through(project: OpenProject, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """Do every step; return what each gave."""
    name = project.config.name
    done = {"train": run("train", project)}
    again = run("train", project)
    assert done["train"]["promoted"]
    assert not again["promoted"]
    told = f"Not better beyond chance, comparing version 2 of {name} with the champion, version 1"
    assert again["reason"].startswith(told)
    tags = mlflow.MlflowClient().get_model_version(name, "2").tags
    assert (tags["promotion"], tags["promotion_reason"]) == ("not promoted", again["reason"])
    done["map"] = run("map", project)
    uri = done["map"]["map"]
    done["report"] = run("report", project)
    done["origin"] = run("origin", project, file=uri)
    done["reproduce"] = run("reproduce", project, file=uri)
    done["monitor"] = run("monitor", project)
    for step, outputs in done.items():
        code = steps.show(step, project, outputs)
        assert code == 0, step
    assert champion(name).version == "1"
    assert mlflow.get_experiment_by_name(name) is not None
    assert mlflow.get_experiment_by_name(f"{name}-monitoring") is not None
    said = capsys.readouterr().out
    assert "come out equal in all bands" in said
    assert "Stable." in said
    return done


def test_flood_goes_through_every_step_beside_land_cover(
    enter_project: Enter, land_cover: ModelVersion, capsys: pytest.CaptureFixture[str]
) -> None:
    root = enter_project("flood")
    project = open_project()
    done = go_through(project, capsys)
    assert done["train"]["scores"]["overall_accuracy"][0] > 0.97
    assert done["train"]["scores"]["f1_flooded"][0] > 0.97
    with rasterio.open(done["map"]["map"]) as file:
        assert file.descriptions == ("class", "confidence")
        assert set(np.unique(file.read(1))) <= {0, 1, 2}
    report = json.loads(Path(done["report"]["files"]["area"]).read_text())
    assert set(report["classes"]) == {"flooded", "dry"}
    samples = pd.read_parquet(run("preprocess", project)["samples"])
    assert {"slope", "vv_all", "vh_min", "slope_mean5"} <= set(samples.columns)
    assert lines_of_python(root) <= 20
    now = champion("land-cover")
    assert (now.version, now.run_id) == (land_cover.version, land_cover.run_id)
    experiments = [mlflow.get_run(v.run_id).info.experiment_id for v in (now, champion("flood"))]
    assert [mlflow.get_experiment(e).name for e in experiments] == ["land-cover", "flood"]


def test_crop_yield_goes_through_every_step(
    enter_project: Enter, tracked_settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    root = enter_project("crop_yield")
    project = open_project()
    done = go_through(project, capsys)
    scores = done["train"]["scores"]
    assert set(scores) == {"rmse", "mae", "r2", "bias"}
    assert all(low <= value <= high for value, low, high in scores.values())
    check_against_a_plain_script(scores, run("preprocess", project), project)
    with rasterio.open(done["map"]["map"]) as file:
        assert (file.count, file.dtypes, file.descriptions) == (1, ("float32",), ("yield",))
        assert np.isnan(file.nodata)
        values = file.read(1)
    assert np.isnan(values).sum() == np.isnan(values[:4, :4]).sum() == 16
    assert 1 < np.nanmin(values) < np.nanmax(values) < 11
    means = pd.read_csv(done["report"]["files"]["means"])
    assert list(means.columns) == ["area", "pixels", "mean"]
    assert means["area"].tolist() == ["upper left", "all", "elsewhere"]
    assert means["pixels"].tolist() == [48 * 48 - 16, 96 * 96 - 16, 0]  # "all" holds the other
    expected = [np.nanmean(values[:48, :48], dtype="f8"), np.nanmean(values, dtype="f8"), np.nan]
    assert means["mean"].tolist() == pytest.approx(expected, nan_ok=True)
    assert "| upper left | 2288 |" in done["report"]["table"]
    assert Path(done["report"]["files"]["quicklook"]).read_bytes().startswith(b"\x89PNG")
    assert lines_of_python(root) < 150


def check_against_a_plain_script(
    scores: dict[str, Any], prepared: dict[str, Any], project: OpenProject
) -> None:
    """Hold scores against those of scikit-learn alone, on the same folds."""
    table, config = pd.read_parquet(prepared["samples"]), project.config
    others = ("x", "y", "block", "polygon", "yield_t_ha", "geometry")
    features, truth = table[[n for n in table if n not in others]], table["yield_t_ha"]
    strata = np.full(len(table), "all", dtype=object)
    folds = spatial_folds(strata, table["block"], config.validation, seed=config.seed)
    predicted = np.zeros(len(table))
    for seen, held_out in folds:
        model = RandomForestRegressor(20, min_samples_leaf=2, random_state=0)
        model.fit(features.iloc[seen], truth.iloc[seen])
        predicted[held_out] = model.predict(features.iloc[held_out])
    expected = {
        "r2": r2_score(truth, predicted),
        "rmse": root_mean_squared_error(truth, predicted),
        "mae": mean_absolute_error(truth, predicted),
        "bias": np.mean(predicted - truth),
    }
    assert expected["r2"] > 0.8
    for name, value in expected.items():
        assert scores[name][0] == pytest.approx(value, abs=0.02), name


def test_crop_yield_is_searched_and_compared_by_rmse(
    enter_project: Enter, tracked_settings: Settings
) -> None:
    """Of RMSE the smaller is the better: search and gate must know."""
    root = enter_project("crop_yield")
    path = root / "config" / "crop_yield.toml"
    good = path.read_text().replace("[data]", 'name = "gate"\n\n[data]', 1)
    poor = good.replace("n_estimators = 20", "n_estimators = 2, max_depth = 1")
    decisions = []
    for text, trials in ((poor, 0), (good, 3), (poor, 0)):
        path.write_text(text)
        decisions.append(run("train", open_project(), tune=trials))
    assert [decision["promoted"] for decision in decisions] == [True, True, False]
    assert "Better after a search of 3 trials, comparing version 2" in decisions[1]["reason"]
    assert "RMSE differs by -" in decisions[1]["reason"]
    assert "RMSE differs by +" in decisions[2]["reason"]
    assert champion("gate").version == "2"
    searched = decisions[1]["run_id"]
    trials_of = f"tags.mlflow.parentRunId = '{searched}'"
    found = mlflow.search_runs(experiment_names=["gate"], filter_string=trials_of)
    assert found["metrics.rmse"].nunique() == len(found) == 3
    best = found.loc[found["metrics.rmse"].idxmin(), "params.min_samples_leaf"]
    assert mlflow.get_run(searched).data.params["min_samples_leaf"] == best
