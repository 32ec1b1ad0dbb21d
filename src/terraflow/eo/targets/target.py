"""What is learnt: the one interface by which all rooms meet it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.crs import CRS

from terraflow.eo.config.sections import Labels, Map
from terraflow.errors import DataError
from terraflow.storage import Storage

__all__ = [
    "Band",
    "Card",
    "Evaluation",
    "HeldOut",
    "Image",
    "LabelSource",
    "MapView",
    "NotComparableError",
    "ReportFiles",
    "Score",
    "Sums",
    "Target",
    "markdown_table",
    "measure_name",
]

Sums = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]
Image = npt.NDArray[np.float32]


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
    names: Mapping[int, str] = field(default_factory=dict)
    colours: Mapping[int, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)

    def is_valid(self, values: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
        """Tell which values are not nodata, which may be NaN."""
        valid: npt.NDArray[np.bool_] = (values != self.nodata) & ~np.isnan(values)
        return valid


@dataclass(frozen=True)
class Score:
    """A score and its 95 % interval, in the unit of its measure."""

    value: float
    low: float
    high: float

    def text(self) -> str:
        """Write it with three decimals."""
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


@dataclass(frozen=True)
class Evaluation:
    """What a spatial cross-validation tells, over all held-out pixels together.

    Attributes
    ----------
    levels : list of str
        As `Target.levels` gives them.
    scores : dict
        Name of a measure to its score.
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
    """

    levels: list[str]
    scores: dict[str, Score]
    at_random: dict[str, float]
    sums: Sums
    predictions: Floats
    importance: dict[str, float]


@dataclass(frozen=True)
class Card:
    """What a target adds to the model card: Markdown, "" for nothing."""

    purpose: str
    scores: str
    limits: Sequence[str] = ()


@dataclass(frozen=True)
class HeldOut:
    """What a run held out.

    Attributes
    ----------
    table : DataFrame
        Columns x, y (in the CRS of the grid), block, the target's column and "predicted".
    label_counts : dict
        Stratum to the labelled pixels that its samples were drawn from.
    """

    table: pd.DataFrame
    label_counts: Mapping[str, int]


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
    pixel_m2 : float
        Area of a pixel in square metres.
    origin : dict
        Text by key: model, run_id, note and what else the map tells of its origin.
    thumbnail : callable
        Gives the first band with at most so many rows and columns, from an overview.
    """

    values: npt.NDArray[Any]
    bands: Sequence[Band]
    crs: CRS
    transform: Affine
    pixel_m2: float
    origin: Mapping[str, str]
    thumbnail: Callable[[int], npt.NDArray[Any]]


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


