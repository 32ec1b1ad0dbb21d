from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from terraflow.eo.models.applicability import POINTS, Applicability, learn_applicability
from terraflow.errors import DataError

RANDOM = np.random.default_rng(1)


def learn(values: np.ndarray, importance: dict[str, float] | None = None) -> Applicability:
    table = pd.DataFrame(
        values.astype("float32"), columns=[f"f{i}" for i in range(values.shape[1])]
    )
    told = dict.fromkeys(table.columns, 1.0) if importance is None else importance
    folds = np.arange(len(table)) % 5
    return learn_applicability(table, told, folds=folds, seed=0)


def test_dissimilarity_by_hand() -> None:
    """Two standardised features of equal weight: distances are those of the plane, halved."""
    corners = np.array([[0, 0], [0, 2], [2, 0], [2, 2], [1, 1]], "float64")
    found = learn(corners)
    std = corners.std(axis=0)[0]
    pairs = [np.hypot(*(a - b)) / 2 / std for i, a in enumerate(corners) for b in corners[:i]]
    assert found.spread == pytest.approx(np.mean(pairs))
    pixels = np.array([[0, 1, 4], [0, 0, 2]], "float32")
    expected = np.array([0, 1, 2]) / 2 / std / np.mean(pairs)
    assert found.dissimilarity(pixels) == pytest.approx(expected, abs=1e-3)


def test_dissimilarity_equals_that_of_all_distances() -> None:
    values = RANDOM.normal(size=(24, 4)) @ RANDOM.normal(size=(4, 12))
    importance = {f"f{i}": float(i) for i in range(12)}
    found, pixels = learn(values, importance), RANDOM.normal(size=(12, 1000)).astype("float32")
    scale = np.arange(12) / np.arange(12).sum() / values.std(axis=0)
    apart = ((pixels.T[:, None] - values[None]) * scale) ** 2
    exact = np.sqrt(apart.sum(axis=2)).min(axis=1) / found.spread
    # the axes hold 95 % of the variance of samples; these pixels leave their space
    inside = found.dissimilarity(values.T.astype("float32"))
    assert inside == pytest.approx(0, abs=1e-2)
    assert (found.dissimilarity(pixels) <= exact + 1e-4).all()


def test_dissimilarity_is_the_mean_over_parts_of_the_samples() -> None:
    """75 samples in three parts, in the order in which they are kept."""
    found = learn(RANDOM.normal(size=(75, 1)))
    pixels = np.array([[0.1, 2.5]], "float32")
    placed = found.axes @ (pixels - found.mean)
    apart = (found.points.reshape(3, 25, 1) - placed[0]) ** 2
    expected = np.sqrt(apart.min(axis=1).mean(axis=0)) / found.spread
    assert found.dissimilarity(pixels) == pytest.approx(expected, rel=1e-3)


def test_feature_of_no_importance_does_not_count() -> None:
    values = RANDOM.normal(size=(20, 2))
    found = learn(values, {"f0": 0.2, "f1": -0.01})
    far = np.array([[values[0, 0]], [1000.0]], "float32")
    assert found.dissimilarity(far)[0] == pytest.approx(0, abs=1e-3)


def test_features_count_alike_where_none_has_importance() -> None:
    values = RANDOM.normal(size=(200, 2))
    equal, none = learn(values), learn(values, {"f0": -0.1, "f1": 0.0})
    pixels = np.array([[9.0], [-9.0]], "float32")
    assert equal.dissimilarity(pixels) == pytest.approx(none.dissimilarity(pixels))


def test_constant_feature_does_not_count() -> None:
    values = np.column_stack([RANDOM.normal(size=100), np.full(100, 3.0)])
    pixels = np.array([[0.0], [99.0]], "float32")
    assert np.isfinite(learn(values).dissimilarity(pixels)).all()


def test_threshold_lets_nearly_all_of_the_same_distribution_in_and_another_out() -> None:
    found = learn(RANDOM.normal(size=(2000, 3)))
    assert found.points.shape[0] == POINTS
    same, other = RANDOM.normal(size=(3, 5000)), RANDOM.normal(8, 1, size=(3, 5000))
    assert (found.dissimilarity(same.astype("float32")) <= found.threshold).mean() > 0.95
    assert (found.dissimilarity(other.astype("float32")) > found.threshold).mean() > 0.99


def test_bytes_give_the_same_back_and_nothing_else() -> None:
    found = learn(RANDOM.normal(size=(100, 2)))
    again = Applicability.from_bytes(found.to_bytes())
    pixels = RANDOM.normal(size=(2, 10)).astype("float32")
    assert (again.dissimilarity(pixels) == found.dissimilarity(pixels)).all()
    assert again.threshold == found.threshold
    for data in (b"", b"no npz", found.to_bytes()[:200]):
        with pytest.raises(DataError, match="training samples can't be read"):
            Applicability.from_bytes(data)
