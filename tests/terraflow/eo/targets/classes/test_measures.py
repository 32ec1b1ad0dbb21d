from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import accuracy_score, f1_score, precision_score, recall_score

from terraflow.eo.training.scores import count_by_block, measures, resample, with_intervals


def test_measures_by_hand() -> None:
    scores = measures(np.array([[5, 1], [1, 3]]))
    assert scores["overall_accuracy"] == pytest.approx(0.8)
    assert scores["users_accuracy"].tolist() == pytest.approx([5 / 6, 3 / 4])
    assert scores["producers_accuracy"].tolist() == pytest.approx([5 / 6, 3 / 4])
    assert scores["macro_f1"] == pytest.approx((5 / 6 + 3 / 4) / 2)


def test_measures_tells_users_from_producers_accuracy() -> None:
    scores = measures(np.array([[4, 0], [6, 10]]))  # 6 of the second class taken for the first
    assert scores["users_accuracy"].tolist() == pytest.approx([0.4, 1])
    assert scores["producers_accuracy"].tolist() == pytest.approx([1, 10 / 16])


def test_measures_class_that_the_reference_lacks_is_left_out_of_macro_f1() -> None:
    scores = measures(np.array([[6, 0, 2], [0, 0, 0], [1, 0, 1]]))
    assert np.isnan(scores["producers_accuracy"][1])
    assert scores["macro_f1"] == pytest.approx((12 / 15 + 2 / 5) / 2)


@given(
    arrays(int, 40, elements=st.integers(0, 2)),
    arrays(int, 40, elements=st.integers(0, 2)),
    arrays(int, 40, elements=st.integers(0, 5)),
)
def test_scores_over_all_blocks_agree_with_scikit_learn(
    reference: np.ndarray, predicted: np.ndarray, blocks: np.ndarray
) -> None:
    scores = measures(count_by_block(reference, predicted, pd.Series(blocks), 3).sum(axis=0))
    assert scores["overall_accuracy"] == pytest.approx(accuracy_score(reference, predicted))
    labels = sorted(set(reference))
    options = {"labels": labels, "average": "macro", "zero_division": 0}
    assert scores["macro_f1"] == pytest.approx(f1_score(reference, predicted, **options))
    for name, function in {
        "users_accuracy": precision_score, "producers_accuracy": recall_score
    }.items():  # fmt: skip
        expected = function(reference, predicted, labels=[0, 1, 2], average=None, zero_division=0)
        assert np.nan_to_num(scores[name]) == pytest.approx(expected)


def test_count_by_block_keeps_blocks_apart_in_the_order_of_their_numbers() -> None:
    counts = count_by_block(
        np.array([0, 1, 1]), np.array([1, 1, 0]), pd.Series([70, 3, 70]), n_classes=2
    )
    assert counts.tolist() == [[[0, 0], [0, 1]], [[0, 1], [1, 0]]]


def test_resample_draws_as_many_blocks_as_there_are() -> None:
    parts = list(resample(7, 120, seed=1))
    assert np.concatenate(parts).shape == (120, 7)
    assert (np.concatenate(parts).sum(axis=1) == 7).all()


def test_with_intervals_of_two_blocks_are_those_of_all_resamples() -> None:
    """One block all right, one all wrong: a resample has accuracy 0, 0.5 or 1."""
    right, wrong = np.array([[2, 0], [0, 2]]), np.array([[0, 2], [2, 0]])
    intervals = with_intervals(np.stack([right, wrong]), times=500, seed=0)
    assert intervals["overall_accuracy"].tolist() == [0.5, 0, 1]
    alike = with_intervals(np.stack([right + wrong] * 5), times=500, seed=0)
    assert alike["overall_accuracy"].tolist() == [0.5, 0.5, 0.5]


def test_with_intervals_widen_where_pixels_of_a_block_err_together() -> None:
    """200 pixels, 80 % right: as 200 blocks of one the binomial interval, as 20 a wider one."""
    hit, miss = np.array([[1, 0], [0, 0]]), np.array([[0, 1], [0, 0]])
    apart = np.stack([hit] * 160 + [miss] * 40)
    together = np.stack([10 * hit] * 16 + [10 * miss] * 4)
    intervals = with_intervals(apart, times=4000, seed=0)["overall_accuracy"]
    assert intervals[1:] == pytest.approx([0.745, 0.855], abs=0.011)  # 0.8 +- 1.96 sqrt(.16/200)
    wider = with_intervals(together, times=4000, seed=0)["overall_accuracy"]
    assert wider[0] == pytest.approx(0.8)
    assert wider[1:] == pytest.approx([0.6, 0.95], abs=0.051)


def test_with_intervals_class_never_predicted_has_users_accuracy_0() -> None:
    intervals = with_intervals(np.array([[[3, 0], [1, 0]]] * 4), times=100, seed=0)
    assert intervals["users_accuracy"][:, 1].tolist() == [0, 0, 0]
    assert intervals["producers_accuracy"][:, 1].tolist() == [0, 0, 0]
