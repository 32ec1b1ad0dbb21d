"""What a training run holds: tags, parameters, scores, lineage, figures and the model card."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import mlflow
import numpy as np
import numpy.typing as npt
import pandas as pd
from affine import Affine
from matplotlib.figure import Figure
from mlflow.data.dataset_source import DatasetSource
from mlflow.data.dataset_source_registry import resolve_dataset_source
from mlflow.data.meta_dataset import MetaDataset
from mlflow.data.pandas_dataset import from_pandas

import terraflow
from terraflow.eo.config.project_file import ProjectConfig
from terraflow.eo.config.sections import Priors
from terraflow.eo.hooks import HookRecord
from terraflow.eo.images.collection import read_digest
from terraflow.eo.models.choice import ModelChoice
from terraflow.eo.models.model import ModelInfo
from terraflow.eo.samples.data_report import DataReport
from terraflow.eo.samples.preprocess import Prepared
from terraflow.eo.targets.area.pixel_areas import pixel_side_m
from terraflow.eo.targets.figures import TITLE, fitted, plain, wrapped
from terraflow.eo.targets.parts import Evaluation, measure_name
from terraflow.eo.targets.target import Target
from terraflow.eo.training.card import SIMULATED_NOTE, model_card
from terraflow.eo.training.cross_validation import Table
from terraflow.eo.training.held_out import log_held_out
from terraflow.eo.training.tuning import Tuning
from terraflow.eo.training.weights import label_weights, learning_weights
from terraflow.storage import Storage
from terraflow.tracking import runs

__all__ = ["Samples", "Training", "importance_figure", "log_training", "model_info", "tags"]


@dataclass(frozen=True)
class Samples:
    """What `preprocess` left, in memory.

    Attributes
    ----------
    table : DataFrame
        All columns.
    features : DataFrame, shape (sample, feature), float32
    report : DataReport
    inputs : Prepared
        URIs of items, labels, samples, population and report.
    target : Target
    """

    table: pd.DataFrame
    features: pd.DataFrame
    report: DataReport
    inputs: Prepared
    target: Target

    @property
    def reference(self) -> pd.Series:
        """Reference value of each sample."""
        return self.table[self.target.column]

    @property
    def strata(self) -> npt.NDArray[np.object_]:
        """Stratum of each sample."""
        return self.target.strata(self.reference)

    @property
    def used(self) -> dict[str, int]:
        """Stratum to the number of its samples."""
        names, counts = np.unique(self.strata.astype(str), return_counts=True)
        return dict(zip(names.tolist(), counts.tolist(), strict=True))

    @property
    def pixels(self) -> npt.NDArray[np.int64]:
        """Column and row of each sample in the grid, shape (sample, 2)."""
        x, y = self.table["x"].to_numpy(), self.table["y"].to_numpy()
        to_pixel = ~Affine(*self.report.grid["transform"][:6])
        pixels: npt.NDArray[np.int64] = np.floor(np.stack(to_pixel * (x, y), axis=1)).astype(
            "int64"
        )
        return pixels

    @property
    def note(self) -> str:
        """What a reader must be told first, or nothing."""
        return SIMULATED_NOTE if self.report.simulated else ""

    def to_table(self, priors: Priors = "labels") -> Table:
        """Give what a cross-validation takes; a model learns strata in these shares."""
        levels = self.target.levels(self.reference)
        counts = self.report.label_counts
        return Table(
            self.features,
            self.reference,
            self.table["block"],
            self.target,
            levels,
            label_weights(self.strata, counts),
            learning_weights(self.strata, counts, priors),
        )


@dataclass(frozen=True)
class Training:
    """What came out of a training; `choice` has the parameters that a search found."""

    config: ProjectConfig
    choice: ModelChoice
    samples: Samples
    evaluation: Evaluation
    hooks: HookRecord
    tuning: Tuning | None = None


def tags(
    config: ProjectConfig, samples: Samples, hooks: HookRecord, why: str = ""
) -> dict[str, str]:
    """Tell where the data came from and why it runs; code and lock `runs.start_run` tells."""
    told = {key: str(value) for key, value in samples.inputs.to_dict().items()}
    told |= {
        "data_digest": samples.report.data_digest,
        "seed": str(config.seed),
        "simulated": str(bool(samples.note)).lower(),
        "target": hooks.target,
        "terraflow.version": terraflow.__version__,
    }
    notes = [why, f"Trained on {samples.note}." if samples.note else ""]
    note = "\n\n".join(filter(None, notes))
    return told | ({"mlflow.note.content": note} if note else {})


def model_info(training: Training) -> ModelInfo:
    """Collect what a map needs of its model, and what makes it again."""
    samples, evaluation = training.samples, training.evaluation
    found, grid = _provenance(samples), samples.report.grid
    return ModelInfo(
        levels=evaluation.levels,
        values=samples.target.values(evaluation.levels),
        features=list(samples.features.columns),
        periods=samples.report.periods,
        config=training.config.model_dump(mode="json"),
        seed=training.config.seed,
        scores={name: evaluation.scores[name].value for name in samples.target.headline},
        note=f"Trained on {samples.note}." if samples.note else "",
        hooks=training.hooks,
        calibration=evaluation.calibration,
        pixel_m=pixel_side_m(grid["crs"], Affine(*grid["transform"][:6]), tuple(grid["shape"])),
        **found,
    )


def log_training(
    training: Training, run_id: str, storage: Storage, remarks: Sequence[str] = ()
) -> None:
    """Log all but the model itself to the active run."""
    samples, config, evaluation = training.samples, training.config, training.evaluation
    _log_inputs(config, samples, storage)
    mlflow.log_params(_parameters(training))
    mlflow.log_metrics(_metrics(training))
    _log_figures(training)
    mlflow.log_dict(config.model_dump(mode="json"), "config.json")
    mlflow.log_dict(evaluation.importance, "importance.json")
    card = model_card(
        config,
        samples.report,
        evaluation,
        samples.inputs,
        target=samples.target,
        choice=training.choice,
        used=samples.used,
        run_id=run_id,
        provenance=_provenance(samples),
        tuning=training.tuning,
        remarks=remarks,
    )
    mlflow.log_text(card, "model_card.md")
    predicted = samples.target.decide(evaluation.predictions, evaluation.levels)
    held_out = samples.table[["x", "y", "block", samples.target.column]]
    log_held_out(held_out.assign(predicted=predicted), samples.report)


def importance_figure(
    importance: Mapping[str, float], measure: str, note: str, most: int = 20
) -> Figure:
    """Draw the loss of a measure where a feature's values are permuted, greatest first.

    Parameters
    ----------
    importance : dict
        Feature to loss.
    measure : str
        Name of the measure.
    note : str
        Second line of the title.
    most : int
        So many features, at most.
    """
    rows = sorted(importance.items(), key=lambda row: (-row[1], row[0]))[:most]
    figure = Figure(figsize=(7, 1.5 + 0.27 * len(rows)), layout="constrained")
    axes = figure.subplots()
    axes.barh([wrapped(name) for name, _ in rows], [loss for _, loss in rows], color="0.4")
    axes.invert_yaxis()
    axes.axvline(0, color="black", linewidth=0.8)
    which = f"{len(rows)} of {len(importance)} features"
    axes.set(
        xlabel=f"loss of {measure} when permuted among held-out pixels",
        title=wrapped(f"Importance, {which}\n{note}", TITLE),
    )
    return fitted(figure)


def _log_inputs(config: ProjectConfig, samples: Samples, storage: Storage) -> None:
    name = f"{config.name} samples" + (" (simulated)" if samples.note else "")
    column = samples.target.column
    table = samples.features.assign(**{column: samples.reference})
    source, digest = _source(samples.inputs.samples), samples.report.data_digest
    dataset = from_pandas(table, source=source, targets=column, name=name, digest=digest)
    mlflow.log_input(dataset, context="training")
    inputs = samples.inputs
    digests = {"items": read_digest(inputs.items, storage), "labels": ""}
    for key, told in digests.items():
        short = told[:36] or None  # MLflow takes no more
        origin = MetaDataset(_source(getattr(inputs, key)), f"{config.name} {key}", short)  # type: ignore[abstract]
        mlflow.log_input(origin, context="source")


def _source(uri: str) -> DatasetSource:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The specified dataset source can be interpreted")
        return resolve_dataset_source(uri)


def _parameters(training: Training) -> dict[str, Any]:
    config, samples, tuning = training.config, training.samples, training.tuning
    return {
        "model": training.choice.name,
        **training.choice.parameters,
        **config.validation.model_dump(),
        "composites": config.features.composites,
        "seed": config.seed,
        "features": samples.features.shape[1],
        "samples": len(samples.table),
        "blocks": samples.table["block"].nunique(),
        "start": config.data.start,
        "end": config.data.end,
        "tuned_trials": tuning.trials if tuning else 0,
    }


def _metrics(training: Training) -> dict[str, float]:
    evaluation, samples = training.evaluation, training.samples
    metrics: dict[str, float] = {}
    for told, score in evaluation.scores.items():
        name = runs.metric_name(told)
        metrics |= {name: score.value, f"{name}_low": score.low, f"{name}_high": score.high}
    for told, value in evaluation.as_drawn.items():
        if told in samples.target.headline:
            metrics[f"drawn_{runs.metric_name(told)}"] = value
    for told in ("error_before", "error", "coverage"):
        if (number := getattr(evaluation.calibration, told)) is not None:
            metrics[f"calibration_{told}"] = number
    for stratum, count in samples.used.items():
        metrics[runs.metric_name(f"support_{stratum}")] = float(count)
    for name in samples.target.headline:
        metrics[f"random_{name}"] = evaluation.at_random[name]
    if training.tuning:
        metrics[f"corrected_{samples.target.primary}"] = training.tuning.corrected
    # what can't be estimated has no metric, where a 0 would pass for one
    return {name: value for name, value in metrics.items() if math.isfinite(value)}


@plain()
def _log_figures(training: Training) -> None:
    evaluation, samples = training.evaluation, training.samples
    target, note = samples.target, samples.note
    figures = dict(target.figures(samples.reference, evaluation, training.config.map, note)) | {
        "importance": importance_figure(evaluation.importance, measure_name(target.primary), note)
    }
    for name, figure in figures.items():
        mlflow.log_figure(figure, f"{name}.png")


def _provenance(samples: Samples) -> dict[str, str]:
    return runs.provenance() | {"data_digest": samples.report.data_digest}
