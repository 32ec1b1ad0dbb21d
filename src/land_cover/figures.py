"""Pictures of results."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from matplotlib.colors import BoundaryNorm, ListedColormap, to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Patch

__all__ = ["confusion_figure", "map_figure"]


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
    axes.set_xticks(ticks, classes, rotation=45, ha="right")
    axes.set_yticks(ticks, classes)
    axes.set(xlabel="predicted", ylabel="reference", title=f"Spatial cross-validation\n{note}")
    for row in ticks:
        for column in ticks:
            colour = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, f"{matrix[row, column]}", ha="center", va="center", color=colour)
    return figure


def map_figure(numbers: npt.NDArray[np.uint8], classes: list[str], note: str) -> Figure:
    """Draw a class map with its legend.

    Parameters
    ----------
    numbers : ndarray, shape (y, x), uint8
        1 to n for `classes`, 0 is nodata (white).
    note : str
        Second line of the title.
    """
    palette = ["white", *(to_hex(f"C{i % 10}") for i in range(len(classes)))]
    figure = Figure(figsize=(8, 6.5), layout="constrained")
    axes = figure.subplots()
    bounds = np.arange(len(palette) + 1) - 0.5
    axes.imshow(
        numbers, cmap=ListedColormap(palette), norm=BoundaryNorm(bounds, len(palette)),
        interpolation="nearest",
    )  # fmt: skip
    axes.set(title=f"Land cover\n{note}", xlabel="column", ylabel="row")
    handles = [Patch(color=palette[i + 1], label=name) for i, name in enumerate(classes)]
    axes.legend(handles=handles, loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
    return figure
