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
from sklearn.metrics import r2_score

from terraflow.eo import open_project, steps
from terraflow.eo.project import OpenProject
from terraflow.eo.training.folds import spatial_folds
from terraflow.settings import Settings

Enter = Callable[[str], Path]


def run(step: str, project: OpenProject, **options: Any) -> dict[str, Any]:
    return steps.run_up_to(step, project, options)


def champion(name: str) -> ModelVersion:
    return mlflow.MlflowClient().get_model_version_by_alias(name, "champion")


def go_through(project: OpenProject, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """Do every step; return what each gave."""
    name = project.config.name
    done = {"train": run("train", project)}
    again = run("train", project)
    assert done["train"]["promoted"]
    assert not again["promoted"]
    assert "Not better beyond chance" in again["reason"]
    assert "compared with version 1" not in again["reason"]
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


def test_flood_goes_through_every_step(
    enter_project: Enter, tracked_settings: Settings, capsys: pytest.CaptureFixture[str]
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
    lines = [p.read_text().splitlines() for p in [*root.rglob("src/**/*.py"), root / "tasks.py"]]
    assert sum(map(len, lines)) <= 20


def test_crop_yield_goes_through_every_step(
    enter_project: Enter, tracked_settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    root = enter_project("crop_yield")
    project = open_project()
    done = go_through(project, capsys)
    scores = done["train"]["scores"]
    assert set(scores) == {"rmse", "mae", "r2", "bias"}
    assert all(low <= value <= high for value, low, high in scores.values())
    assert "RMSE differs by" in run("train", project)["reason"]
    with rasterio.open(done["map"]["map"]) as file:
        assert (file.count, file.dtypes, file.descriptions) == (1, ("float32",), ("yield",))
        assert np.isnan(file.nodata)
        assert 1 < np.nanmin(file.read(1)) < np.nanmax(file.read(1)) < 11
    means = pd.read_csv(done["report"]["files"]["means"])
    assert list(means.columns) == ["area", "pixels", "mean"]
    assert (len(means), means["pixels"].sum()) == (64, 96 * 96)
    assert "| field 1 | 144 |" in done["report"]["table"]
    lines = [p.read_text().splitlines() for p in [*root.rglob("src/**/*.py"), root / "tasks.py"]]
    assert sum(map(len, lines)) < 150


def test_crop_yield_scores_are_those_of_a_plain_script(
    enter_project: Enter, tracked_settings: Settings
) -> None:
    enter_project("crop_yield")
    project = open_project()
    prepared = run("preprocess", project)
    trained = run("train", project)
    table = pd.read_parquet(prepared["samples"])
    names = [n for n in table if n not in ("x", "y", "block", "polygon", "yield_t_ha", "geometry")]
    config = project.config
    strata = np.full(len(table), "all", dtype=object)
    folds = spatial_folds(strata, table["block"], config.validation, seed=config.seed)
    predicted = np.zeros(len(table))
    for seen, held_out in folds:
        model = RandomForestRegressor(60, min_samples_leaf=2, random_state=0)
        model.fit(table[names].iloc[seen], table["yield_t_ha"].iloc[seen])
        predicted[held_out] = model.predict(table[names].iloc[held_out])
    expected = r2_score(table["yield_t_ha"], predicted)
    assert expected > 0.8
    assert trained["scores"]["r2"][0] == pytest.approx(expected, abs=0.02)


def test_crop_yield_worse_model_is_not_promoted_and_a_better_one_is(
    enter_project: Enter, tracked_settings: Settings
) -> None:
    """Of RMSE the smaller is the better: the gate must know."""
    root = enter_project("crop_yield")
    path = root / "config" / "crop_yield.toml"
    good = path.read_text().replace("[data]", 'name = "gate"\n\n[data]', 1)
    poor = good.replace("n_estimators = 60", "n_estimators = 2, max_depth = 1")
    decisions = []
    for text in (poor, good, poor):
        path.write_text(text)
        decisions.append(run("train", open_project()))
    assert [decision["promoted"] for decision in decisions] == [True, True, False]
    assert "Better, comparing version 2" in decisions[1]["reason"]
    assert "RMSE differs by -" in decisions[1]["reason"]
    assert champion("gate").version == "2"
