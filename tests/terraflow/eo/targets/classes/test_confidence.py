from __future__ import annotations

import numpy as np
import pytest

from terraflow.eo.targets.calibration import Calibration, held_out_quantile
from terraflow.eo.targets.classes.confidence import (
    calibrate,
    calibration_error,
    reliability,
    set_sizes,
)

RANDOM = np.random.default_rng(3)


def overconfident(n: int, sharpness: float) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities whose logarithms are so many times too large, and the true classes."""
    logits = RANDOM.normal(size=(n, 4))
    true = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    reference = (true.cumsum(axis=1) > RANDOM.random((n, 1))).argmax(axis=1)
    told = np.exp(sharpness * logits)
    return told / told.sum(axis=1, keepdims=True), reference


def test_calibration_error_by_hand() -> None:
    confidence = np.array([0.95, 0.95, 0.95, 0.95, 0.55, 0.55])
    right = np.array([1, 1, 1, 0, 1, 0])
    assert calibration_error(confidence, right, np.ones(6)) == pytest.approx(
        (4 * abs(0.95 - 0.75) + 2 * abs(0.55 - 0.5)) / 6
    )
    weights = np.array([1, 1, 1, 3, 1, 1])
    assert calibration_error(confidence, right, weights) == pytest.approx(
        (6 * abs(0.95 - 0.5) + 2 * abs(0.55 - 0.5)) / 8
    )


def test_reliability_leaves_out_empty_bins_and_counts_certainty() -> None:
    told, found, weight = reliability(np.array([1.0, 1.0, 0.5]), [1, 0, 1], np.ones(3))
    assert told.tolist() == [0.5, 1.0]
    assert found.tolist() == [1.0, 0.5]
    assert weight.tolist() == [1, 2]


@pytest.mark.parametrize("sharpness", [3.0, 0.3])
def test_calibrate_mends_confidences_and_leaves_the_class(sharpness: float) -> None:
    probabilities, reference = overconfident(4000, sharpness)
    found = calibrate(probabilities, reference, np.arange(4000) % 5, np.ones(4000))
    assert found.method in ("logistic", "isotonic")
    assert found.error_before > 0.1
    assert found.error < 0.03
    fresh, truth = overconfident(20000, sharpness)
    confidence = found.apply(fresh.max(axis=1))
    assert calibration_error(confidence, fresh.argmax(axis=1) == truth, np.ones(20000)) < 0.03
    assert (np.diff(found.accuracy) >= 0).all()


def test_calibrate_leaves_what_is_right_nearly_as_it_is() -> None:
    probabilities, reference = overconfident(8000, 1.0)
    found = calibrate(probabilities, reference, np.arange(8000) % 5, np.ones(8000))
    confidence = np.linspace(0.4, 0.9, 20)
    assert found.apply(confidence) == pytest.approx(confidence, abs=0.06)


def test_calibrate_of_no_error_at_all_is_finite() -> None:
    probabilities = np.eye(3)[np.arange(90) % 3] * 0.7 + 0.1
    found = calibrate(probabilities, np.arange(90) % 3, np.arange(90) % 5, np.ones(90))
    assert 0 < found.apply(np.array([0.8]))[0] <= 1
    assert found.coverage == 1


def test_sets_hold_nine_of_ten_on_new_samples() -> None:
    probabilities, reference = overconfident(5000, 2.0)
    found = calibrate(probabilities, reference, np.arange(5000) % 5, np.ones(5000))
    assert 0.88 <= found.coverage <= 0.92
    assert found.set_probability is not None
    fresh, truth = overconfident(20000, 2.0)
    inside = fresh[np.arange(20000), truth] >= found.set_probability
    assert 0.88 <= inside.mean() <= 0.92


def test_set_of_a_pixel_is_never_empty_and_grows_with_doubt() -> None:
    probabilities = np.array([[0.98, 0.01, 0.01], [0.4, 0.35, 0.25], [0.34, 0.33, 0.33]])
    assert set_sizes(probabilities, 0.3).tolist() == [1, 2, 3]
    assert set_sizes(probabilities, 0.99).tolist() == [1, 1, 1]


def test_held_out_quantile_by_hand() -> None:
    scores = np.arange(1.0, 20.0)  # the 18th of 19 keeps nine of ten of 20
    assert held_out_quantile(scores, np.ones(19)) == 18
    assert held_out_quantile(scores[:8], np.ones(8)) == np.inf
    heavy = np.where(scores == 1, 100.0, 1.0)
    assert held_out_quantile(scores, heavy, 0.5) == 1


def test_calibration_without_a_curve_changes_nothing() -> None:
    confidence = np.array([0.2, 0.7])
    assert Calibration().apply(confidence).tolist() == [0.2, 0.7]
    again = Calibration.model_validate(Calibration(half_width=1.5).to_dict())
    assert again.half_width == 1.5
    assert again.set_probability is None
