"""What is learnt: the one interface by which all rooms meet it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pandas as pd
from odc.geo.geobox import GeoBox

from terraflow.eo.config.labels import Labels
from terraflow.eo.config.sections import Map
from terraflow.eo.targets.calibration import Calibration, calibrate_numbers
from terraflow.eo.targets.estimable import Estimable
from terraflow.eo.targets.parts import (
    Accuracy,
    Band,
    Card,
    Evaluation,
    Floats,
    LabelSource,
    MapView,
    ReportFiles,
    Sums,
    measure_name,
    score_table,
)
from terraflow.errors import DataError
from terraflow.storage import Storage

__all__ = ["Target"]


class Target(Estimable, ABC):
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

    def effective_blocks(self, by_block: Sums, levels: Sequence[str]) -> dict[str, float]:
        """Count the blocks that tell of each share (0-1) among the measures, as if of one size."""
        del by_block, levels
        return {}

    @abstractmethod
    def bands(self, levels: Sequence[str], section: Map) -> list[Band]:
        """Describe the bands of a map."""

    def predict(self, model: Any, table: pd.DataFrame, levels: Sequence[str]) -> Floats:
        """Ask a fitted model: ndarray, shape (sample, k), float64; by default a regressor."""
        del levels
        numbers: Floats = np.asarray(model.predict(table), dtype="float64")
        return numbers.reshape(len(table), -1)

    def encode(self, predictions: Floats) -> npt.NDArray[Any]:
        """Turn predictions into the values of a map, shape (band, pixel); by default numbers."""
        return predictions.T.astype(self.dtype)

    def encode_sure(self, predictions: Floats, calibration: Calibration) -> npt.NDArray[Any]:
        """Turn predictions into the values of a map, as sure as held-out ones tell to be."""
        del calibration
        return self.encode(predictions)

    def levels(self, reference: pd.Series) -> list[str]:
        """List what the columns of a prediction stand for; nothing where it is a number."""
        del reference
        return []

    def values(self, levels: Sequence[str]) -> list[int]:
        """List the values of a map that stand for levels; nothing is 1 to n, or a number itself."""
        del levels
        return []

    def with_values(self, values: Sequence[int]) -> Target:
        """Give the target as maps of a model need it that recorded such values."""
        del values
        return self

    def decide(self, predictions: Floats, levels: Sequence[str]) -> npt.NDArray[Any]:
        """Turn predictions into values like those of the target's column, shape (sample,)."""
        del levels
        return predictions[:, 0]

    def as_predictions(self, values: pd.Series, levels: Sequence[str]) -> Floats:
        """Turn decided values back into what `decide` makes them of, for `count`."""
        del levels
        numbers: Floats = values.to_numpy(dtype="float64")
        return numbers[:, None]

    def doubt(self, predictions: Floats) -> Floats:
        """Tell how little a model decided, 0 to 1, shape (sample,); by default alike everywhere."""
        return np.ones(len(predictions))

    def calibrate(
        self,
        predictions: Floats,
        reference: pd.Series,
        folds: npt.ArrayLike,
        weights: Floats,
        levels: Sequence[str],
    ) -> Calibration:
        """Learn of held-out predictions how sure a model may be; by default an interval's width.

        Parameters
        ----------
        folds : array-like, shape (sample,)
            In which each sample was held out.
        weights : ndarray, shape (sample,), float64
            How many labelled pixels each sample stands for.
        """
        del levels
        misses = np.abs(predictions[:, 0] - reference.to_numpy("float64"))
        return calibrate_numbers(misses, np.asarray(folds), weights)

    def set_sizes(self, predictions: Floats, calibration: Calibration) -> Sums | None:
        """Count the values that may be the true one, shape (sample,); None where they are numbers.

        The true value is among them with a probability of nine of ten.
        """
        del predictions, calibration
        return None

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
        del challenger, champion

    def summarise(self, values: npt.NDArray[Any], levels: Sequence[str]) -> dict[str, float]:
        """Describe the first band of a map by a few numbers, for drift: values, shape (pixel,)."""
        del levels
        return {"mean": float(np.mean(values)), "std": float(np.std(values))}

    def card(self, evaluation: Evaluation) -> Card:
        """Tell in the model card what the target is, and its scores."""
        text = score_table(evaluation, {name: measure_name(name) for name in self.headline})
        if told := evaluation.calibration.width_text(self.column):
            text += f"\n\n{told}"
        return Card(purpose=f"It gives each pixel a number: {self.column}.", scores=text)

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
    def report(self, view: MapView, accuracy: Accuracy, section: Map) -> ReportFiles:
        """Make the report of a map.

        Raises
        ------
        DataError
            The map's pixels have no area, or the report can't be made of it.
        """
