"""What a training run holds: tags, parameters, scores, lineage, pictures and the model card."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import mlflow
import numpy as np
import numpy.typing as npt
import pandas as pd
from affine import Affine
from mlflow.data.dataset_source import DatasetSource
from mlflow.data.dataset_source_registry import resolve_dataset_source
from mlflow.data.meta_dataset import MetaDataset
from mlflow.data.pandas_dataset import from_pandas

from terraflow.eo.config.project_file import ProjectConfig
from terraflow.eo.images.ingest import read_digest
from terraflow.eo.models.estimators import parameters
from terraflow.eo.training.card import SIMULATED_NOTE, model_card
from terraflow.eo.training.cross_validation import Scores
from terraflow.eo.training.figures import (
    class_colours,
    confusion_figure,
    curves_figure,
    importance_figure,
)
from terraflow.eo.training.scores import Score
from terraflow.eo.training.tuning import Tuning
from terraflow.storage import Storage
from terraflow.tracking import runs as tracking

__all__ = ["Samples", "Training", "log_training", "metadata", "named_scores", "tags"]


@dataclass(frozen=True)
class Samples:
    """What `preprocess` left, in memory.

    Attributes
    ----------
    table : DataFrame
        All columns.
    features : DataFrame, shape (sample, feature), float32
    report : dict
    inputs : dict
        URIs of items, labels, samples, population and report.
    """

    table: pd.DataFrame
    features: pd.DataFrame
    report: dict[str, Any]
    inputs: dict[str, str]

    @property
    def classes(self) -> pd.Series:
        """Class name of each sample."""
        return self.table["class_name"]

    @property
    def blocks(self) -> pd.Series:
        """Block number of each sample."""
        return self.table["block"]

    @property
    def pixels(self) -> npt.NDArray[np.int64]:
        """Column and row of each sample in the grid, shape (sample, 2)."""
        x, y = self.table["x"].to_numpy(), self.table["y"].to_numpy()
        to_pixel = ~Affine(*self.report["grid"]["transform"][:6])
        pixels: npt.NDArray[np.int64] = np.floor(np.stack(to_pixel * (x, y), axis=1)).astype(
            "int64"
        )
        return pixels

    @property
    def note(self) -> str:
        """What a reader must be told first, or nothing."""
        return SIMULATED_NOTE if self.report["simulated"] else ""


@dataclass(frozen=True)
class Training:
    """What came out of it; `project` has the parameters that a search found."""

    project: ProjectConfig
    samples: Samples
    scores: Scores
    tuning: Tuning | None = None


def tags(project: ProjectConfig, samples: Samples) -> dict[str, str]:
    """Tell where the data came from; code and lock are `tracking.start_run`'s to tell."""
    told = samples.inputs | {
        "data_digest": str(samples.report["data_digest"]),
        "seed": str(project.seed),
        "simulated": str(bool(samples.note)).lower(),
    }
    return told | ({"mlflow.note.content": f"Trained on {samples.note}."} if samples.note else {})


def metadata(training: Training) -> dict[str, Any]:
    """Collect what a map needs of its model, and what makes it again."""
    samples, scores = training.samples, training.scores
    return {
        "classes": scores.classes,
        "features": list(samples.features.columns),
        "periods": samples.report["periods"],
        "note": f"Trained on {samples.note}." if samples.note else "",
        "seed": training.project.seed,
        "scores": {
            "overall_accuracy": scores.overall_accuracy.value,
            "macro_f1": scores.macro_f1.value,
        },
        "project": training.project.model_dump(mode="json"),
    } | _provenance(samples)


def named_scores(scores: Scores) -> dict[str, Score]:
    """Name each score: macro_f1, users_accuracy_CLASS."""
    named = {"overall_accuracy": scores.overall_accuracy, "macro_f1": scores.macro_f1}
    for name, row in scores.per_class.items():
        named |= {f"{key}_{name}": score for key, score in row.items()}
    return named


