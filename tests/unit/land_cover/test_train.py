from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.ensemble import RandomForestClassifier

from area import make_project
from land_cover import train as module
from land_cover.figures import confusion_figure, map_figure
from land_cover.train import _folds, cross_validate, predict_map
from terraflow.errors import DataError


class Fixed(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A classifier that answers what the test wants."""

    def fit(self, features: pd.DataFrame, classes: pd.Series) -> Fixed:
        FITTED.append(set(features["block"]))
        return self

    def predict(self, features: pd.DataFrame) -> np.ndarray:
        TESTED.append(set(features["block"]))
        return features["answer"].map({0.0: "forest", 1.0: "water"}).to_numpy()


FITTED: list[set[float]] = []
TESTED: list[set[float]] = []


def test_cross_validate_scores_by_hand_and_never_splits_a_block(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_model", lambda project: Fixed())
    FITTED.clear()
    TESTED.clear()
    truth = pd.Series(["forest"] * 6 + ["water"] * 4)
    answer = [0, 0, 0, 0, 0, 1, 1, 1, 1, 0]
    blocks = pd.Series([0, 0, 1, 1, 2, 2, 0, 1, 2, 3])
    features = pd.DataFrame({"answer": np.array(answer, float), "block": blocks.astype(float)})
    scores = cross_validate(features, truth, blocks, make_project())
    assert scores.overall_accuracy == pytest.approx(0.8)
    assert scores.per_class["forest"]["users_accuracy"] == pytest.approx(5 / 6)
    assert scores.per_class["forest"]["producers_accuracy"] == pytest.approx(5 / 6)
    assert scores.per_class["water"]["f1"] == pytest.approx(3 / 4)
    assert scores.macro_f1 == pytest.approx((5 / 6 + 3 / 4) / 2)
    assert scores.matrix.tolist() == [[5, 1], [1, 3]]
    assert len(FITTED) == 2
    for fitted, tested in zip(FITTED, TESTED, strict=True):
        assert not fitted & tested


def test_cross_validate_empty_fold_is_refused() -> None:
    class Cut:  # scikit-learn leaves a fold empty for about one layout of few blocks in a hundred
        n_splits = 2

        def split(self, *table: object) -> list[tuple[np.ndarray, np.ndarray]]:
            return [(np.arange(80), np.array([], int)), (np.array([], int), np.arange(80))]

    with pytest.raises(DataError, match="1 of 2 folds hold no sample, with 10 blocks"):
        _folds(Cut(), *forest_on_noise(1))  # type: ignore[arg-type]


def test_cross_validate_fewer_blocks_than_folds_is_refused() -> None:
    features, classes, _ = forest_on_noise(1)
    with pytest.raises(DataError, match="can't be cut into 2 folds"):
        cross_validate(features, classes, pd.Series([0] * 80), make_project())


def test_cross_validate_class_smaller_than_the_folds_is_refused() -> None:
    features = pd.DataFrame({"a": [0.0, 1.0]})
    with pytest.raises(DataError, match="can't be cut into 2 folds"):
        cross_validate(features, pd.Series(["x", "y"]), pd.Series([0, 1]), make_project())


def forest_on_noise(seed: int) -> tuple[pd.DataFrame, pd.Series, pd.Series]:
    random = np.random.default_rng(seed)
    features = pd.DataFrame(random.normal(size=(80, 3)), columns=["a", "b", "c"])
    classes = pd.Series(np.where(features["a"] > 0, "forest", "water"))
    return features, classes, pd.Series(np.arange(80) // 8)


def test_cross_validate_twice_gives_the_same() -> None:
    table = forest_on_noise(1)
    first, again = (cross_validate(*table, make_project()) for _ in range(2))
    assert first.matrix.tolist() == again.matrix.tolist()


def test_predict_map_keeps_nodata_and_numbers_classes_in_order() -> None:
    features, classes, _ = forest_on_noise(2)
    model = RandomForestClassifier(10, random_state=0).fit(features, classes)
    values = np.zeros((3, 2, 2), "float32")
    values[0] = [[2, -2], [np.nan, 2]]
    cube = xr.DataArray(values, dims=("feature", "y", "x"), coords={"feature": ["a", "b", "c"]})
    numbers = predict_map(model, cube, ["forest", "water"])
    assert numbers.tolist() == [[1, 2], [0, 1]]
    assert numbers.dtype == "uint8"


def test_figures_say_that_data_are_simulated() -> None:
    note = module.SIMULATED_NOTE
    for figure in (
        confusion_figure(np.array([[3, 1], [0, 2]]), ["a", "b"], note),
        map_figure(np.array([[0, 1], [2, 1]], "uint8"), ["a", "b"], note),
    ):
        assert note in figure.axes[0].get_title()
