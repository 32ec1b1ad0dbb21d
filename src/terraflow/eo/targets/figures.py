"""Figures of maps."""

from __future__ import annotations

import textwrap
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.colors import BoundaryNorm, ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Patch

__all__ = ["fitted", "map_figure", "number_figure", "plain", "wrapped"]

Bounds = tuple[float, float, float, float]
#: Characters of a line of a title, and of a label in a legend or at an axis.
TITLE, LABEL = 70, 26
#: Inches that are added beside what is missing.
MARGIN = 0.2


@contextmanager
def plain() -> Iterator[None]:
    """Draw by matplotlib's defaults, whatever a matplotlibrc says; also a decorator.

    matplotlib reads that of the current folder before all others: it may ask for LaTeX, or turn
    images upside down.
    """
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        yield


def wrapped(text: str, width: int = LABEL) -> str:
    """Break each line of a text, words that are too long as well."""
    return "\n".join(textwrap.fill(line, width) for line in text.splitlines())


def fitted(figure: Figure) -> Figure:
    """Enlarge a figure until nothing that it shows is cut off."""
    for _ in range(4):  # the axes take a part of what is added
        width, height = figure.get_size_inches()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "constrained_layout not applied")
            figure.draw_without_rendering()
        box = figure.get_tightbbox()
        wide = max(0.0, -box.x0) + max(0.0, box.x1 - width)
        high = max(0.0, -box.y0) + max(0.0, box.y1 - height)
        if wide + high <= 0:
            break
        figure.set_size_inches(width + wide + MARGIN, height + high + MARGIN)
    figure.set_layout_engine("none")  # saving it would find the same layout once more
    return figure


def map_figure(
    numbers: npt.NDArray[np.uint8],
    classes: Sequence[str],
    note: str,
    colours: Sequence[str],
    *,
    bounds: Bounds | None = None,
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
    norm = BoundaryNorm(np.arange(len(palette) + 1) - 0.5, len(palette))
    figure, axes, _ = _draw(numbers, bounds, f"{title}\n{note}", ListedColormap(palette), norm)
    labels = map(wrapped, classes)
    handles = [Patch(color=palette[i + 1], label=name) for i, name in enumerate(labels)]
    axes.legend(handles=handles, loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
    return fitted(figure)


def number_figure(
    values: npt.NDArray[np.floating],
    label: str,
    note: str,
    *,
    bounds: Bounds | None = None,
    title: str = "Map",
) -> Figure:
    """Draw a map of numbers with its scale, from the 2nd to the 98th percentile.

    Parameters
    ----------
    values : ndarray, shape (y, x)
        NaN is nodata (white).
    label : str
        Of the scale, as "yield (t/ha)".
    note : str
        Second line of the title.
    bounds : tuple of float, optional
        West, south, east, north in the map's CRS; without them the axes count pixels.
    """
    known = values[np.isfinite(values)]
    low, high = np.percentile(known, [2, 98]) if known.size else (0, 1)
    norm = Normalize(low, high)
    figure, axes, image = _draw(values, bounds, f"{title}\n{note}", "viridis", norm)
    figure.colorbar(image, ax=axes, label=wrapped(label, TITLE), extend="both")
    return fitted(figure)


def _draw(
    values: npt.NDArray[Any], bounds: Bounds | None, title: str, colours: Any, norm: Any
) -> tuple[Figure, Any, Any]:
    """Draw an image with its coordinates; return figure, axes and image."""
    figure = Figure(figsize=(8, 6.5), layout="constrained")
    axes = figure.subplots()
    west, south, east, north = bounds or (-0.5, len(values) - 0.5, values.shape[1] - 0.5, -0.5)
    extent = (west, east, south, north)
    image = axes.imshow(values, cmap=colours, interpolation="nearest", norm=norm, extent=extent)
    labels = ("easting", "northing") if bounds else ("column", "row")
    axes.set(title=wrapped(title, TITLE), xlabel=labels[0], ylabel=labels[1])
    axes.ticklabel_format(useOffset=False, style="plain")
    axes.locator_params(nbins=5)
    return figure, axes, image
