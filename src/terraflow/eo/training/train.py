"""From samples to a registered model with its scores."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from terraflow.console import say
from terraflow.eo.config.project_file import ProjectConfig
from terraflow.eo.models.estimators import fit, make_classifier, one_thread
from terraflow.eo.models.model import log_classifier
from terraflow.eo.samples.draw import NOT_FEATURES
from terraflow.eo.training.cross_validation import check_samples, cross_validate
from terraflow.eo.training.folds import leave_gap, spatial_folds
from terraflow.eo.training.promotion import consider
from terraflow.eo.training.run_record import (
    Samples,
    Training,
    log_training,
    metadata,
    named_scores,
    tags,
)
from terraflow.eo.training.tuning import tune as search
from terraflow.errors import DataError
from terraflow.storage import Storage
from terraflow.tracking import runs as tracking

__all__ = ["TrainingResult", "train"]

ALIAS = "challenger"
INPUTS = ("items", "labels", "samples", "population", "report")


@dataclass(frozen=True)
class TrainingResult:
    """What a user is told; small enough to pass through Airflow.

    Attributes
    ----------
    intervals : dict
        Score, also as f1_CLASS, to its least and greatest value at 95 %.
    random_overall_accuracy, random_macro_f1 : float
        Of a cross-validation that draws pixels at random, which is too good.
    promoted, reason : bool, str
        Whether the version became champion, and why.
    """

    run_id: str
    url: str
    model: str
    overall_accuracy: float
    macro_f1: float
    f1_per_class: dict[str, float]
    intervals: dict[str, list[float]]
    random_overall_accuracy: float
    random_macro_f1: float
    simulated: bool
    promoted: bool
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values."""
        return asdict(self)


def train(
    project: ProjectConfig, prepared: Mapping[str, str], storage: Storage, *, tune: int = 0
) -> TrainingResult:
    """Cross-validate, fit on all samples, log one MLflow run, register the model, promote it.

    Parameters
    ----------
    prepared : dict
        What `preprocess` returned.
    tune : int
        Trials of a search for parameters, each a run inside this one; 0 takes them as they are.
        Each half of the folds is then predicted with the parameters that are best on the other
        half, and the registered model fitted with those that are best on all.

    Raises
    ------
    ConfigError
        [model] is wrong.
    DataError
        No honest cross-validation can be made of the samples.
    StorageError, ServiceError
        The store or MLflow does not answer.
    """
    samples = _read(prepared, storage)
    make_classifier(project)  # a wrong name must not leave a run behind
    check_samples(samples.table, samples.features, project)
    name = f"{project.name}-simulated" if samples.note else project.name
    with tracking.start_run(
        storage.settings, project.name, name=name, tags=tags(project, samples)
    ) as run:
        training = _validate(project, samples, tune)
        with one_thread():
            classifier = fit(make_classifier(training.project), samples.features, samples.classes)
        log_training(training, run.info.run_id, storage)
        told = metadata(training)
        info = log_classifier(classifier, samples.features, training.project, told)
        with contextlib.redirect_stderr(io.StringIO()):  # where MLflow says what the result tells
            version = tracking.register(info.model_uri, project.name, ALIAS, note=samples.note)
    # after the run's end: whatever fails now, the challenger is whole
    decision = consider(
        storage.settings, project.name, version,
        resamples=project.validation.resamples, seed=project.seed,
    )  # fmt: skip
    scores = training.scores
    return TrainingResult(
        run_id=run.info.run_id,
        url=tracking.run_url(storage.settings, run),
        model=f"models:/{project.name}/{version}",
        overall_accuracy=scores.overall_accuracy.value,
        macro_f1=scores.macro_f1.value,
        f1_per_class={name: row["f1"].value for name, row in scores.per_class.items()},
        intervals={name: [score.low, score.high] for name, score in named_scores(scores).items()},
        random_overall_accuracy=scores.random_overall_accuracy,
        random_macro_f1=scores.random_macro_f1,
        simulated=bool(samples.note),
        promoted=decision.promoted,
        reason=decision.reason,
    )


def _validate(project: ProjectConfig, samples: Samples, trials: int) -> Training:
    folds = leave_gap(
        spatial_folds(samples.classes, samples.blocks, project),
        samples.pixels, samples.classes, project.validation.gap_px,
    )  # fmt: skip
    table = (samples.features, samples.classes, samples.blocks, folds)
    tuning = search(project, *table, trials=trials) if trials else None
    project = tuning.project if tuning else project
    blocks = samples.blocks.nunique()
    say(f"{project.model.name}: {len(samples.table)} samples in {blocks} blocks, two times "
        f"{project.validation.folds} folds ...")  # fmt: skip
    by_fold = tuning.by_fold if tuning else ()
    return Training(project, samples, cross_validate(*table, project, by_fold=by_fold), tuning)


def _read(prepared: Mapping[str, str], storage: Storage) -> Samples:
    data = io.BytesIO(storage.read(prepared["samples"]))
    report = json.loads(storage.read(prepared["report"]))
    table = pd.read_parquet(data).drop(columns="geometry", errors="ignore")
    features = [name for name in table.columns if name not in NOT_FEATURES]
    if features != report["features"]:
        raise DataError(
            f"{prepared['samples']} has {len(features)} features, and not the "
            f"{len(report['features'])} in this order that {prepared['report']} names; run "
            "`invoke preprocess` again."
        )
    inputs = {key: prepared[key] for key in INPUTS}
    return Samples(table, table[features].astype("float32"), report, inputs)
