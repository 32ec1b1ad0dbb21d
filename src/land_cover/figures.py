"""Pictures of results."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle

import numpy as np
import numpy.typing as npt
from matplotlib import colormaps
from matplotlib.colors import BoundaryNorm, ListedColormap, to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from .config import ProjectConfig

__all__ = ["class_colours", "confusion_figure", "map_figure"]

PALETTE = [to_hex(colormaps["tab20"](i)) for i in range(20)]


def class_colours(classes: Sequence[str], project: ProjectConfig) -> list[str]:
    """Give every class a colour.

    Returns
    -------
    list of str
        "#rrggbb" in the order of `classes`: from [map.colours], and for the rest the colours of
        matplotlib's tab20 that no other class has, in order, from the start again after twenty.
    """
    colours = project.map.colours
    given = {name: colours[name].lower() for name in classes if name in colours}
    rest = cycle([c for c in PALETTE if c not in given.values()] or PALETTE)
    return [given[name] if name in given else next(rest) for name in classes]


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


def map_figure(
    numbers: npt.NDArray[np.uint8],
    classes: Sequence[str],
    note: str,
    colours: Sequence[str],
) -> Figure:
    """Draw a class map with its legend.

    Parameters
    ----------
    numbers : ndarray, shape (y, x), uint8
        1 to n for `classes`, 0 is nodata (white).
    note : str
        Second line of the title.
    colours : sequence of str
        Of the classes, as `class_colours` gives them.
    """
    palette = ["white", *colours]
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