def log_training(training: Training, run_id: str, storage: Storage) -> None:
    """Log all but the model itself to the active run."""
    _log_inputs(training.project, training.samples, storage)
    mlflow.log_params(_parameters(training))
    mlflow.log_metrics(_metrics(training))
    _log_pictures(training)
    samples, project = training.samples, training.project
    mlflow.log_dict(project.model_dump(mode="json"), "config.json")
    mlflow.log_dict(samples.report, "data_report.json")
    mlflow.log_dict(training.scores.importance, "importance.json")
    card = model_card(
        project, samples.report, training.scores, samples.inputs,
        run_id=run_id, provenance=_provenance(samples), tuning=training.tuning,
    )  # fmt: skip
    mlflow.log_text(card, "model_card.md")
    held_out = samples.table[["x", "y", "block", "class_name"]]
    with storage.scratch() as folder:
        path = folder / "predictions.parquet"
        held_out.assign(predicted=training.scores.predicted).to_parquet(path, index=False)
        mlflow.log_artifact(str(path))


def _log_inputs(project: ProjectConfig, samples: Samples, storage: Storage) -> None:
    name = f"{project.name} samples" + (" (simulated)" if samples.note else "")
    table = samples.features.assign(class_name=samples.classes)
    source, digest = _source(samples.inputs["samples"]), samples.report["data_digest"]
    dataset = from_pandas(table, source=source, targets="class_name", name=name, digest=digest)
    mlflow.log_input(dataset, context="training")
    digests = {"items": read_digest(samples.inputs["items"], storage), "labels": ""}
    for key, told in digests.items():
        source, digest = _source(samples.inputs[key]), told[:36] or None  # MLflow takes no more
        origin = MetaDataset(source, f"{project.name} {key}", digest)  # type: ignore[abstract]
        mlflow.log_input(origin, context="source")


def _source(uri: str) -> DatasetSource:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The specified dataset source can be interpreted")
        return resolve_dataset_source(uri)


def _parameters(training: Training) -> dict[str, Any]:
    project, samples, tuning = training.project, training.samples, training.tuning
    return {
        "model": project.model.name,
        **parameters(project),
        **project.validation.model_dump(),
        "composites": project.features.composites,
        "seed": project.seed,
        "features": samples.features.shape[1],
        "samples": len(samples.table),
        "blocks": samples.blocks.nunique(),
        "start": project.data.start,
        "end": project.data.end,
        "tuned_trials": tuning.trials if tuning else 0,
    }


def _metrics(training: Training) -> dict[str, float]:
    scores = training.scores
    metrics: dict[str, float] = {}
    for told, score in named_scores(scores).items():
        name = tracking.metric_name(told)
        metrics |= {name: score.value, f"{name}_low": score.low, f"{name}_high": score.high}
    for name, count in zip(scores.classes, scores.matrix.sum(axis=1), strict=True):
        metrics[tracking.metric_name(f"support_{name}")] = float(count)
    metrics["random_overall_accuracy"] = scores.random_overall_accuracy
    metrics["random_macro_f1"] = scores.random_macro_f1
    if training.tuning:
        metrics["corrected_macro_f1"] = training.tuning.corrected_macro_f1
    return metrics


def _log_pictures(training: Training) -> None:
    scores, note = training.scores, training.samples.note
    reference = training.samples.classes.to_numpy(dtype=object)
    colours = class_colours(scores.classes, training.project)
    for name, figure in {
        "confusion": confusion_figure(scores.matrix, scores.classes, note),
        "importance": importance_figure(scores.importance, note),
        "class_curves": curves_figure(
            reference, scores.probabilities, scores.classes, colours, note
        ),
    }.items():
        mlflow.log_figure(figure, f"{name}.png")


def _provenance(samples: Samples) -> dict[str, str]:
    return tracking.provenance() | {"data_digest": str(samples.report["data_digest"])}
