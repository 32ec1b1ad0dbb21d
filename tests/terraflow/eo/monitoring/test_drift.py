from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from terraflow.eo.monitoring.drift import (
    EPSILON,
    Drift,
    drift_figure,
    measure,
    population_stability,
)

samples = arrays("float32", st.integers(1, 60), elements=st.floats(-1e6, 1e6, width=32))


def test_population_stability_known_shares_give_the_sum_by_hand() -> None:
    training = np.repeat(np.arange(10.0), 10)  # a tenth in each of ten bins
    new = np.repeat(np.arange(5.0), 20)  # a fifth in each of the lower five
    by_hand = 5 * 0.1 * math.log(2) + 5 * (0.1 - EPSILON) * math.log(0.1 / EPSILON)
    assert population_stability(training, new) == pytest.approx(by_hand)


def test_population_stability_two_values_give_the_sum_by_hand() -> None:
    training, new = np.array([0.0, 1.0] * 50), np.array([0.0, 0.0, 0.0, 1.0] * 25)
    by_hand = 0.25 * math.log(0.75 / 0.5) - 0.25 * math.log(0.25 / 0.5)
    assert population_stability(training, new) == pytest.approx(by_hand)


def test_population_stability_same_distribution_is_near_nothing() -> None:
    random = np.random.default_rng(0)
    # by chance it is about (bins - 1) (1 / n + 1 / m) = 0.0018
    assert population_stability(random.normal(size=10_000), random.normal(size=10_000)) < 0.005


@pytest.mark.parametrize("value", [0.9, 1.1])
def test_population_stability_change_from_a_constant_is_seen_either_way(value: float) -> None:
    training = np.ones(100, "float32")
    assert population_stability(training, np.ones(50, "float32")) == 0
    by_hand = 2 * (1 - EPSILON) * math.log(1 / EPSILON)
    assert population_stability(training, np.full(50, value)) == pytest.approx(by_hand)


@given(samples)
def test_population_stability_of_identical_samples_is_exactly_zero(
    sample: np.ndarray,
) -> None:
    assert population_stability(sample, sample.copy()) == 0
    assert population_stability(sample, np.tile(sample, 2)) == 0


@given(samples, samples)
def test_population_stability_is_finite_and_never_negative(
    training: np.ndarray, new: np.ndarray
) -> None:
    assert 0 <= population_stability(training, new) < math.inf


def test_measure_outside_range_counts_values_beyond_both_ends_only() -> None:
    training = pd.DataFrame({"a": [0.0, 1.0], "b": [5.0, 5.0]})
    new = pd.DataFrame({"a": [0.0, 1.0, -0.1, 1.1], "b": [5.0, 6.0, 5.0, 6.0]})
    drift = measure(training, new)
    assert drift.outside_per_feature == {"a": 0.5, "b": 0.5}
    assert drift.outside_range == 0.75
    assert drift.ranked == ["b", "a"]


def test_drift_figure_marks_features_over_the_threshold() -> None:
    psi = {f"feature_{i}": i / 100 for i in range(40)}
    figure = drift_figure(
        Drift(psi, {}, 0), 0.25, {"water": (0.2, 0.6), "forest": (0.8, 0.4)}, "some note"
    )
    left, right = figure.axes
    assert len(left.patches) == 30
    assert [label.get_text() for label in left.get_yticklabels()][:2] == [
        "feature_39",
        "feature_38",
    ]
    assert sum(bar.get_facecolor() == left.patches[0].get_facecolor() for bar in left.patches) == 14
    assert left.lines[0].get_xdata()[0] == 0.25
    assert [bar.get_width() for bar in right.patches] == [0.2, 0.8, 0.6, 0.4]
    assert "some note" in figure.get_suptitle()
