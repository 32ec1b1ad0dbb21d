"""A third project: a regression, which names its quantity and brings a model."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import geopandas as gpd
import mlflow
import numpy as np
import pandas as pd
import pytest
import rasterio
from sklearn.ensemble import RandomForestRegressor
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

from projects.conftest import Place
from projects.lines import count_lines
from projects.simulate_crop_yield import SEASON, simulate
from terraflow.eo import open_project
from terraflow.eo.project import OpenProject
from terraflow.eo.steps import run_step, run_up_to, show
from terraflow.eo.training.folds import spatial_folds


def test_crop_yield_is_under_150_lines() -> None:
    assert count_lines("crop_yield") < 150


def plain_script(folder: Path, samples: pd.DataFrame, project: OpenProject) -> pd.Series:
    """Predict by scikit-learn alone, from the images as they are, on the folds of the training."""
    points = gpd.GeoDataFrame(
        samples, geometry=gpd.points_from_xy(samples["x"], samples["y"]), crs="EPSG:32633"
    )
    fields = gpd.read_file(folder / "data" / "fields.gpkg")
    points = points.drop(columns="yield_t_ha").sjoin(fields, predicate="within")
    assert len(points) == len(samples)
    features = pd.DataFrame(index=points.index)
    for month in SEASON:
        red, nir = (
            read_pixels(folder / "data" / f"SIMULATED_2024{month:02}14" / f"{band}.tif", samples)
            for band in ("red", "nir")
        )
        features[f"red{month}"], features[f"nir{month}"] = red, nir
        features[f"ndvi{month}"] = (nir - red) / (nir + red)
    for band in ("red", "nir", "ndvi"):
        features[f"{band}_max"] = features[[f"{band}{month}" for month in SEASON]].max(axis=1)
    config = project.config
    strata = np.full(len(samples), "all", dtype=object)
    predicted = pd.Series(np.nan, index=samples.index)
    for seen, held_out in spatial_folds(
        strata, samples["block"], config.validation, seed=config.seed
    ):
        model = RandomForestRegressor(40, min_samples_leaf=3, random_state=0)
        model.fit(features.iloc[seen], points["yield_t_ha"].iloc[seen])
        predicted.iloc[held_out] = model.predict(features.iloc[held_out])
    return predicted


def read_pixels(path: Path, samples: pd.DataFrame) -> np.ndarray:
    with rasterio.open(path) as file:
        values = file.read(1)
        columns, rows = ~file.transform * (samples["x"].to_numpy(), samples["y"].to_numpy())
    return values[rows.astype(int), columns.astype(int)]


def check_scores(
    scores: dict[str, tuple[float, float, float]], folder: Path, uri: str, project: OpenProject
) -> None:
    """Hold scores against those of the plain script, by scikit-learn's own formulas."""
    samples = pd.read_parquet(io.BytesIO(project.storage.read(uri)))
    truth, plain = samples["yield_t_ha"], plain_script(folder, samples, project)
    assert scores["r2"][0] > 0.5
    assert scores["r2"][0] == pytest.approx(r2_score(truth, plain), abs=0.02)
    assert scores["rmse"][0] == pytest.approx(root_mean_squared_error(truth, plain), abs=0.02)
    assert scores["mae"][0] == pytest.approx(mean_absolute_error(truth, plain), abs=0.02)
    assert scores["bias"][0] == pytest.approx((plain - truth).mean(), abs=0.02)


def check_gate(trained: dict[str, Any]) -> None:
    """See that the second version was compared with the champion, a smaller error being better."""
    client = mlflow.MlflowClient()
    tags = client.get_model_version("crop-yield", "2").tags
    assert tags["promotion_reason"] == trained["reason"]
    told = "comparing version 2 of crop-yield with the champion, version 1: RMSE differs by"
    assert told in trained["reason"]
    low, high = (float(tags[f"promotion_difference_{end}"]) for end in ("low", "high"))
    assert low < high
    assert trained["promoted"] == (high < 0)
    run = client.get_run(trained["run_id"])
    assert client.get_experiment(run.info.experiment_id).name == "crop-yield"
    assert run.data.metrics["rmse"] == trained["scores"]["rmse"][0]


def test_crop_yield_from_ingest_to_monitor(
    enter: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = enter("crop_yield")
    simulate(folder / "data")
    project = open_project()

    prepared = run_up_to("preprocess", project, {})
    trained = run_step("train", project, prepared)
    assert trained["model"] == "models:/crop-yield/1"
    assert run_step("promote", project, run_step("gate", project, trained))["promoted"]
    scores = trained["scores"]
    assert all(low <= value <= high for value, low, high in scores.values())
    check_scores(scores, folder, prepared["samples"], project)

    second = run_up_to("train", project, {"tune": 2})
    check_gate(second)

    made = run_up_to("map", project, {})
    with rasterio.open(made["map"]) as file:
        assert file.dtypes == ("float32",)
        assert np.isnan(file.nodata)
        values = file.read(1)
    assert np.isnan(values[-3:, -3:]).all()
    assert np.isfinite(values).sum() == values.size - 9

    reported = run_up_to("report", project, {})
    areas = pd.read_csv(reported["files"]["areas"]).set_index("area")
    assert areas["pixels"].to_dict() == {"East": 48 * 96 - 9, "Elsewhere": 0, "West": 48 * 96}
    assert areas.loc["West", "mean"] == pytest.approx(values[:, :48].mean(dtype="float64"))
    assert areas.loc["East", "mean"] == pytest.approx(np.nanmean(values[:, 48:].astype("float64")))
    assert Path(reported["files"]["quicklook"]).read_bytes().startswith(b"\x89PNG")
    assert "| area | pixels | mean crop yield (t/ha) |" in reported["table"]

    assert run_step("origin", project, {"file": made["map"]})
    again = run_up_to("reproduce", project, {"file": made["map"]})
    assert (again["pixels"], show("reproduce", project, again)) == (0, 0)
    watched = run_up_to("monitor", project, {})
    assert set(watched["predicted"]) == {"mean", "std"}
    assert show("monitor", project, watched) == 0
    assert show("train", project, second) == 0
    assert "RMSE" in capsys.readouterr().out


@pytest.mark.slow
def test_crop_yield_gate_knows_that_a_smaller_error_is_better(enter: Place) -> None:
    folder = enter("crop_yield")
    simulate(folder / "data")
    good = open_project()
    named = good.config.model_copy(update={"name": "gate"})
    poor = {"n_estimators": 2, "max_depth": 1, "min_samples_leaf": 400}
    good = replace(good, config=named)
    decisions = [
        run_up_to("train", project, {})
        for project in (good.with_model("forest", **poor), good, good.with_model("forest", **poor))
    ]
    assert [decision["promoted"] for decision in decisions] == [True, True, False]
    assert decisions[1]["reason"].startswith("Better, comparing version 2")
    assert "RMSE differs by -" in decisions[1]["reason"]
    assert "RMSE differs by +" in decisions[2]["reason"]
    version = mlflow.MlflowClient().get_model_version_by_alias("gate", "champion")
    assert version.version == "2"
