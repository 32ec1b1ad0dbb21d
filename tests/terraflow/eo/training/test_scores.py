from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binomtest
from scipy.stats import t as student

from terraflow.eo.built_in import Classification
from terraflow.eo.targets.parts import Score
from terraflow.eo.training.scores import block_moves, margin, resample
from terraflow.eo.training.scores import with_intervals as with_intervals_of

LEVELS = ["a", "b"]


def measure(sums: np.ndarray) -> dict[str, np.ndarray]:
    return Classification().measures(sums, LEVELS)


def with_intervals(by_block: np.ndarray) -> dict[str, Score]:
    blocks = Classification().effective_blocks(by_block, LEVELS)
    return with_intervals_of(by_block, measure, blocks)


RIGHT, WRONG = np.array([[2, 0], [0, 2]]), np.array([[0, 2], [2, 0]])


def test_block_moves_are_what_a_block_adds_to_the_mean() -> None:
    """Of a mean over blocks of equal size, a block moves its own value less the mean, by n."""
    moves = block_moves(np.stack([RIGHT, WRONG, WRONG, WRONG]), measure)["overall_accuracy"]
    assert moves == pytest.approx(np.array([0.75, -0.25, -0.25, -0.25]) / 4, abs=1e-8)


def test_margin_of_blocks_that_move_alike_is_students() -> None:
    """Blocks of +1 and -1: standard error sqrt(n / (n - 1)) / sqrt(n) times n, all n tell."""
    moves = np.array([1.0, -1.0] * 5)
    assert margin(moves) == pytest.approx(student.ppf(0.975, 10) * np.sqrt(10 * 10 / 9))


def test_margin_goes_by_the_blocks_that_move_and_not_by_those_that_are_there() -> None:
    """Two of three blocks of a class against one: two degrees of freedom, of however many."""
    few = np.array([1.0, 1.0, -2.0])
    expected = student.ppf(0.975, 2) * np.sqrt(6 * 3 / 2)
    assert margin(few) == pytest.approx(expected)
    assert margin(np.concatenate([few, np.zeros(50)])) == pytest.approx(expected)
    assert margin(np.zeros(5)) == 0


def test_margin_counts_blocks_better_where_it_is_known_how_many_tell() -> None:
    """By chance alone the squares of 30 alike blocks count as 10; of those of 3 no more than 2."""
    moves = np.random.default_rng(0).normal(size=30)
    error = np.sqrt((moves**2).sum() * 30 / 29)
    counted = (moves**2).sum() ** 2 / (moves**4).sum()
    assert 5 < counted < 15
    assert margin(moves) == pytest.approx(student.ppf(0.975, counted) * error)
    known = student.ppf(0.975, min(3 * counted - 2, 29)) * error
    assert student.ppf(0.975, 29) * error <= margin(moves, 30) == pytest.approx(known)
    assert margin(moves, 3) == margin(moves)


def test_with_intervals_of_a_share_by_hand() -> None:
    """Ten blocks, of which five have 6 of 10 right and five 8: logarithms of odds, Student's t."""
    six, eight = ([[0.5 * n, 0.5 * (10 - n)], [0.5 * (10 - n), 0.5 * n]] for n in (6, 8))
    found = with_intervals(np.array([six, eight] * 5))["overall_accuracy"]
    half = student.ppf(0.975, 10) * np.sqrt(10 * 0.01**2 * 10 / 9) / (0.7 * 0.3)
    expected = [1 / (1 + np.exp(-np.log(7 / 3) + sign * half)) for sign in (1, -1)]
    assert found.value == pytest.approx(0.7)
    assert (found.low, found.high) == pytest.approx(expected)
    alike = with_intervals(np.stack([RIGHT + WRONG] * 5))["overall_accuracy"]
    assert (alike.value, alike.low, alike.high) == pytest.approx((0.5, 0.5, 0.5))


def test_with_intervals_one_bad_block_of_many_does_not_leave_everything_open() -> None:
    """All errors lie in one of 48 blocks, which makes all of the variance: 0.072 to 1.000."""
    found = with_intervals(np.stack([WRONG] + [RIGHT] * 47))["overall_accuracy"]
    share = binomtest(47, 48).proportion_ci(method="wilson")
    assert (found.low, found.high) == pytest.approx((share.low, share.high), abs=1e-6)


