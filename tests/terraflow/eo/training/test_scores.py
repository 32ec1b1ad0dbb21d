from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from terraflow.eo.built_in import Classification
from terraflow.eo.targets.parts import Score
from terraflow.eo.training.scores import interval_shares, presence, resample, with_intervals


def measure(sums: np.ndarray) -> dict[str, np.ndarray]:
    return Classification().measures(sums, ["a", "b"])


def test_resample_draws_as_many_blocks_as_there_are() -> None:
    parts = list(resample(7, 120, seed=1))
    assert np.concatenate(parts).shape == (120, 7)
    assert (np.concatenate(parts).sum(axis=1) == 7).all()


def test_with_intervals_of_two_blocks_are_those_of_all_resamples() -> None:
    """One block all right, one all wrong: a resample has accuracy 0, 0.5 or 1."""
    right, wrong = np.array([[2, 0], [0, 2]]), np.array([[0, 2], [2, 0]])
    intervals = with_intervals(np.stack([right, wrong]), measure, 500, 0)
    assert intervals["overall_accuracy"] == Score(0.5, 0, 1)
    alike = with_intervals(np.stack([right + wrong] * 5), measure, 500, 0)
    assert alike["overall_accuracy"] == Score(0.5, 0.5, 0.5)


def test_with_intervals_widen_where_pixels_of_a_block_err_together() -> None:
    """200 pixels, 80 % right: as 200 blocks of one the binomial interval, as 20 a wider one."""
    hit, miss = np.array([[1, 0], [0, 0]]), np.array([[0, 1], [0, 0]])
    apart = np.stack([hit] * 160 + [miss] * 40)
    together = np.stack([10 * hit] * 16 + [10 * miss] * 4)
    intervals = with_intervals(apart, measure, 4000, 0)["overall_accuracy"]
    assert (intervals.low, intervals.high) == pytest.approx(
        (0.745, 0.855), abs=0.011
    )  # 0.8 +- 1.96 sqrt(.16/200)
    wider = with_intervals(together, measure, 4000, 0)["overall_accuracy"]
    assert wider.value == pytest.approx(0.8)
    assert (wider.low, wider.high) == pytest.approx((0.6, 0.95), abs=0.051)


def test_with_intervals_class_never_predicted_has_no_users_accuracy() -> None:
    intervals = with_intervals(np.array([[[3, 0], [1, 0]]] * 4), measure, 100, 0)
    assert np.isnan(intervals["users_accuracy_b"].value)
    assert intervals["users_accuracy_b"].text() == "not estimable"
    assert intervals["producers_accuracy_b"].text() == "0.000 (no interval)"


def test_resample_always_holds_each_stratum() -> None:
    present = np.zeros((20, 2), bool)
    present[:, 0] = True
    present[[3, 7], 1] = True
    parts = np.concatenate(list(resample(20, 500, seed=1, present=present)))
    assert (parts.sum(axis=1) == 20).all()
    assert (parts[:, [3, 7]].sum(axis=1) > 0).all()
    assert (np.concatenate(list(resample(20, 500, seed=1)))[:, [3, 7]].sum(axis=1) == 0).any()


def test_resample_of_a_stratum_that_no_block_has_ends() -> None:
    present = np.array([[True, False], [True, False]])
    assert np.concatenate(list(resample(2, 10, seed=1, present=present))).shape == (10, 2)


def test_presence_by_hand() -> None:
    found = presence([4, 4, 9, 2], ["a", "b", "a", "b"])  # blocks by their numbers
    assert found.tolist() == [[False, True], [True, True], [True, False]]


def test_interval_shares_are_wider_for_few_blocks() -> None:
    assert interval_shares(100_000) == pytest.approx((0.025, 0.975), abs=1e-4)
    low, high = interval_shares(10)
    assert low == pytest.approx(norm.cdf(-np.sqrt(10 / 9) * 2.262157), abs=1e-6)
    assert low + high == 1
    assert interval_shares(1) == (0, 1)
