"""Folds of a cross-validation: no block in two, and a gap between training and test."""

from __future__ import annotations

import warnings

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.spatial import cKDTree
from sklearn.model_selection import StratifiedGroupKFold

from terraflow.eo.config.sections import Validation
from terraflow.errors import DataError

__all__ = ["Folds", "leave_gap", "spatial_folds"]

#: Positions of training and of test samples, both int64.
Folds = list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]


def spatial_folds(
    strata: npt.NDArray[np.object_], blocks: pd.Series, validation: Validation, *, seed: int
) -> Folds:
    """Cut samples into folds of like shares of the strata, no block in two.

    Parameters
    ----------
    strata : ndarray, shape (sample,)
        As `Target.strata` names them.
    blocks : Series
        Block number of each sample.
    seed : int

    Raises
    ------
    DataError
        There are too few samples or blocks, or a fold would stay empty.
    """
    cut = StratifiedGroupKFold(validation.folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The least populated")
        return _folds(cut, pd.Series(strata), blocks)


def _folds(cut: StratifiedGroupKFold, strata: pd.Series, blocks: pd.Series) -> Folds:
    try:
        folds = list(cut.split(strata, strata, blocks))
    except ValueError as error:
        raise DataError(
            f"The samples can't be cut into {cut.n_splits} folds: {error} There are "
            f"{strata.value_counts().to_dict()} samples in {blocks.nunique()} blocks; lower "
            "[validation] folds or block_size_px."
        ) from error
    if empty := sum(len(test) == 0 for _, test in folds):
        raise DataError(
            f"{empty} of {cut.n_splits} folds hold no sample, with {blocks.nunique()} blocks; "
            "lower [validation] folds or block_size_px."
        )
    return folds


def leave_gap(
    folds: Folds, pixels: npt.NDArray[np.int64], strata: npt.NDArray[np.object_], gap_px: int
) -> Folds:
    """Leave training samples out that lie within so many pixels of a test sample of their fold.

    Parameters
    ----------
    pixels : ndarray, shape (sample, 2), int64
        Column and row of each sample in the grid.
    strata : ndarray, shape (sample,)
        As `Target.strata` names them.
    gap_px : int
        The greater of the distances in columns and rows; 0 leaves none out.

    Raises
    ------
    DataError
        No training sample of a stratum would be left.
    """
    if not gap_px:
        return folds
    kept: Folds = []
    for train, test in folds:
        # a bound of its own, since the tree takes only what is nearer than it
        near = cKDTree(pixels[test]).query(
            pixels[train], p=np.inf, distance_upper_bound=gap_px + 0.5
        )[0]
        rest = train[np.isinf(near)]
        if lost := sorted({*strata[train]} - {*strata[rest]}):
            raise DataError(
                f"With [validation] gap_px {gap_px}, a fold has no training sample of "
                f"{', '.join(lost)} left; lower gap_px or block_size_px, or add labels of it in "
                "other places."
            )
        kept.append((rest, test))
    return kept
