"""Area of each class with its uncertainty, from a map and the errors found in a sample."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from terraflow.errors import DataError

__all__ = ["ASSUMPTION", "AreaEstimate", "ClassArea", "Interval", "error_matrix", "estimate_areas"]

ASSUMPTION = (
    "The intervals assume that the reference samples are a stratified random sample of the map, "
    "with the mapped classes as strata. Labels drawn as polygons seldom are one: they leave out "
    "edges and mixed pixels, and neighbouring pixels are alike. The true errors are then larger, "
    "and the intervals too narrow."
)
#: Quantile of the normal distribution for 95 % intervals.
Z = 1.96
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """An estimate with half the width of its 95 % interval, in the same unit."""

    value: float
    margin: float


@dataclass(frozen=True)
class ClassArea:
    """What is known of one class.

    Attributes
    ----------
    mapped_m2 : float
        Area of the pixels so mapped.
    area_m2 : Interval
        Error-adjusted area.
    users_accuracy, producers_accuracy : Interval
        0 to 1; NaN for a class that is not mapped, or that no reference sample has.
    """

    mapped_m2: float
    area_m2: Interval
    users_accuracy: Interval
    producers_accuracy: Interval


@dataclass(frozen=True)
class AreaEstimate:
    """Error-adjusted areas and accuracies."""

    classes: dict[str, ClassArea]
    overall_accuracy: Interval


def error_matrix(
    reference: pd.Series, predicted: pd.Series, classes: Sequence[str]
) -> npt.NDArray[np.int64]:
    """Count samples by mapped and reference class.

    Returns
    -------
    ndarray, shape (mapped, reference), int64
        In the order of `classes`.

    Raises
    ------
    DataError
        Samples have a class that the map does not know.
    """
    if unknown := sorted({*reference, *predicted} - set(classes)):
        raise DataError(
            f"Reference samples have the class {', '.join(unknown)}, which the map does not know; "
            f"it has {', '.join(classes)}; take the predictions of the map's own run."
        )
    rows = pd.Categorical(predicted, classes).codes.astype(int)
    columns = pd.Categorical(reference, classes).codes.astype(int)
    matrix = np.zeros((len(classes), len(classes)), dtype="int64")
    np.add.at(matrix, (rows, columns), 1)
    return matrix


def estimate_areas(
    matrix: npt.NDArray[np.int64],
    mapped_px: npt.NDArray[np.int64],
    classes: Sequence[str],
    pixel_m2: float,
) -> AreaEstimate:
    """Estimate areas and accuracies by the stratified estimator, the mapped classes being strata.

    Parameters
    ----------
    matrix : ndarray, shape (mapped, reference), int64
        Samples.
    mapped_px : ndarray, shape (mapped,), int64
        Pixels of each class in the whole map.
    pixel_m2 : float
        Area of a pixel in square metres.

    Raises
    ------
    DataError
        The map is empty, or a mapped class has fewer than two samples.

    References
    ----------
    Olofsson et al. 2014, doi:10.1016/j.rse.2014.02.015.
    """
    _check(matrix, mapped_px, classes)
    sampled = matrix.sum(axis=1)
    weights = mapped_px / mapped_px.sum()
    # a class that is not mapped has no weight, and may have no sample
    shares = matrix / np.maximum(sampled, 1)[:, None]
    spread = shares * (1 - shares) / np.maximum(sampled - 1, 1)[:, None]
    users, users_variance = np.diag(shares).copy(), np.diag(spread)
    proportions = weights @ shares
    margins = Z * np.sqrt(weights**2 @ spread)
    producers, producers_margin = _producers(weights, shares, spread)
    users[weights == 0] = np.nan
    total_m2 = float(mapped_px.sum() * pixel_m2)
    per_class = {
        name: ClassArea(
            mapped_m2=float(mapped_px[i] * pixel_m2),
            area_m2=Interval(float(proportions[i]) * total_m2, float(margins[i]) * total_m2),
            users_accuracy=_interval(users[i], Z * np.sqrt(users_variance[i])),
            producers_accuracy=_interval(producers[i], producers_margin[i]),
        )
        for i, name in enumerate(classes)
    }
    overall = float(weights @ np.diag(shares))
    return AreaEstimate(
        per_class, Interval(overall, float(Z * np.sqrt(weights**2 @ users_variance)))
    )


def _producers(weights: Floats, shares: Floats, spread: Floats) -> tuple[Floats, Floats]:
    """Give producer's accuracy and half its interval."""
    found = weights * np.diag(shares)
    truth = weights @ shares
    with np.errstate(invalid="ignore", divide="ignore"):
        accuracy = found / truth
        own = weights**2 * (1 - accuracy) ** 2 * np.diag(spread)
        others = accuracy**2 * (weights**2 @ spread - weights**2 * np.diag(spread))
        return accuracy, Z * np.sqrt(own + others) / truth


def _interval(value: float, margin: float) -> Interval:
    return Interval(float(value), float("nan") if np.isnan(value) else float(margin))


def _check(
    matrix: npt.NDArray[np.int64], mapped_px: npt.NDArray[np.int64], classes: Sequence[str]
) -> None:
    if mapped_px.sum() == 0:
        raise DataError("The map has no classified pixel; areas can't be estimated from it.")
    sampled = matrix.sum(axis=1)
    if few := [i for i in range(len(classes)) if mapped_px[i] and sampled[i] < 2]:
        counts = ", ".join(f"{classes[i]} ({mapped_px[i]} px, {sampled[i]} samples)" for i in few)
        raise DataError(
            f"Areas can't be adjusted for errors: the map has {counts}, and an estimate needs at "
            "least 2 reference samples that the model put into each mapped class; add labels."
        )
