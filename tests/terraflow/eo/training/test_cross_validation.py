from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin

from area import make_project
from samples import FEATURES, make_samples
from terraflow.eo.config.project_file import ProjectConfig
from terraflow.eo.training import cross_validation as validation
from terraflow.eo.training.cross_validation import (
    Scores,
    check_samples,
    cross_validate,
    predict_held_out,
)
from terraflow.eo.training.folds import spatial_folds
from terraflow.errors import DataError

BLOCKS_SEEN: list[tuple[set[float], set[float]]] = []


class Fixed(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A classifier that answers what the column `answer` says, and notes which blocks it saw."""

    def fit(self, features: pd.DataFrame, classes: pd.Series) -> Fixed:
        self.seen_ = set(features["block"])
        self.classes_ = np.unique(classes)
        return self

    def predict_proba(self, features: pd.DataFrame) -> np.ndarray:
        BLOCKS_SEEN.append((self.seen_, set(features["block"])))
        return np.eye(2)[features["answer"].astype(int)][:, : len(self.classes_)]


@pytest.fixture
def fixed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validation, "make_classifier", lambda project: Fixed())
    BLOCKS_SEEN.clear()


def project(**model: object) -> ProjectConfig:
    return make_project(model={"name": "random_forest", "parameters": {"n_estimators": 10}} | model)


def score(features: pd.DataFrame, classes: pd.Series, blocks: pd.Series, **model: object) -> Scores:
    folds = spatial_folds(classes, blocks, project())
    return cross_validate(features, classes, blocks, folds, project(**model))


def test_cross_validate_scores_by_hand(fixed: None) -> None:
    truth = pd.Series(["forest"] * 6 + ["water"] * 4)
    answer = [0, 0, 0, 0, 0, 1, 1, 1, 1, 0]
    blocks = pd.Series([0, 0, 1, 1, 2, 2, 0, 1, 2, 3])
    features = pd.DataFrame({"answer": np.array(answer, float), "block": blocks.astype(float)})
    scores = score(features, truth, blocks)
    assert scores.overall_accuracy.value == pytest.approx(0.8)
    assert scores.per_class["forest"]["users_accuracy"].value == pytest.approx(5 / 6)
    assert scores.per_class["forest"]["producers_accuracy"].value == pytest.approx(5 / 6)
    assert scores.per_class["water"]["f1"].value == pytest.approx(3 / 4)
    assert scores.macro_f1.value == pytest.approx((5 / 6 + 3 / 4) / 2)
    assert scores.macro_f1.low < scores.macro_f1.value < scores.macro_f1.high
    assert scores.matrix.tolist() == [[5, 1], [1, 3]]
    assert [*scores.predicted] == [("forest", "water")[number] for number in answer]
    assert scores.random_overall_accuracy == pytest.approx(0.8)


def test_cross_validate_never_tests_a_block_that_was_seen(fixed: None) -> None:
    samples = make_samples(blocks=6)
    features = pd.DataFrame({"answer": 0.0, "block": samples["block"].astype(float)})
    kinds = samples["class_name"].where(samples["class_name"] == "water", "other")
    folds = spatial_folds(kinds, samples["block"], project())
    predict_held_out(features, kinds, folds, project())
    assert len(BLOCKS_SEEN) == 2
    for seen, tested in BLOCKS_SEEN:
        assert tested
        assert not seen & tested


def test_cross_validate_at_random_is_too_good_where_blocks_differ() -> None:
    """Classes are drawn for blocks, not by features: only a neighbour can tell them."""
    random = np.random.default_rng(0)
    block = pd.Series(np.repeat(np.arange(30), 12))
    names = pd.Series(random.choice(["a", "b"], 30)[block])
    features = pd.DataFrame(random.normal(size=(30, 3))[block], columns=["p", "q", "r"])
    features += random.normal(scale=0.05, size=features.shape)
    scores = score(features.astype("float32"), names, block)
    assert scores.random_overall_accuracy > 0.95
    assert scores.overall_accuracy.value < 0.7
    assert scores.overall_accuracy.low < 0.5 < scores.overall_accuracy.high


def test_cross_validate_twice_gives_the_same() -> None:
    samples = make_samples()
    table = samples[FEATURES], samples["class_name"], samples["block"]
    first, again = (score(*table) for _ in range(2))
    assert (first.probabilities == again.probabilities).all()
    assert first.importance == again.importance
    assert first.macro_f1 == again.macro_f1


def test_cross_validate_importance_is_that_of_the_features_which_make_the_classes() -> None:
    samples = make_samples()
    scores = score(samples[FEATURES], samples["class_name"], samples["block"])
    order = sorted(scores.importance, key=lambda name: -scores.importance[name])
    assert set(order[:2]) == {"ndvi_2024-04", "ndvi_2024-05"}
    assert scores.importance[order[1]] > 0.2
    assert abs(scores.importance["noise"]) < 0.05


def test_cross_validate_importance_of_many_features_keeps_their_order() -> None:
    """More features than are permuted in one call."""
    samples = make_samples()
    extra = np.random.default_rng(3).normal(size=(len(samples), 40)).astype("float32")
    features = pd.concat(
        [pd.DataFrame(extra, columns=[f"n{i}" for i in range(40)]), samples[FEATURES]], axis=1
    )
    scores = score(
        features, samples["class_name"], samples["block"],
        parameters={"n_estimators": 20, "max_features": 1.0},
    )  # fmt: skip
    assert list(scores.importance) == list(features.columns)
    best = sorted(scores.importance, key=lambda name: -scores.importance[name])[:2]
    assert set(best) == {"ndvi_2024-04", "ndvi_2024-05"}


def test_cross_validate_predicts_each_fold_with_the_project_given_for_it() -> None:
    samples = make_samples()
    table = samples[FEATURES], samples["class_name"], samples["block"]
    folds = spatial_folds(*table[1:], project())
    few, many = (project(parameters={"n_estimators": n}) for n in (3, 30))
    mixed = cross_validate(*table, folds, few, by_fold=[many, few]).probabilities
    for one, (_, tested) in zip((many, few), folds, strict=True):
        assert (mixed[tested] == cross_validate(*table, folds, one).probabilities[tested]).all()
    assert not (mixed == cross_validate(*table, folds, few).probabilities).all()


@pytest.mark.parametrize("name", ["random_forest", "lightgbm", "mlp"])
def test_predict_held_out_fold_trained_on_one_class_answers_that(name: str) -> None:
    samples = make_samples(blocks=4)
    names = pd.Series(np.where(samples["block"] == 0, "rock", samples["class_name"]))
    test = np.flatnonzero(samples["block"] > 0)
    train = np.flatnonzero(samples["block"] == 0)
    one = project(name=name, parameters={})
    found = predict_held_out(samples[FEATURES], names, [(train, test)], one)
    assert (found[test] == [0, 0, 1, 0]).all()  # forest, grassland, rock, water


def test_predict_held_out_class_that_a_fold_lacks_gets_probability_0() -> None:
    samples = make_samples(blocks=4)
    names = samples["class_name"].where(samples["block"] > 0, "rock")
    test = np.flatnonzero(samples["block"] == 0)
    train = np.flatnonzero(samples["block"] > 0)
    found = predict_held_out(samples[FEATURES], names, [(train, test), (test, train)], project())
    assert (found[test, 2] == 0).all()  # forest, grassland, rock, water
    assert (found[train, 2] == 1).all()
    assert found.sum(axis=1) == pytest.approx(1)


def refusal(samples: pd.DataFrame, **validation_: object) -> str:
    checked = make_project(model={}, validation={"folds": 5} | validation_)
    with pytest.raises(DataError) as caught:
        check_samples(samples, samples[FEATURES], checked)
    return str(caught.value)


def test_check_samples_sound_ones_pass() -> None:
    samples = make_samples()
    check_samples(samples, samples[FEATURES], make_project(model={}, validation={"folds": 5}))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_check_samples_feature_that_is_no_number_is_named_with_its_count(value: float) -> None:
    samples = make_samples()
    samples.loc[[3, 7, 8], "ndvi_max"] = value
    samples.loc[4, "noise"] = value
    assert "Feature ndvi_max is NaN or infinite in 3 of 240 samples" in refusal(samples)


def test_check_samples_class_smaller_than_the_folds_is_named() -> None:
    samples = make_samples()
    samples.loc[[0, 30, 60, 90], "class_name"] = "rock"
    assert "Class rock has 4 samples, fewer than the 5 folds; add labels" in refusal(samples)


def test_check_samples_class_in_one_block_is_named() -> None:
    samples = make_samples()
    samples.loc[:9, "class_name"] = "rock"
    assert "All samples of class rock lie in one block" in refusal(samples)


def test_check_samples_polygon_in_two_blocks_is_refused_only_if_it_must_be_whole() -> None:
    samples = make_samples()
    samples["polygon"] = samples["polygon"].replace(3, 4)
    assert "Polygon 4 lies in 2 blocks, though" in refusal(samples)
    cut = make_project(model={}, validation={"folds": 5, "whole_polygons": False})
    check_samples(samples, samples[FEATURES], cut)


def test_check_samples_points_belong_to_no_polygon() -> None:
    samples = make_samples().assign(polygon=-1)
    check_samples(samples, samples[FEATURES], make_project(model={}, validation={"folds": 5}))
