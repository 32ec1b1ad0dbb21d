"""Classes: the target that is built in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pandas as pd
from odc.geo.geobox import GeoBox

from terraflow.eo.config.labels import Labels
from terraflow.eo.config.sections import Map
from terraflow.eo.targets.area.design import Stratum
from terraflow.eo.targets.calibration import Calibration
from terraflow.eo.targets.classes.labels.codes import in_order
from terraflow.eo.targets.classes.labels.polygons import VectorLabels
from terraflow.eo.targets.classes.labels.raster import RasterLabels
from terraflow.eo.targets.classes.labels.read import read_labels
from terraflow.eo.targets.classes.measures import (
    Matrices,
    confusion_measures,
    count_by_group,
    effective_blocks,
)
from terraflow.eo.targets.classes.values import ClassValues
from terraflow.eo.targets.parts import (
    Accuracy,
    Card,
    Evaluation,
    MapView,
    NotComparableError,
    ReportFiles,
    measure_name,
)
from terraflow.eo.targets.vectors import CODE as VECTORS
from terraflow.errors import DataError
from terraflow.storage import Storage

__all__ = ["Classification"]

Floats = npt.NDArray[np.float64]
PER_CLASS = ("users_accuracy", "producers_accuracy", "f1")


@dataclass(frozen=True)
class Classification(ClassValues):
    """Each pixel gets one of a few classes, and the probability of that class.

    Predictions are probabilities, shape (sample, class); sums are confusion matrices, shape
    (reference, predicted). A map holds the class, uint8, by its code or else 1 to n, and the
    confidence, 1 to 100 per cent; 0 is nodata in both.

    References
    ----------
    Congalton 1991, doi:10.1016/0034-4257(91)90048-B, on user's and producer's accuracy.
    """

    name: ClassVar[str] = "classification"
    column: ClassVar[str] = "class_name"
    primary: ClassVar[str] = "macro_f1"
    probabilities: ClassVar[bool] = True
    headline: ClassVar[tuple[str, ...]] = ("overall_accuracy", "macro_f1")
    code: ClassVar[tuple[str, ...]] = (
        "terraflow.eo.targets.classes.labels",
        *VECTORS,
    )

    def read_labels(
        self, uri: str, labels: Labels, geobox: GeoBox, storage: Storage
    ) -> VectorLabels | RasterLabels:
        """Read polygons or points with class names, or a raster of class numbers."""
        return read_labels(uri, labels, geobox, storage)

    def levels(self, reference: pd.Series) -> list[str]:
        """List the classes: codes as numbers, others in alphabetical order."""
        return in_order(reference.unique())

    def strata(self, reference: pd.Series) -> npt.NDArray[np.object_]:
        """Take each class for a stratum."""
        strata: npt.NDArray[np.object_] = reference.to_numpy(dtype=object)
        return strata

    def check_samples(self, reference: pd.Series) -> None:
        """Ask for two classes."""
        counts = reference.value_counts()
        if len(counts) < 2:
            raise DataError(
                f"Labels give {len(reference)} clear pixels of {len(counts)} class(es) "
                f"({', '.join(counts.index) or 'none'}); at least 2 classes are needed; check "
                "[labels] field and classes, and that labels and [features.layers] overlap the "
                "images."
            )

    def check_comparable(self, challenger: pd.Series, champion: pd.Series) -> None:
        """Ask for the same classes."""
        classes, old = set(challenger), set(champion)
        if classes != old:
            raise NotComparableError(
                f"it tells {', '.join(sorted(classes))} apart, the champion "
                f"{', '.join(sorted(old))}"
            )

    def predict(self, model: Any, table: pd.DataFrame, levels: Sequence[str]) -> Floats:
        """Give the probability of each class; 0 for one that the model was not trained on."""
        full = np.zeros((len(table), len(levels)))
        known = pd.Index(levels).get_indexer(model.classes_)
        # of a single class, scikit-learn's forest gives one column, its mlp and LightGBM two
        full[:, known] = model.predict_proba(table) if len(known) > 1 else 1
        return full

    def decide(self, predictions: Floats, levels: Sequence[str]) -> npt.NDArray[np.object_]:
        """Name the most probable class."""
        named: npt.NDArray[np.object_] = np.array(levels, dtype=object)[predictions.argmax(axis=1)]
        return named

    def doubt(self, predictions: Floats) -> Floats:
        """Give 1 less the difference of the two greatest probabilities."""
        two = np.sort(predictions, axis=1)[:, -2:]
        doubt: Floats = 1 - (two[:, -1] - two[:, 0])
        return doubt

    def calibrate(
        self,
        predictions: Floats,
        reference: pd.Series,
        folds: npt.ArrayLike,
        weights: Floats,
        levels: Sequence[str],
    ) -> Calibration:
        """Learn how often a class of some confidence is right, and which sets hold the true one."""
        from terraflow.eo.targets.classes.confidence import calibrate  # noqa: PLC0415 - see bands

        numbers = pd.Index(levels).get_indexer(reference.to_numpy(dtype=object))
        return calibrate(predictions, numbers, folds, weights)

    def set_sizes(
        self, predictions: Floats, calibration: Calibration
    ) -> npt.NDArray[np.int64] | None:
        """Count the classes that may be the true one."""
        from terraflow.eo.targets.classes.confidence import set_sizes  # noqa: PLC0415 - see bands

        bound = calibration.set_probability
        return None if bound is None else set_sizes(predictions, bound)

    def as_predictions(self, values: pd.Series, levels: Sequence[str]) -> Floats:
        """Give the named class the probability 1."""
        certain: Floats = np.eye(len(levels))[pd.Index(levels).get_indexer(values)]
        return certain

    def count(
        self,
        reference: Any,
        predictions: Floats,
        groups: npt.ArrayLike,
        levels: Sequence[str],
    ) -> Matrices:
        """Count a confusion matrix for each group: (group, reference, predicted), int64."""
        numbers = pd.Index(levels).get_indexer(np.asarray(reference, dtype=object))
        return count_by_group(numbers, predictions.argmax(axis=1), groups, len(levels))

    def measures(self, sums: Matrices, levels: Sequence[str]) -> dict[str, Floats]:
        """Compute accuracies and F1, over all classes and of each, as f1_CLASS."""
        return self._named(confusion_measures(sums), levels)

    def effective_blocks(self, by_block: Matrices, levels: Sequence[str]) -> dict[str, float]:
        """Count the blocks that hold what a measure is a share of."""
        found = self._named(effective_blocks(by_block), levels)
        return {name: float(number) for name, number in found.items()}

    def _named(
        self, found: Mapping[str, npt.NDArray[Any]], levels: Sequence[str]
    ) -> dict[str, npt.NDArray[Any]]:
        named = {name: found[name] for name in self.headline}
        for i, level in enumerate(levels):
            named |= {f"{name}_{level}": found[name][..., i] for name in PER_CLASS}
        return named

    def card(self, evaluation: Evaluation) -> Card:
        """Tell classes, accuracies and confusions."""
        from terraflow.eo.targets.classes.card import class_card  # noqa: PLC0415 - see bands

        return class_card(evaluation)

    def label(self, measure: str) -> str:
        """Write a measure's name for a reader; that of a class as it is."""
        for name in PER_CLASS:
            if measure.startswith(f"{name}_"):
                return f"{measure_name(name)} {measure.removeprefix(f'{name}_')}"
        return measure_name(measure)

    def figures(
        self, reference: pd.Series, evaluation: Evaluation, section: Map, note: str
    ) -> Mapping[str, Any]:
        """Draw the confusion matrix, and user's over producer's accuracy of each class."""
        from terraflow.eo.targets.classes.colours import class_colours  # noqa: PLC0415 - see bands
        from terraflow.eo.targets.classes.confidence import reliability  # noqa: PLC0415 - see bands
        from terraflow.eo.targets.classes.figures import (  # noqa: PLC0415 - see bands
            confusion_figure,
            curves_figure,
            reliability_figure,
        )

        levels = evaluation.levels
        colours = class_colours(levels, section.colours)
        truth = reference.to_numpy(dtype=object)
        predictions, known = evaluation.predictions, evaluation.calibration
        confidence = predictions.max(axis=1)
        right = self.decide(predictions, levels) == truth
        bins = reliability(confidence, right, evaluation.weights)
        grid = np.linspace(1 / len(levels), 1, 101)
        return {
            "reliability": reliability_figure(
                bins, (grid, np.asarray(known.apply(grid), "float64")), note
            ),
            "confusion": confusion_figure(evaluation.sums, levels, note),
            "class_curves": curves_figure(truth, evaluation.predictions, levels, colours, note),
        }

    def spreads(
        self, scores: Mapping[str, float], strata: Mapping[str, Stratum]
    ) -> dict[str, float]:
        """Expect user's accuracies as those of cross-validation, from 0.05 to 0.95, else 0.5."""
        from terraflow.tracking.runs import metric_name  # noqa: PLC0415 - mlflow is slow

        names = [metric_name(f"users_accuracy_{each.level}") for each in strata.values()]
        found = (scores.get(name, 0.5) for name in names)
        users = [0.5 if np.isnan(score) else min(max(score, 0.05), 0.95) for score in found]
        return {n: float(np.sqrt(u * (1 - u))) for n, u in zip(strata, users, strict=True)}

    def estimate(
        self, sample: pd.DataFrame, strata: Mapping[str, Stratum], levels: Sequence[str]
    ) -> dict[str, Any]:
        """Estimate the area of each class, the accuracies and the confusion matrix."""
        from terraflow.eo.targets.classes.areas import estimate_areas  # noqa: PLC0415 - scipy, too

        return estimate_areas(sample, strata, levels).to_dict()

    def report(self, view: MapView, accuracy: Accuracy, section: Map) -> ReportFiles:
        """Make polygons, a quicklook and the area of each class."""
        from terraflow.eo.targets.classes.report import report_classes  # noqa: PLC0415 - see bands

        return report_classes(view, accuracy, section)
