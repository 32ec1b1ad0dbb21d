"""Figures of classes: confusion matrix and curves."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from sklearn.metrics import average_precision_score, precision_recall_curve

from terraflow.eo.targets.figures import TITLE, fitted, wrapped

__all__ = ["confusion_figure", "curves_figure"]


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
            axes.text(column, row, f"{matrix[row, column]}", ha="center", va="center", color=colour)
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
