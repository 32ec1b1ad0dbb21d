from __future__ import annotations

import mlflow
import numpy as np
import pytest

from area import make_project
from land_cover.config import ProjectConfig
from land_cover.tune import correct_for_choice, tune
from samples import FEATURES, make_samples
from terraflow import tracking
from terraflow.settings import Settings


def project(**parameters: object) -> ProjectConfig:
    return make_project(model={"name": "lightgbm", "parameters": {"max_depth": 2} | parameters})


def test_tune_logs_each_trial_as_a_run_inside_and_gives_the_best(
    tracked_settings: Settings, request: pytest.FixtureRequest, capfd: pytest.CaptureFixture[str]
) -> None:
    samples = make_samples(blocks=8)
    table = samples[FEATURES], samples["class_name"], samples["block"]
    with tracking.start_run(tracked_settings, request.node.name, name="x", tags={}) as run:
        found = tune(project(), *table, 4)
    query = f"tags.`mlflow.parentRunId` = '{run.info.run_id}'"
    trials = mlflow.search_runs(
        [run.info.experiment_id], query, output_format="list", order_by=["attributes.run_name"]
    )
    assert [trial.info.run_name for trial in trials] == [f"trial-{i:03}" for i in range(4)]
    assert {trial.info.status for trial in trials} == {"FINISHED"}
    assert trials[0].data.params["learning_rate"] == "0.05"  # as it was configured
    assert {trial.data.params["max_depth"] for trial in trials} == {"2"}
    assert len({trial.data.params["learning_rate"] for trial in trials}) == 4
    scores = [trial.data.metrics["macro_f1"] for trial in trials]
    assert found.macro_f1 == max(scores)
    chosen = trials[int(np.argmax(scores))].data.params
    assert all(chosen[k] == str(v) for k, v in found.project.model.parameters.items())
    assert found.corrected_macro_f1 < found.macro_f1
    assert "tune lightgbm: " in capfd.readouterr().err


def test_tune_twice_gives_the_same(
    tracked_settings: Settings, request: pytest.FixtureRequest
) -> None:
    samples = make_samples(blocks=8)
    table = samples[FEATURES], samples["class_name"], samples["block"]
    with tracking.start_run(tracked_settings, request.node.name, name="x", tags={}):
        first, again = (tune(project(n_estimators=20), *table, 3) for _ in range(2))
    assert first == again


def confusion(right: int, wrong: int) -> np.ndarray:
    return np.array([[right, wrong], [wrong, right]])


def test_correct_for_choice_one_trial_alike_everywhere_keeps_its_score() -> None:
    by_block = np.stack([confusion(8, 2)] * 10)[None]
    assert correct_for_choice(by_block, times=200, seed=0) == pytest.approx(0.8)


def test_correct_for_choice_of_lucky_trials_falls_to_what_all_are_worth() -> None:
    """Forty trials that guess: the best of them looks good by luck alone."""
    random = np.random.default_rng(0)
    right = random.binomial(10, 0.5, size=(40, 30))
    by_block = np.stack([[confusion(r, 10 - r) for r in trial] for trial in right])
    best = max(right.mean(axis=1) / 10)
    assert best > 0.55
    assert correct_for_choice(by_block, times=1000, seed=0) == pytest.approx(0.5, abs=0.03)
