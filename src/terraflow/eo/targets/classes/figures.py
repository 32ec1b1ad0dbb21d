"""Figures of classes: confusion matrix and curves."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from sklearn.metrics import average_precision_score, precision_recall_curve

from terraflow.eo.targets.figures import TITLE, fitted, wrapped

__all__ = ["confusion_figure", "curves_figure", "reliability_figure"]


def confusion_figure(matrix: npt.NDArray[np.int64], classes: list[str], note: str) -> Figure:
    """Draw a confusion matrix with its counts.

    Parameters
    ----------
    matrix : ndarray, shape (reference, predicted), int64
        Pixels.
    note : str
        Second line of the title.
    """
    size = 2.5 + 0.8 * len(classes)
    figure = Figure(figsize=(size + 1, size), layout="constrained")
    axes = figure.subplots()
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    ticks = range(len(classes))
    labels = list(map(wrapped, classes))
    axes.set_xticks(ticks, labels, rotation=45, ha="right")
    axes.set_yticks(ticks, labels)
    title = wrapped(f"Spatial cross-validation\n{note}", TITLE)
    axes.set(xlabel="predicted", ylabel="reference", title=title)
    for row in ticks:
        for column in ticks:
            colour = "white" if shares[row, column] > 0.5 else "black"
            number = f"{matrix[row, column]:.0f}"
            axes.text(column, row, number, ha="center", va="center", color=colour)
    return fitted(figure)


def curves_figure(
    reference: npt.NDArray[np.object_],
    probabilities: npt.NDArray[np.float64],
    classes: Sequence[str],
    colours: Sequence[str],
    note: str,
) -> Figure:
    """Draw user's accuracy over producer's accuracy for each class against the rest.

    Parameters
    ----------
    reference : ndarray, shape (sample,)
        Class names.
    probabilities : ndarray, shape (sample, class)
        Of held-out pixels, in the order of `classes`.
    note : str
        Second line of the title.

    References
    ----------
    Saito & Rehmsmeier 2015, doi:10.1371/journal.pone.0118432, on precision and recall where
    classes are of unlike size.
    """
    figure = Figure(figsize=(8, 5.5), layout="constrained")
    axes = figure.subplots()
    for name, colour, scores in zip(classes, colours, probabilities.T, strict=True):
        users, producers, _ = precision_recall_curve(reference == name, scores)
        area = average_precision_score(reference == name, scores)
        axes.plot(producers, users, color=colour, label=wrapped(f"{name} ({area:.2f})"))
    axes.set(
        xlim=(0, 1),
        ylim=(0, 1.02),
        xlabel="producer's accuracy (recall)",
        ylabel="user's accuracy (precision)",
        title=wrapped(f"Each class against the rest\n{note}", TITLE),
    )
    axes.legend(
        title="class (average precision)",
        loc="center left",
        bbox_to_anchor=(1.01, 0.5),
        frameon=False,
    )
    return fitted(figure)


def reliability_figure(
    bins: tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]],
    curve: tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]],
    note: str,
) -> Figure:
    """Draw how often predictions of some confidence are right, and the curve that mends it.

    Parameters
    ----------
    bins : tuple of ndarray, shape (bin,)
        Mean confidence, share that is right, and weight, as `confidence.reliability` gives them.
    curve : tuple of ndarray, shape (knot,)
        Confidence of the model, and what a map tells in its place.
    note : str
        Second line of the title.

    References
    ----------
    Niculescu-Mizil & Caruana 2005, doi:10.1145/1102351.1102430.
    """
    confidence, right, weight = bins
    figure = Figure(figsize=(6, 5.5), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="0.7", linewidth=1, label="confidence is right")
    axes.plot(*curve, color="#1f6b35", label="curve of the map")
    area = 20 + 600 * weight / weight.sum()
    axes.scatter(confidence, right, s=area, color="#3b6fb6", alpha=0.7, label="held-out pixels")
    title = wrapped(f"How often predictions are right\n{note}", TITLE)
    axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="confidence of the model", title=title)
    axes.set_ylabel("share that is right")
    axes.legend(loc="upper left", frameon=False, markerscale=0.4)
    return fitted(figure)
