"""What passes between a target and the rooms that ask it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from affine import Affine
from geopandas import GeoDataFrame
from odc.geo.geobox import GeoBox
from rasterio.crs import CRS
from rasterio.transform import array_bounds

from terraflow.eo.targets.area.pixel_areas import PixelAreas
from terraflow.eo.targets.calibration import Calibration
from terraflow.errors import DataError

__all__ = [
    "Accuracy",
    "Band",
    "Card",
    "Evaluation",
    "Floats",
    "LabelSource",
    "MapView",
    "NotComparableError",
    "ReportFiles",
    "Score",
    "Sums",
    "markdown_table",
    "measure_name",
    "score_table",
]

Sums = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]


class NotComparableError(DataError):
    """Two versions were not tested on the same data; the message is a part of the reason."""


class LabelSource(Protocol):
    """Reference data that are ready to be laid on a grid."""

    @property
    def expected(self) -> list[str]:
        """Strata of which the images must hold labels."""

    def burn(self, geobox: GeoBox) -> tuple[npt.NDArray[Any], npt.NDArray[np.int32]]:
        """Give reference values, a MaskedArray (y, x), and polygons (y, x), -1 is none."""

    def decode(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Give the values of the target's column for those that were burnt, shape (pixel,)."""

    def anchors(self) -> Floats:
        """Give a point within each polygon: float64, shape (polygon, 2), x and y."""


@dataclass(frozen=True)
class Band:
    """One band of a map.

    Attributes
    ----------
    name, description, unit : str
    nodata : float
        Value of pixels of which nothing can be told.
    scale : float
        By which a stored number is multiplied.
    names : dict
        Value to the name it stands for, where values are names; empty where they are numbers.
    colours : dict
        Value to "#rrggbb", where values are names.
    tags : dict
        Of the band in the file; by default the unit.
    """

    name: str
    description: str = ""
    unit: str = ""
    nodata: float = 0
    scale: float = 1
    names: Mapping[int, str] = field(default_factory=dict)
    colours: Mapping[int, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)

    def is_valid(self, values: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
        """Tell which values are not nodata, which may be NaN."""
        valid: npt.NDArray[np.bool_] = (values != self.nodata) & ~np.isnan(values)
        return valid


@dataclass(frozen=True)
class Score:
    """A score and its 95 % interval, in the unit of its measure; NaN where there is none."""

    value: float
    low: float
    high: float

    def text(self) -> str:
        """Write it with three decimals."""
        if math.isnan(self.value):
            return "not estimable"
        if self.low == self.high:  # no block moves it
            return f"{self.value:.3f} (no interval)"
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


@dataclass(frozen=True)
class Evaluation:
    """What a spatial cross-validation tells, over all held-out pixels together.

    Attributes
    ----------
    levels : list of str
        As `Target.levels` gives them.
    scores : dict
        Name of a measure to its score, for the labelled pixels that the samples stand for.
    at_random : dict
        Name of a measure to its value where pixels are drawn at random, which is optimistic.
    sums : ndarray
        As `Target.count` gives them, over all samples.
    predictions : ndarray, shape (sample, k), float64
        As `Target.predict` gives them, of each sample by the model of the fold that did not see
        its block.
    importance : dict
        Feature to the loss of the primary measure, where the feature's values are permuted among
        held-out pixels.
    as_drawn : dict
        Name of a measure to its value for the samples themselves, where they were drawn in other
        shares than the labelled pixels have; else nothing.
    weights : ndarray, shape (sample,), float64, or None
        How many labelled pixels each sample stands for; None is as many each.
    folds : ndarray, shape (sample,), int64
        Number of the fold in which each sample was held out.
    calibration : Calibration
        What these predictions tell of how sure the model may be.
    """

    levels: list[str]
    scores: dict[str, Score]
    at_random: dict[str, float]
    sums: Sums
    predictions: Floats
    importance: dict[str, float]
    as_drawn: dict[str, float] = field(default_factory=dict)
    weights: Floats | None = None
    folds: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, "int64"))
    calibration: Calibration = field(default_factory=Calibration)


