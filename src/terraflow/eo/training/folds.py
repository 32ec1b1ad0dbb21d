"""Folds of a cross-validation: no block in two, and a gap between training and test."""

from __future__ import annotations

import warnings

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.spatial import cKDTree
from sklearn.model_selection import StratifiedGroupKFold

from terraflow.eo.config.project_file import ProjectConfig
from terraflow.errors import DataError

__all__ = ["Folds", "leave_gap", "spatial_folds"]

#: Positions of training and of test samples, both int64.
Folds = list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]


def spatial_folds(classes: pd.Series, blocks: pd.Series, project: ProjectConfig) -> Folds:
    """Cut samples into folds of like class shares, no block in two.

    Parameters
    ----------
    classes, blocks : Series
        Class name and block number of each sample.

    Raises
    ------
    DataError
        There are too few samples or blocks, or a fold would stay empty.
    """
    cut = StratifiedGroupKFold(project.validation.folds, shuffle=True, random_state=project.seed)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The least populated class")
        return _folds(cut, classes, blocks)


def _folds(cut: StratifiedGroupKFold, classes: pd.Series, blocks: pd.Series) -> Folds:
    try:
        folds = list(cut.split(classes, classes, blocks))
    except ValueError as error:
        raise DataError(
            f"The samples can't be cut into {cut.n_splits} folds: {error} Classes have "
            f"{classes.value_counts().to_dict()} samples in {blocks.nunique()} blocks; lower "
            "[validation] folds or block_size_px."
        ) from error
    if empty := sum(len(test) == 0 for _, test in folds):
        raise DataError(
            f"{empty} of {cut.n_splits} folds hold no sample, with {blocks.nunique()} blocks; "
            "lower [validation] folds or block_size_px."
        )
    return folds


def leave_gap(
    folds: Folds, pixels: npt.NDArray[np.int64], classes: pd.Series, gap_px: int
) -> Folds:
    """Leave training samples out that lie within so many pixels of a test sample of their fold.

    Parameters
    ----------
    pixels : ndarray, shape (sample, 2), int64
        Column and row of each sample in the grid.
    classes : Series
        Class name of each sample.
    gap_px : int
        The greater of the distances in columns and rows; 0 leaves none out.

    Raises
    ------
    DataError
        No training sample of a class would be left.
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
        if lost := sorted({*classes.iloc[train]} - {*classes.iloc[rest]}):
            raise DataError(
                f"With [validation] gap_px {gap_px}, a fold has no training sample of class "
                f"{', '.join(lost)} left; lower gap_px or block_size_px, or add labels of it in "
                "other places."
            )
        kept.append((rest, test))
    return kept
