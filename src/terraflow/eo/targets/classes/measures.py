"""Confusion matrices, and the measures that are computed of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

__all__ = ["Matrices", "confusion_measures", "count_by_group", "effective_blocks"]

#: Pixels: int64, or float64 where samples are weighted.
Matrices = npt.NDArray[Any]


def count_by_group(
    reference: npt.NDArray[np.int64],
    predicted: npt.NDArray[np.int64],
    groups: npt.ArrayLike,
    n_classes: int,
) -> Matrices:
    """Count a confusion matrix for each group of samples.

    Parameters
    ----------
    reference, predicted : ndarray, shape (sample,), int
        Class numbers from 0.

    Returns
    -------
    ndarray, shape (group, reference, predicted), int64
        Pixels, groups in the order of their numbers.
    """
    group, numbers = pd.factorize(np.asarray(groups), sort=True)
    shape = (len(numbers), n_classes, n_classes)
    cells = np.ravel_multi_index((group, reference, predicted), shape)
    return np.bincount(cells, minlength=int(np.prod(shape))).reshape(shape)


def confusion_measures(matrices: Matrices) -> dict[str, npt.NDArray[np.float64]]:
    """Compute measures of confusion matrices.

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


def effective_blocks(matrices: Matrices) -> dict[str, npt.NDArray[np.float64]]:
    """Count the blocks on which each measure rests, as if they were of one size.

    Parameters
    ----------
    matrices : ndarray, shape (block, reference, predicted)
        Pixels.

    Returns
    -------
    dict
        As `confusion_measures`, shape () or (class,), 0 where there is none. A block's size is the
        number of pixels that it adds to what a measure is a share of; macro_f1 rests on as many
        as the F1 of the class that has the fewest.

    References
    ----------
    Kish 1965, Survey Sampling, section 11.7, on the effective number of unequal weights.
    """
    reference, predicted = matrices.sum(axis=-1), matrices.sum(axis=-2)
    f1 = _effective(reference + predicted)
    known = reference.any(axis=0)
    return {
        "overall_accuracy": _effective(reference.sum(axis=-1)),
        "macro_f1": np.asarray(np.min(f1, initial=len(matrices), where=known)),
        "users_accuracy": _effective(predicted),
        "producers_accuracy": _effective(reference),
        "f1": f1,
    }


def _effective(size: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    total, squares = size.sum(axis=0) ** 2, (size.astype("float64") ** 2).sum(axis=0)
    number: npt.NDArray[np.float64] = total / np.where(squares > 0, squares, 1)
    return number
