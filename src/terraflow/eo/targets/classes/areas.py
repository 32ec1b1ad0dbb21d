"""Area of each class with its uncertainty, from a map and the errors found in a sample."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from terraflow.errors import DataError

__all__ = [
    "ASSUMPTION",
    "WEIGHTED",
    "AreaEstimate",
    "ClassArea",
    "Interval",
    "area_table",
    "error_matrix",
    "estimate_areas",
    "sampling_weights",
]

ASSUMPTION = (
    "The estimates assume that the labelled pixels are a stratified random sample of the map, with "
    "the mapped classes as strata. Labels drawn as polygons seldom are one: they leave out edges "
    "and mixed pixels, have classes in other shares than the area has, and are spatially "
    "autocorrelated. Then the areas and accuracies themselves may be biased, and not only the "
    "intervals too narrow."
)
WEIGHTED = (
    "Of some classes only a part of the labelled pixels was used ([labels] samples_per_class); "
    "samples are weighted by how many labelled pixels of their class each stands for."
)
M2_PER_HA = 10_000
DOI = "https://doi.org/10.1016/j.rse.2014.02.015"
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


def sampling_weights(
    matrix: npt.NDArray[np.int64], class_sizes: Mapping[str, int], classes: Sequence[str]
) -> Floats:
    """Tell how many labelled pixels each sample stands for.

    Parameters
    ----------
    matrix : ndarray, shape (mapped, reference), int64
        Samples.
    class_sizes : mapping
        Reference class to the labelled pixels that its samples were drawn from at random.

    Returns
    -------
    ndarray, shape (reference,), float64
        1 where all of them are samples, or none is.

    Raises
    ------
    DataError
        A class has more samples than labelled pixels.
    """
    used = matrix.sum(axis=0)
    labelled = np.array([class_sizes.get(name, 0) for name in classes])
    if (wrong := np.flatnonzero(used > labelled)).size:
        i = wrong[0]
        raise DataError(
            f"Class {classes[i]} has {used[i]} reference samples of {labelled[i]} labelled pixels, "
            "which can't be; take predictions and data report of the map's own run."
        )
    return np.where(used > 0, labelled / np.maximum(used, 1), 1.0)


def estimate_areas(
    matrix: npt.NDArray[np.int64],
    mapped_px: npt.NDArray[np.int64],
    classes: Sequence[str],
    pixel_m2: float,
    weights: Floats | None = None,
) -> AreaEstimate:
    """Estimate areas and accuracies by the stratified estimator, the mapped classes being strata.

    Where samples were balanced by their reference class, a stratum's shares are those of the
    weighted samples. The variance of such a share is that of a ratio of two weighted sums, in
    first order and as if samples had been drawn one by one; with weights of 1 it is the published
    formula.

    Parameters
    ----------
    matrix : ndarray, shape (mapped, reference), int64
        Samples.
    mapped_px : ndarray, shape (mapped,), int64
        Pixels of each class in the whole map.
    pixel_m2 : float
        Area of a pixel in square metres.
    weights : ndarray, shape (reference,), float64, optional
        Of `sampling_weights`; 1 by default.

    Raises
    ------
    DataError
        The map is empty, or a mapped class has fewer than two samples.

    References
    ----------
    Olofsson et al. 2014, doi:10.1016/j.rse.2014.02.015; Särndal, Swensson & Wretman 1992, Model
    Assisted Survey Sampling, doi:10.1007/978-1-4612-4378-6, chapter 5, on ratios.
    """
    _check(matrix, mapped_px, classes)
    strata = mapped_px / mapped_px.sum()
    shares, spread = _shares(matrix, np.ones(len(classes)) if weights is None else weights)
    users, users_variance = np.diag(shares).copy(), np.diag(spread)
    proportions = strata @ shares
    margins = Z * np.sqrt(strata**2 @ spread)
    producers, producers_margin = _producers(strata, shares, spread)
    users[strata == 0] = np.nan
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
    overall = float(strata @ np.diag(shares))
    return AreaEstimate(
        per_class, Interval(overall, float(Z * np.sqrt(strata**2 @ users_variance)))
    )


def area_table(areas: dict[str, Any]) -> str:
    """Write areas and accuracies as Markdown, areas in hectares."""
    lines = [
        "# Area of each class",
        "",
        f"Map: {areas['map']['model']}, run {areas['map'].get('run_id', 'unknown')}. "
        f"{areas['nodata_px']} of {areas['total_px']} pixels have no class.",
        "",
    ]
    if note := areas["map"].get("note"):
        lines += [f"**{note}**", ""]
    lines += [
        "| class | mapped (ha) | error-adjusted (ha) | user's accuracy | producer's accuracy |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for name, row in areas["classes"].items():
        cells = [f"{row['mapped_m2'] / M2_PER_HA:,.1f}"]
        area = row.get("area_m2")
        cells.append(_plus_minus(area, 1 / M2_PER_HA, ",.1f"))
        cells += [
            _plus_minus(row.get(key), 1, ".2f") for key in ("users_accuracy", "producers_accuracy")
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    overall = _plus_minus(areas.get("overall_accuracy"), 1, ".2f")
    lines += ["", f"Overall accuracy: {overall}.", "", areas["remark"]]
    if areas["adjusted"]:
        lines += ["", f"Intervals are 95 %; estimator: Olofsson et al. 2014, <{DOI}>."]
    return "\n".join(lines) + "\n"


def _shares(matrix: npt.NDArray[np.int64], weights: Floats) -> tuple[Floats, Floats]:
    """Give the reference classes' shares of each mapped class, and their variances."""
    # a class that is not mapped may have no sample
    sampled = np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    total = np.maximum((matrix * weights).sum(axis=1, keepdims=True), 1)
    shares = matrix * weights / total
    squares = matrix * weights**2
    others = squares.sum(axis=1, keepdims=True) - squares
    scatter = squares * (1 - shares) ** 2 + others * shares**2
    return shares, scatter / total**2 * sampled / np.maximum(sampled - 1, 1)


def _producers(strata: Floats, shares: Floats, spread: Floats) -> tuple[Floats, Floats]:
    """Give producer's accuracy and half its interval."""
    found = strata * np.diag(shares)
    truth = strata @ shares
    with np.errstate(invalid="ignore", divide="ignore"):
        accuracy = found / truth
        own = strata**2 * (1 - accuracy) ** 2 * np.diag(spread)
        others = accuracy**2 * (strata**2 @ spread - strata**2 * np.diag(spread))
        return accuracy, Z * np.sqrt(own + others) / truth


def _interval(value: float, margin: float) -> Interval:
    return Interval(float(value), float("nan") if np.isnan(value) else float(margin))


def _plus_minus(interval: dict[str, float] | None, factor: float, form: str) -> str:
    if interval is None:
        return "not known"
    return f"{interval['value'] * factor:{form}} ± {interval['margin'] * factor:{form}}"


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