def test_with_intervals_widen_where_pixels_of_a_block_err_together() -> None:
    """200 pixels, 80 % right: as 200 blocks of one the binomial interval, as 20 a wider one."""
    hit, miss = np.array([[1, 0], [0, 0]]), np.array([[0, 1], [0, 0]])
    apart = np.stack([hit] * 160 + [miss] * 40)
    together = np.stack([10 * hit] * 16 + [10 * miss] * 4)
    intervals = with_intervals(apart)["overall_accuracy"]
    assert (intervals.low, intervals.high) == pytest.approx(
        (0.745, 0.855), abs=0.011
    )  # 0.8 +- 1.96 sqrt(.16/200)
    wider = with_intervals(together)["overall_accuracy"]
    assert wider.value == pytest.approx(0.8)
    assert (wider.low, wider.high) == pytest.approx((0.6, 0.95), abs=0.051)


@pytest.mark.parametrize("blocks", [3, 10, 40])
@pytest.mark.parametrize(("right", "alike"), [(0.8, 0.1), (0.8, 0.4), (0.95, 0.1)])
def test_with_intervals_hold_the_truth(blocks: int, right: float, alike: float) -> None:
    """Blocks whose pixels err together; percentiles of resamples held it in 61 % of 3 blocks."""
    random, held, times = np.random.default_rng(0), 0, 400
    spread = (1 - alike) / alike
    for _ in range(times):
        size = random.integers(5, 40, blocks)
        chance = random.beta(right * spread, (1 - right) * spread, blocks)
        hits = random.binomial(size, chance)
        by_block = np.zeros((blocks, 2, 2))
        by_block[:, 0, 0], by_block[:, 0, 1] = hits, size - hits
        found = with_intervals(by_block)["producers_accuracy_a"]
        held += found.low <= right <= found.high
    assert held / times >= 0.92


def test_with_intervals_class_never_predicted_has_no_users_accuracy() -> None:
    """It was told as 0.000, as if the model had been wrong each time."""
    intervals = with_intervals(np.array([[[3, 0], [1, 0]]] * 4))
    never = intervals["users_accuracy_b"]
    assert math.isnan(never.value)
    assert never.text() == "not estimable"


@pytest.mark.parametrize("blocks", [1, 3, 12])
@pytest.mark.parametrize("right", [True, False])
def test_with_intervals_share_of_none_or_all_is_not_certain(blocks: int, right: bool) -> None:
    """Blocks, and not their 30 pixels each, are the trials."""
    one = np.array([[30, 0], [0, 30]] if right else [[30, 0], [30, 0]])
    found = with_intervals(np.stack([one] * blocks))["producers_accuracy_b"]
    share = binomtest(blocks if right else 0, blocks).proportion_ci(method="wilson")
    assert (found.value, found.low, found.high) == pytest.approx(
        (float(right), share.low, share.high), abs=1e-6
    )
    assert found.high - found.low > 0.2


def test_with_intervals_few_blocks_of_a_class_are_few_trials() -> None:
    """Two blocks that hold b, of twenty: whatever they weigh, its accuracy is between theirs."""
    without, half = np.array([[9, 0], [0, 0]]), np.array([[9, 0], [10, 10]])
    by_block = np.stack([half, half] + [without] * 18)
    found = with_intervals(by_block)["producers_accuracy_b"]
    assert (found.low, found.high) == pytest.approx((0.0945, 0.9055), abs=1e-3)


def test_with_intervals_class_in_few_blocks_is_never_left_out() -> None:
    """A resample that lacked b had the macro F1 of a alone, which was 1."""
    fine, missed = np.array([[9, 0], [0, 0]]), np.array([[9, 0], [1, 0]])
    found = with_intervals(np.stack([missed] * 3 + [fine] * 17))["macro_f1"]
    assert found.value == pytest.approx(0.495, abs=0.003)
    assert found.high < 0.51


def test_resample_draws_as_many_blocks_as_there_are() -> None:
    parts = list(resample(7, 120, seed=1))
    assert np.concatenate(parts).shape == (120, 7)
    assert (np.concatenate(parts).sum(axis=1) == 7).all()
