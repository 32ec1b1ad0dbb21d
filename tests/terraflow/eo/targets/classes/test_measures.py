from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import accuracy_score, f1_score, precision_score, recall_score

from terraflow.eo.targets.classes.measures import confusion_measures, count_by_group


def test_confusion_measures_by_hand() -> None:
    scores = confusion_measures(np.array([[5, 1], [1, 3]]))
    assert scores["overall_accuracy"] == pytest.approx(0.8)
    assert scores["users_accuracy"].tolist() == pytest.approx([5 / 6, 3 / 4])
    assert scores["producers_accuracy"].tolist() == pytest.approx([5 / 6, 3 / 4])
    assert scores["macro_f1"] == pytest.approx((5 / 6 + 3 / 4) / 2)


def test_confusion_measures_tells_users_from_producers_accuracy() -> None:
    scores = confusion_measures(
        np.array([[4, 0], [6, 10]])
    )  # 6 of the second class taken for the first
    assert scores["users_accuracy"].tolist() == pytest.approx([0.4, 1])
    assert scores["producers_accuracy"].tolist() == pytest.approx([1, 10 / 16])


def test_confusion_measures_class_that_the_reference_lacks_is_left_out_of_macro_f1() -> None:
    scores = confusion_measures(np.array([[6, 0, 2], [0, 0, 0], [1, 0, 1]]))
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
    scores = confusion_measures(
        count_by_group(reference, predicted, pd.Series(blocks), 3).sum(axis=0)
    )
    assert scores["overall_accuracy"] == pytest.approx(accuracy_score(reference, predicted))
    labels = sorted(set(reference))
    options = {"labels": labels, "average": "macro", "zero_division": 0}
    assert scores["macro_f1"] == pytest.approx(f1_score(reference, predicted, **options))
    for name, function in {
        "users_accuracy": precision_score,
        "producers_accuracy": recall_score,
    }.items():
        expected = function(reference, predicted, labels=[0, 1, 2], average=None, zero_division=0)
        assert np.nan_to_num(scores[name]) == pytest.approx(expected)


def test_count_by_group_keeps_blocks_apart_in_the_order_of_their_numbers() -> None:
    counts = count_by_group(
        np.array([0, 1, 1]), np.array([1, 1, 0]), pd.Series([70, 3, 70]), n_classes=2
    )
    assert counts.tolist() == [[[0, 0], [0, 1]], [[0, 1], [1, 0]]]
