"""Scores of confusion matrices, with intervals from resampling blocks."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

__all__ = ["Matrices", "Score", "count_by_block", "measures", "resample", "with_intervals"]

Matrices = npt.NDArray[np.int64]

_AT_ONCE = 50  # resamples, which bounds memory where blocks are many


class Score(NamedTuple):
    """A score, 0 to 1, and its 95 % interval."""

    value: float
    low: float
    high: float


def count_by_block(
    reference: npt.NDArray[np.int64],
    predicted: npt.NDArray[np.int64],
    blocks: pd.Series,
    n_classes: int,
) -> Matrices:
    """Count a confusion matrix for each block.

    Parameters
    ----------
    reference, predicted : ndarray, shape (sample,), int
        Class numbers from 0.

    Returns
    -------
    ndarray, shape (block, reference, predicted), int64
        Pixels, blocks in the order of their numbers.
    """
    block, numbers = pd.factorize(blocks, sort=True)
    shape = (len(numbers), n_classes, n_classes)
    cells = np.ravel_multi_index((block, reference, predicted), shape)
    return np.bincount(cells, minlength=int(np.prod(shape))).reshape(shape)


def measures(matrices: Matrices) -> dict[str, npt.NDArray[np.float64]]:
    """Compute scores of confusion matrices.

    Parameters
    ----------
    matrices : ndarray, shape (..., reference, predicted)
        Pixels.

    Returns
    -------
    dict
        overall_accuracy and macro_f1, the mean over classes that the reference has, shape (...);
        users_accuracy, producers_accuracy and f1, shape (..., class), NaN where undefined.
    """
    hits = np.diagonal(matrices, axis1=-2, axis2=-1)
    reference, predicted = matrices.sum(axis=-1), matrices.sum(axis=-2)
    with np.errstate(invalid="ignore"):
        f1 = 2 * hits / (reference + predicted)
        return {
            "overall_accuracy": hits.sum(axis=-1) / reference.sum(axis=-1),
            "macro_f1": np.sum(f1, axis=-1, where=reference > 0) / (reference > 0).sum(axis=-1),
            "users_accuracy": hits / predicted,
            "producers_accuracy": hits / reference,
            "f1": f1,
        }


def resample(blocks: int, times: int, seed: int) -> Iterator[npt.NDArray[np.int64]]:
    """Draw blocks with replacement, as many as there are.

    Yields
    ------
    ndarray, shape (resample, block), int64
        How often each block is drawn; `times` resamples in all.
    """
    random = np.random.default_rng(seed)
    for start in range(0, times, _AT_ONCE):
        size = min(_AT_ONCE, times - start)
        yield random.multinomial(blocks, np.full(blocks, 1 / blocks), size=size)


def with_intervals(by_block: Matrices, times: int, seed: int) -> dict[str, npt.NDArray[np.float64]]:
    """Give each of `measures` over all blocks together, and its 95 % interval.

    Blocks, not pixels, are resampled, since neighbouring pixels are alike.

    Parameters
    ----------
    by_block : ndarray, shape (block, reference, predicted), int64
    times : int
        Resamples.

    Returns
    -------
    dict
        Arrays of `measures` with value, low and high along a new first axis; 0 where a score is
        undefined, as the user's accuracy of a class that is never predicted.

    References
    ----------
    Efron & Tibshirani 1993, An Introduction to the Bootstrap, doi:10.1201/9780429246593, chapter
    13 on percentile intervals.
    """
    values = measures(by_block.sum(axis=0))
    drawn = [
        measures(np.tensordot(counts, by_block, axes=1))
        for counts in resample(len(by_block), times, seed)
    ]
    result = {}
    for key, value in values.items():
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "All-NaN slice")
            bounds = np.nanpercentile(np.concatenate([d[key] for d in drawn]), [2.5, 97.5], axis=0)
        result[key] = np.nan_to_num(np.concatenate([value[None], bounds]))
    return result
