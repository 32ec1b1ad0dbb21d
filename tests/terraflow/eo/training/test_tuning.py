from __future__ import annotations

import mlflow
import numpy as np
import pandas as pd
import pytest

from samples import FEATURES, make_samples
from terraflow.eo.built_in import Classification
from terraflow.eo.config.sections import Model, Validation
from terraflow.eo.models.choice import ModelChoice, choose_model
from terraflow.eo.promotion.comparison import compare
from terraflow.eo.targets.classes.measures import confusion_measures, count_by_group
from terraflow.eo.training.cross_validation import Table, cross_validate
from terraflow.eo.training.folds import Folds, spatial_folds
from terraflow.eo.training.tuning import choose_by_fold, correct_for_choice, tune
from terraflow.settings import Settings
from terraflow.tracking import runs as tracking

VALIDATION = Validation(block_size_px=4, folds=2)


def choice(**parameters: object) -> ModelChoice:
    values = {"name": "lightgbm", "parameters": {"max_depth": 2} | parameters}
    return choose_model(Model.model_validate(values), {}, seed=42)


def some_table() -> tuple[Table, Folds]:
    samples, target = make_samples(blocks=8), Classification()
    classes = samples["class_name"]
    folds = spatial_folds(target.strata(classes), samples["block"], VALIDATION, seed=42)
    levels = target.levels(classes)
    return Table(samples[FEATURES], classes, samples["block"], target, levels), folds


def macro_f1(sums: np.ndarray) -> np.ndarray:
    return confusion_measures(sums)["macro_f1"]


def test_tune_logs_each_trial_as_a_run_inside_and_gives_the_best(
    tracked_settings: Settings, request: pytest.FixtureRequest, capfd: pytest.CaptureFixture[str]
) -> None:
    table = some_table()
    with tracking.start_run(tracked_settings, request.node.name, name="x", tags={}) as run:
        found = tune(*table, choice(), trials=4, resamples=1000, seed=42)
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
    assert found.best == max(scores)
    chosen = trials[int(np.argmax(scores))].data.params
    assert all(chosen[k] == str(v) for k, v in found.choice.chosen.items())
    assert found.corrected < found.best
    honest = cross_validate(*table, found.choice, VALIDATION, seed=42, by_fold=found.by_fold)
    assert honest.scores["macro_f1"].value <= found.best
    assert "tune lightgbm: " in capfd.readouterr().err


def test_tune_twice_gives_the_same(
    tracked_settings: Settings, request: pytest.FixtureRequest
) -> None:
    table = some_table()
    with tracking.start_run(tracked_settings, request.node.name, name="x", tags={}):
        first, again = (
            tune(*table, choice(n_estimators=20), trials=3, resamples=1000, seed=42)
            for _ in range(2)
        )
    assert first == again


def confusion(right: int, wrong: int) -> np.ndarray:
    return np.array([[right, wrong], [wrong, right]])


def test_correct_for_choice_one_trial_alike_everywhere_keeps_its_score() -> None:
    by_block = np.stack([confusion(8, 2)] * 10)[None]
    assert correct_for_choice(by_block, macro_f1, times=200, seed=0) == pytest.approx(0.8)


def test_correct_for_choice_of_lucky_trials_falls_to_what_all_are_worth() -> None:
    """Forty trials that guess: the best of them looks good by luck alone."""
    random = np.random.default_rng(0)
    right = random.binomial(10, 0.5, size=(40, 30))
    by_block = np.stack([[confusion(r, 10 - r) for r in trial] for trial in right])
    best = max(right.mean(axis=1) / 10)
    assert best > 0.55
    assert correct_for_choice(by_block, macro_f1, times=1000, seed=0) == pytest.approx(
        0.5, abs=0.03
    )


def test_choose_by_fold_takes_the_best_on_the_other_half() -> None:
    """The first trial is best over all by its luck in the first half, folds 0 and 2, alone."""
    right = np.array([[10, 5, 10, 5], [6, 7, 6, 7]])
    by_fold = np.stack([[confusion(r, 10 - r) for r in trial] for trial in right])
    assert by_fold.sum(axis=1)[:, 0, 0].tolist() == [30, 26]
    assert choose_by_fold(by_fold, macro_f1).tolist() == [1, 0, 1, 0]


@pytest.mark.parametrize("folds", [2, 3, 5])
def test_choose_by_fold_clearly_better_trial_is_chosen_for_all(folds: int) -> None:
    by_fold = np.stack([[confusion(r, 10 - r)] * folds for r in (5, 9, 6)])
    assert choose_by_fold(by_fold, macro_f1).tolist() == [1] * folds


def test_choose_by_fold_of_equal_trials_seldom_beats_a_champion_that_is_their_equal() -> None:
    """Thirty trials and a champion that guess alike: the best of all wins by luck alone."""
    random, blocks, size, runs = np.random.default_rng(0), 50, 10, 300
    block, fold = np.repeat(np.arange(blocks), size), np.repeat(np.arange(blocks) % 5, size)
    truth = random.integers(0, 2, len(block))
    won = {"best": 0, "halves": 0}
    for _ in range(runs):
        trials = np.where(random.random((30, len(block))) < 0.7, truth, 1 - truth)
        champion = np.where(random.random(len(block)) < 0.7, truth, 1 - truth)
        by_fold = np.stack([count_by_group(truth, t, pd.Series(fold), 2) for t in trials])
        best = macro_f1(by_fold.sum(axis=1)).argmax()
        honest = trials[choose_by_fold(by_fold, macro_f1)[fold], np.arange(len(block))]
        for how, challenger in (("best", trials[best]), ("halves", honest)):
            pixels = pd.DataFrame(
                {
                    "block": block,
                    "class_name": truth,
                    "challenger": challenger,
                    "champion": champion,
                }
            )
            won[how] += compare(pixels, Classification()).better
    assert won["best"] / runs > 0.2  # 21 % of 3000
    assert won["halves"] / runs < 0.08  # 3.1 % of 3000
