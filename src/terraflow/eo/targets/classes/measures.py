"""Confusion matrices, and the measures that are computed of them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

__all__ = ["Matrices", "confusion_measures", "count_by_group"]

Matrices = npt.NDArray[np.int64]


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
