"""Figures of maps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch

__all__ = ["map_figure"]


def map_figure(
    numbers: npt.NDArray[np.uint8],
    classes: Sequence[str],
    note: str,
    colours: Sequence[str],
    *,
    bounds: tuple[float, float, float, float] | None = None,
    title: str = "Map",
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
    bounds : tuple of float, optional
        West, south, east, north in the map's CRS; without them the axes count pixels.
    """
    palette = ["white", *colours]
    figure = Figure(figsize=(8, 6.5), layout="constrained")
    axes = figure.subplots()
    west, south, east, north = bounds or (-0.5, len(numbers) - 0.5, numbers.shape[1] - 0.5, -0.5)
    axes.imshow(
        numbers,
        cmap=ListedColormap(palette),
        interpolation="nearest",
        norm=BoundaryNorm(np.arange(len(palette) + 1) - 0.5, len(palette)),
        extent=(west, east, south, north),
    )
    labels = ("easting", "northing") if bounds else ("column", "row")
    axes.set(title=f"{title}\n{note}", xlabel=labels[0], ylabel=labels[1])
    axes.ticklabel_format(useOffset=False, style="plain")
    axes.locator_params(nbins=5)
    handles = [Patch(color=palette[i + 1], label=name) for i, name in enumerate(classes)]
    axes.legend(handles=handles, loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
    return figure