@dataclass(frozen=True)
class Card:
    """What a target adds to the model card: Markdown, "" for nothing."""

    purpose: str
    scores: str
    limits: Sequence[str] = ()


@dataclass(frozen=True)
class Accuracy:
    """What is known of a map's errors.

    Attributes
    ----------
    cross_validated : dict
        Measure of the model's run to its value: of labelled pixels, and not of the map.
    sample : dict or None
        What `Target.estimate` found of a probability sample of this very map, as plain values.
    remark : str
        Why there is no sample where one was to be expected, or "".
    """

    cross_validated: Mapping[str, float] = field(default_factory=dict)
    sample: Mapping[str, Any] | None = None
    remark: str = ""


@dataclass(frozen=True)
class MapView:
    """A map, as its report needs it.

    Attributes
    ----------
    values : ndarray, shape (y, x)
        First band.
    bands : list of Band
    crs : CRS
    transform : Affine
        Pixel to world.
    uri : str
        Of the map.
    origin : dict
        Text by key: model, run_id, note and what else the map tells of its origin.
    thumbnail : callable
        Gives the first band with at most so many rows and columns, from an overview.
    areas : callable
        Reads the polygons of [map] areas; None where there are none.
    """

    values: npt.NDArray[Any]
    bands: Sequence[Band]
    crs: CRS
    transform: Affine
    uri: str
    origin: Mapping[str, str]
    thumbnail: Callable[[int], npt.NDArray[Any]]
    areas: Callable[[], GeoDataFrame | None] = lambda: None

    @cached_property
    def pixel_areas(self) -> PixelAreas:
        """Area of its pixels on the ellipsoid.

        Raises
        ------
        DataError
            The CRS has no place on Earth.
        """
        rows, columns = self.values.shape
        return PixelAreas(self.crs, self.transform, (rows, columns))

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """West, south, east, north in the map's CRS."""
        rows, columns = self.values.shape
        west, south, east, north = array_bounds(rows, columns, self.transform)
        return west, south, east, north

    @property
    def title(self) -> str:
        """Title of a picture: the project's name."""
        return self.origin.get("model_name", "map").replace("-", " ").capitalize()

    @property
    def note(self) -> str:
        """What a reader must be told first, else the model that made the map."""
        return self.origin.get("note") or self.origin["model"]


@dataclass(frozen=True)
class ReportFiles:
    """What a report consists of.

    Attributes
    ----------
    files : dict
        Name that the user reads, to the end of the file's name and what writes it.
    table : str
        Markdown, which is also printed.
    """

    files: Mapping[str, tuple[str, Callable[[Path], Any]]]
    table: str


def measure_name(name: str) -> str:
    """Write a measure's name for a reader: macro_f1 as macro F1, rmse as RMSE."""
    words = name.split("_")
    short = {"f1", "rmse", "mae", "r2"}
    return " ".join(word.upper() if word in short else word for word in words)


def score_table(evaluation: Evaluation, labels: Mapping[str, str]) -> str:
    """Write measures as Markdown, each with its population and its interval.

    Parameters
    ----------
    labels : mapping
        Measure to its name for a reader.
    """
    header = ["", "labelled pixels, blocks held out (95 % interval)"]
    header += ["samples as drawn, blocks held out"] if evaluation.as_drawn else []
    rows = []
    for name, label in labels.items():
        row = [label, evaluation.scores[name].text()]
        row += [_number(evaluation.as_drawn[name])] if evaluation.as_drawn else []
        rows.append([*row, _number(evaluation.at_random[name])])
    return markdown_table([*header, "labelled pixels, random pixels held out"], rows)


def _number(value: float) -> str:
    return "not estimable" if math.isnan(value) else f"{value:.3f}"


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Write a table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(
        "| " + " | ".join(c.replace("|", "\\|") for c in line) + " |" for line in lines
    )
