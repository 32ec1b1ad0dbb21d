from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin

from samples import FEATURES, make_samples
from terraflow.eo.built_in import Classification
from terraflow.eo.config.sections import Model, Validation
from terraflow.eo.models.choice import ModelChoice, choose_model
from terraflow.eo.targets.parts import Evaluation
from terraflow.eo.training.cross_validation import (
    Table,
    check_samples,
    cross_validate,
    predict_held_out,
)
from terraflow.eo.training.folds import Folds, spatial_folds
from terraflow.errors import DataError

BLOCKS_SEEN: list[tuple[set[float], set[float]]] = []


class Fixed(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A classifier that answers what the column `answer` says, and notes which blocks it saw."""

    def fit(self, features: pd.DataFrame, classes: pd.Series) -> Fixed:
        self.seen_ = set(features["block"])
        self.classes_ = np.unique(classes)
        return self

    def predict(self, features: pd.DataFrame) -> np.ndarray:
        return self.classes_[self.predict_proba(features).argmax(axis=1)]

    def predict_proba(self, features: pd.DataFrame) -> np.ndarray:
        BLOCKS_SEEN.append((self.seen_, set(features["block"])))
        return np.eye(2)[features["answer"].astype(int)][:, : len(self.classes_)]


@pytest.fixture
def fixed() -> ModelChoice:
    BLOCKS_SEEN.clear()
    return choose_model(Model(name="fixed"), {"fixed": Fixed}, seed=42)


VALIDATION = Validation(block_size_px=4, folds=2)


def choice(name: str = "random_forest", **parameters: object) -> ModelChoice:
    given = parameters or ({"n_estimators": 10} if name == "random_forest" else {})
    return choose_model(Model.model_validate({"name": name, "parameters": given}), {}, seed=42)


def table(features: pd.DataFrame, classes: pd.Series, blocks: pd.Series) -> Table:
    target = Classification()
    return Table(features, classes, blocks, target, target.levels(classes))


def cut(classes: pd.Series, blocks: pd.Series) -> Folds:
    return spatial_folds(classes.to_numpy(object), blocks, VALIDATION, seed=42)


def score(
    features: pd.DataFrame,
    classes: pd.Series,
    blocks: pd.Series,
    model: ModelChoice | None = None,
) -> Evaluation:
    folds = cut(classes, blocks)
    return cross_validate(
        table(features, classes, blocks), folds, model or choice(), VALIDATION, seed=42
    )


def held_out(
    features: pd.DataFrame, classes: pd.Series, folds: Folds, model: ModelChoice
) -> np.ndarray:
    blocks = pd.Series(np.zeros(len(classes), int))
    return predict_held_out(table(features, classes, blocks), folds, model, seed=42)


def test_cross_validate_scores_by_hand(fixed: ModelChoice) -> None:
    truth = pd.Series(["forest"] * 6 + ["water"] * 4)
    answer = [0, 0, 0, 0, 0, 1, 1, 1, 1, 0]
    blocks = pd.Series([0, 0, 1, 1, 2, 2, 0, 1, 2, 3])
    features = pd.DataFrame({"answer": np.array(answer, float), "block": blocks.astype(float)})
    found = score(features, truth, blocks, fixed)
    scores = found.scores
    assert scores["overall_accuracy"].value == pytest.approx(0.8)
    assert scores["users_accuracy_forest"].value == pytest.approx(5 / 6)
    assert scores["producers_accuracy_forest"].value == pytest.approx(5 / 6)
    assert scores["f1_water"].value == pytest.approx(3 / 4)
    assert scores["macro_f1"].value == pytest.approx((5 / 6 + 3 / 4) / 2)
    assert scores["macro_f1"].low < scores["macro_f1"].value < scores["macro_f1"].high
    assert found.sums.tolist() == [[5, 1], [1, 3]]
    predicted = Classification().decide(found.predictions, found.levels)
    assert [*predicted] == [("forest", "water")[number] for number in answer]
    assert found.at_random["overall_accuracy"] == pytest.approx(0.8)


def test_cross_validate_never_tests_a_block_that_was_seen(fixed: ModelChoice) -> None:
    samples = make_samples(blocks=6)
    features = pd.DataFrame({"answer": 0.0, "block": samples["block"].astype(float)})
    kinds = samples["class_name"].where(samples["class_name"] == "water", "other")
    held_out(features, kinds, cut(kinds, samples["block"]), fixed)
    assert len(BLOCKS_SEEN) == 2
    for seen, tested in BLOCKS_SEEN:
        assert tested
        assert not seen & tested


def test_cross_validate_at_random_is_optimistic_where_blocks_differ() -> None:
    """Classes are drawn for blocks, not by features: only a neighbour can tell them."""
    random = np.random.default_rng(0)
    block = pd.Series(np.repeat(np.arange(30), 12))
    names = pd.Series(random.choice(["a", "b"], 30)[block])
    features = pd.DataFrame(random.normal(size=(30, 3))[block], columns=["p", "q", "r"])
    features += random.normal(scale=0.05, size=features.shape)
    scores = score(features.astype("float32"), names, block)
    assert scores.at_random["overall_accuracy"] > 0.95
    accuracy = scores.scores["overall_accuracy"]
    assert accuracy.value < 0.7
    assert accuracy.low < 0.5 < accuracy.high


def test_cross_validate_twice_gives_the_same() -> None:
    samples = make_samples()
    columns = samples[FEATURES], samples["class_name"], samples["block"]
    first, again = (score(*columns) for _ in range(2))
    assert (first.predictions == again.predictions).all()
    assert first.importance == again.importance
    assert first.scores == again.scores


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
        features,
        samples["class_name"],
        samples["block"],
        choice(n_estimators=20, max_features=1.0),
    )
    assert list(scores.importance) == list(features.columns)
    best = sorted(scores.importance, key=lambda name: -scores.importance[name])[:2]
    assert set(best) == {"ndvi_2024-04", "ndvi_2024-05"}


def test_cross_validate_predicts_each_fold_with_the_choice_given_for_it() -> None:
    samples = make_samples()
    columns = samples[FEATURES], samples["class_name"], samples["block"]
    folds = cut(*columns[1:])
    few, many = (choice(n_estimators=n) for n in (3, 30))

    def predictions(one: ModelChoice, **options: object) -> np.ndarray:
        found = cross_validate(table(*columns), folds, one, VALIDATION, seed=42, **options)
        return found.predictions

    mixed = predictions(few, by_fold=[many, few])
    for one, (_, tested) in zip((many, few), folds, strict=True):
        assert (mixed[tested] == predictions(one)[tested]).all()
    assert not (mixed == predictions(few)).all()


@pytest.mark.parametrize("name", ["random_forest", "lightgbm", "mlp"])
def test_predict_held_out_fold_trained_on_one_class_answers_that(name: str) -> None:
    samples = make_samples(blocks=4)
    names = pd.Series(np.where(samples["block"] == 0, "rock", samples["class_name"]))
    test = np.flatnonzero(samples["block"] > 0)
    train = np.flatnonzero(samples["block"] == 0)
    found = held_out(samples[FEATURES], names, [(train, test)], choice(name))
    assert (found[test] == [0, 0, 1, 0]).all()  # forest, grassland, rock, water


def test_predict_held_out_class_that_a_fold_lacks_gets_probability_0() -> None:
    samples = make_samples(blocks=4)
    names = samples["class_name"].where(samples["block"] > 0, "rock")
    test = np.flatnonzero(samples["block"] == 0)
    train = np.flatnonzero(samples["block"] > 0)
    found = held_out(samples[FEATURES], names, [(train, test), (test, train)], choice())
    assert (found[test, 2] == 0).all()  # forest, grassland, rock, water
    assert (found[train, 2] == 1).all()
    assert found.sum(axis=1) == pytest.approx(1)


def refusal(samples: pd.DataFrame, **validation_: object) -> str:
    checked = Validation.model_validate({"folds": 5} | validation_)
    with pytest.raises(DataError) as caught:
        check_samples(samples, samples[FEATURES], Classification(), checked)
    return str(caught.value)


def test_check_samples_sound_ones_pass() -> None:
    samples = make_samples()
    check_samples(samples, samples[FEATURES], Classification(), Validation(folds=5))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_check_samples_feature_that_is_no_number_is_named_with_its_count(value: float) -> None:
    samples = make_samples()
    samples.loc[[3, 7, 8], "ndvi_max"] = value
    samples.loc[4, "noise"] = value
    assert "Feature ndvi_max is NaN or infinite in 3 of 240 samples" in refusal(samples)


def test_check_samples_class_smaller_than_the_folds_is_named() -> None:
    samples = make_samples()
    samples.loc[[0, 30, 60, 90], "class_name"] = "rock"
    assert "There are 4 samples of rock, fewer than the 5 folds; add labels" in refusal(samples)


def test_check_samples_class_in_one_block_is_named() -> None:
    samples = make_samples()
    samples.loc[:9, "class_name"] = "rock"
    assert "All samples of rock lie in one block" in refusal(samples)


def test_check_samples_polygon_in_two_blocks_is_refused_only_if_it_must_be_whole() -> None:
    samples = make_samples()
    samples["polygon"] = samples["polygon"].replace(3, 4)
    assert "Polygon 4 lies in 2 blocks, though" in refusal(samples)
    parts = Validation(folds=5, whole_polygons=False)
    check_samples(samples, samples[FEATURES], Classification(), parts)


def test_check_samples_points_belong_to_no_polygon() -> None:
    samples = make_samples().assign(polygon=-1)
    check_samples(samples, samples[FEATURES], Classification(), Validation(folds=5))
