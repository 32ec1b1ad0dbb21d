from __future__ import annotations

import mlflow
import numpy as np
import pandas as pd
import pytest

from area import make_project
from samples import FEATURES, make_samples
from terraflow.eo.config.project_file import ProjectConfig
from terraflow.eo.training.comparison import compare
from terraflow.eo.training.cross_validation import cross_validate
from terraflow.eo.training.folds import spatial_folds
from terraflow.eo.training.scores import count_by_block, measures
from terraflow.eo.training.tuning import choose_by_fold, correct_for_choice, tune
from terraflow.settings import Settings
from terraflow.tracking import runs as tracking


def project(**parameters: object) -> ProjectConfig:
    return make_project(model={"name": "lightgbm", "parameters": {"max_depth": 2} | parameters})


def test_tune_logs_each_trial_as_a_run_inside_and_gives_the_best(
    tracked_settings: Settings, request: pytest.FixtureRequest, capfd: pytest.CaptureFixture[str]
) -> None:
    samples = make_samples(blocks=8)
    columns = samples[FEATURES], samples["class_name"], samples["block"]
    table = *columns, spatial_folds(*columns[1:], project())
    with tracking.start_run(tracked_settings, request.node.name, name="x", tags={}) as run:
        found = tune(project(), *table, trials=4)
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
    honest = cross_validate(*table, found.project, by_fold=found.by_fold)
    assert honest.macro_f1.value <= found.macro_f1
    assert "tune lightgbm: " in capfd.readouterr().err


def test_tune_twice_gives_the_same(
    tracked_settings: Settings, request: pytest.FixtureRequest
) -> None:
    samples = make_samples(blocks=8)
    columns = samples[FEATURES], samples["class_name"], samples["block"]
    table = *columns, spatial_folds(*columns[1:], project())
    with tracking.start_run(tracked_settings, request.node.name, name="x", tags={}):
        first, again = (tune(project(n_estimators=20), *table, trials=3) for _ in range(2))
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


def test_choose_by_fold_takes_the_best_on_the_other_half() -> None:
    """The first trial is best over all by its luck in the first half, folds 0 and 2, alone."""
    right = np.array([[10, 5, 10, 5], [6, 7, 6, 7]])
    by_fold = np.stack([[confusion(r, 10 - r) for r in trial] for trial in right])
    assert by_fold.sum(axis=1)[:, 0, 0].tolist() == [30, 26]
    assert choose_by_fold(by_fold).tolist() == [1, 0, 1, 0]


@pytest.mark.parametrize("folds", [2, 3, 5])
def test_choose_by_fold_clearly_better_trial_is_chosen_for_all(folds: int) -> None:
    by_fold = np.stack([[confusion(r, 10 - r)] * folds for r in (5, 9, 6)])
    assert choose_by_fold(by_fold).tolist() == [1] * folds


def test_choose_by_fold_of_equal_trials_seldom_beats_a_champion_that_is_their_equal() -> None:
    """Thirty trials and a champion that guess alike: the best of all wins by luck alone."""
    random, blocks, size, runs = np.random.default_rng(0), 50, 10, 300
    block, fold = np.repeat(np.arange(blocks), size), np.repeat(np.arange(blocks) % 5, size)
    truth = random.integers(0, 2, len(block))
    won = {"best": 0, "halves": 0}
    for _ in range(runs):
        trials = np.where(random.random((30, len(block))) < 0.7, truth, 1 - truth)
        champion = np.where(random.random(len(block)) < 0.7, truth, 1 - truth)
        by_fold = np.stack([count_by_block(truth, t, pd.Series(fold), 2) for t in trials])
        best = measures(by_fold.sum(axis=1))["macro_f1"].argmax()
        honest = trials[choose_by_fold(by_fold)[fold], np.arange(len(block))]
        for how, challenger in (("best", trials[best]), ("halves", honest)):
            pixels = pd.DataFrame({"block": block, "class_name": truth, "challenger": challenger,
                                   "champion": champion})  # fmt: skip
            won[how] += compare(pixels, resamples=200).low > 0
    assert won["best"] / runs > 0.25
    assert won["halves"] / runs < 0.08  # 4.2 % of 3000
