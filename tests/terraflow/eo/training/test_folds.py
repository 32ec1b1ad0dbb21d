from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from samples import make_samples
from terraflow.eo.config.sections import Validation
from terraflow.eo.training.folds import Folds, _folds, leave_gap, spatial_folds
from terraflow.errors import DataError

VALIDATION = Validation(block_size_px=4, folds=2)


def noise() -> tuple[pd.Series, pd.Series]:
    values = np.random.default_rng(1).normal(size=80)
    return pd.Series(np.where(values > 0, "forest", "water")), pd.Series(np.arange(80) // 8)


def test_spatial_folds_test_each_sample_once_and_split_no_block() -> None:
    samples = make_samples()
    folds = spatial_folds(
        samples["class_name"].to_numpy(object), samples["block"], VALIDATION, seed=42
    )
    assert sorted(np.concatenate([test for _, test in folds])) == list(range(len(samples)))
    for train, test in folds:
        assert not set(samples["block"].iloc[train]) & set(samples["block"].iloc[test])


def test_spatial_folds_empty_fold_is_refused() -> None:
    class Cut:  # scikit-learn leaves a fold empty for about one layout of few blocks in a hundred
        n_splits = 2

        def split(self, *table: object) -> list[tuple[np.ndarray, np.ndarray]]:
            return [(np.arange(80), np.array([], int)), (np.array([], int), np.arange(80))]

    with pytest.raises(DataError, match="1 of 2 folds hold no sample, with 10 blocks"):
        _folds(Cut(), *noise())  # type: ignore[arg-type]


def test_spatial_folds_fewer_blocks_than_folds_is_refused() -> None:
    classes, _ = noise()
    with pytest.raises(DataError, match=r"can't be cut into 2 folds.* in 1 blocks; lower"):
        spatial_folds(classes.to_numpy(object), pd.Series([0] * 80), VALIDATION, seed=42)


#: Columns and rows; the first two are tested.
PIXELS = np.array([[0, 0], [1, 0], [3, 0], [4, 0], [1, 3], [3, 2], [9, 9]])
FOLDS: Folds = [(np.arange(2, 7), np.arange(2))]


@pytest.mark.parametrize(
    ("gap_px", "kept"),
    [
        (0, [2, 3, 4, 5, 6]),
        (1, [2, 3, 4, 5, 6]),
        (2, [3, 4, 6]),  # two columns, and two columns and two rows, from the second
        (3, [6]),
    ],
)
def test_leave_gap_keeps_training_samples_farther_than_it(gap_px: int, kept: list[int]) -> None:
    [(train, test)] = leave_gap(FOLDS, PIXELS, np.array(["a"] * 7), gap_px)
    assert train.tolist() == kept
    assert test.tolist() == [0, 1]


def test_leave_gap_that_leaves_no_sample_of_a_class_is_refused() -> None:
    classes = np.array(["a", "b", "b", "a", "a", "b", "a"])
    assert leave_gap(FOLDS, PIXELS, classes, 1)
    with pytest.raises(DataError, match=r"gap_px 2, a fold has no training sample of b left"):
        leave_gap(FOLDS, PIXELS, classes, 2)