class Target(ABC):
    """What a project learns; `Classification` is the one that is built in.

    A target counts sums that add up over pixels, blocks and folds, and computes its measures from
    such sums: so that one cross-validation, one bootstrap of blocks, one search and one gate serve
    all targets.

    Attributes
    ----------
    name : str
        Recorded in models and maps.
    column : str
        Column of the samples that holds the reference value.
    primary : str
        Measure by which a search chooses and the gate compares.
    greater_is_better : bool
        Direction of the primary measure.
    probabilities : bool
        Whether models are classifiers, whose probabilities are predictions, or regressors.
    headline : tuple of str
        Measures that a user reads first.
    dtype : str
        Type of all bands of a map.
    overview_resampling : str
        By GDAL's names.
    summary_format : str
        How the numbers of `summarise` are written.
    code : tuple of str
        Modules that decide which samples there are, for the digest of the samples.
    """

    name: ClassVar[str]
    column: ClassVar[str]
    primary: ClassVar[str]
    greater_is_better: ClassVar[bool] = True
    probabilities: ClassVar[bool] = False
    headline: ClassVar[tuple[str, ...]]
    dtype: ClassVar[str]
    overview_resampling: ClassVar[str] = "nearest"
    summary_format: ClassVar[str] = ".4g"
    code: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def read_labels(
        self, uri: str, labels: Labels, geobox: GeoBox, storage: Storage
    ) -> LabelSource:
        """Read reference data for a grid.

        Raises
        ------
        DataError
            They can't be read or do not fit the configuration.
        """

    @abstractmethod
    def count(
        self, reference: Any, predictions: Floats, groups: npt.ArrayLike, levels: Sequence[str]
    ) -> Sums:
        """Count, for each group of samples, sums that add up.

        Parameters
        ----------
        reference : array-like, shape (sample,)
            Values of the target's column.
        predictions : ndarray, shape (sample, k), float64
            As `predict` gives them.
        groups : array-like, shape (sample,)
            Block, fold or anything else by which to count.

        Returns
        -------
        ndarray, shape (group, ...)
            In the order of the groups' numbers.
        """

    @abstractmethod
    def measures(self, sums: Sums, levels: Sequence[str]) -> dict[str, Floats]:
        """Compute measures of sums.

        Parameters
        ----------
        sums : ndarray, shape (..., as one group's)

        Returns
        -------
        dict
            Name to ndarray of shape (...), NaN where undefined; the headline and all others.
        """

    @abstractmethod
    def predict(self, model: Any, table: pd.DataFrame, levels: Sequence[str]) -> Floats:
        """Ask a fitted model: ndarray, shape (sample, k), float64."""

    @abstractmethod
    def encode(self, predictions: Floats) -> npt.NDArray[Any]:
        """Turn predictions into the values of a map: ndarray, shape (band, pixel)."""

    @abstractmethod
    def bands(self, levels: Sequence[str], section: Map) -> list[Band]:
        """Describe the bands of a map."""

    def levels(self, reference: pd.Series) -> list[str]:
        """List what the columns of a prediction stand for; nothing where it is a number."""
        del reference
        return []

    def decide(self, predictions: Floats, levels: Sequence[str]) -> npt.NDArray[Any]:
        """Turn predictions into values like those of the target's column, shape (sample,)."""
        del levels
        return predictions[:, 0]

    def as_predictions(self, values: pd.Series, levels: Sequence[str]) -> Floats:
        """Turn decided values back into what `decide` makes them of, for `count`."""
        del levels
        numbers: Floats = values.to_numpy(dtype="float64")
        return numbers[:, None]

    def strata(self, reference: pd.Series) -> npt.NDArray[np.object_]:
        """Name the stratum of each sample: by strata samples are drawn, counted and folded."""
        return np.full(len(reference), "all", dtype=object)

    def check_samples(self, reference: pd.Series) -> None:
        """Refuse reference values that nothing can be learnt of.

        Raises
        ------
        DataError
            There are none.
        """
        if reference.empty:
            raise DataError(
                "Labels give no clear pixel; check [labels] field, and that labels and "
                "[features.layers] overlap the images."
            )

    def check_comparable(self, challenger: pd.Series, champion: pd.Series) -> None:
        """Refuse to compare models that were tested on reference values of another kind.

        Raises
        ------
        NotComparableError
            The message is a part of a reason.
        """

    def summarise(self, values: npt.NDArray[Any], levels: Sequence[str]) -> dict[str, float]:
        """Describe the first band of a map by a few numbers, for drift: values, shape (pixel,)."""
        del levels
        return {"mean": float(np.mean(values)), "std": float(np.std(values))}

    def card(self, evaluation: Evaluation) -> Card:
        """Tell in the model card what the target is, and its scores."""
        rows = (
            (
                measure_name(name),
                evaluation.scores[name].text(),
                f"{evaluation.at_random[name]:.3f}",
            )
            for name in self.headline
        )
        table = markdown_table(("", "spatial blocks (95 % interval)", "at random"), rows)
        return Card(purpose=f"It gives each pixel a number: {self.column}.", scores=table)

    def label(self, measure: str) -> str:
        """Write a measure's name for a reader."""
        return measure_name(measure)

    def figures(
        self, reference: pd.Series, evaluation: Evaluation, section: Map, note: str
    ) -> Mapping[str, Any]:
        """Draw figures of a training: name to matplotlib's Figure."""
        del reference, evaluation, section, note
        return {}

    @abstractmethod
    def report(self, view: MapView, held_out: HeldOut, section: Map) -> ReportFiles:
        """Make the report of a map.

        Raises
        ------
        DataError
            What was held out does not fit the map.
        """


def measure_name(name: str) -> str:
    """Write a measure's name for a reader: macro_f1 as macro F1, rmse as RMSE."""
    words = name.split("_")
    short = {"f1", "rmse", "mae", "r2"}
    return " ".join(word.upper() if word in short else word for word in words)


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Write a table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(
        "| " + " | ".join(c.replace("|", "\\|") for c in line) + " |" for line in lines
    )
