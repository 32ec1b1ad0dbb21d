"""From samples to a registered model with its scores."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import mlflow
import pandas as pd
from mlflow.entities import Run

from terraflow.console import command, say, table
from terraflow.eo.config.digests import value_digest
from terraflow.eo.config.project_file import ProjectConfig
from terraflow.eo.config.record import Record
from terraflow.eo.hooks import HookRecord, Hooks, record_hooks
from terraflow.eo.models.applicability import learn_applicability
from terraflow.eo.models.choice import (
    ModelChoice,
    choose_model,
    fit,
    one_thread,
    takes_weights,
    unconverged,
)
from terraflow.eo.models.model import log_model
from terraflow.eo.project import Inputs, OpenProject
from terraflow.eo.samples.draw import NOT_FEATURES
from terraflow.eo.samples.preprocess import Prepared, read_report
from terraflow.eo.targets.parts import Floats, Score
from terraflow.eo.targets.target import Target
from terraflow.eo.training.cross_validation import check_samples, cross_validate
from terraflow.eo.training.folds import leave_gap, spatial_folds
from terraflow.eo.training.run_record import Samples, Training, log_training, model_info, tags
from terraflow.eo.training.tuning import tune as search
from terraflow.errors import ConfigError, DataError
from terraflow.storage import Storage
from terraflow.tracking import registry, runs

__all__ = ["Trained", "check", "choose", "remarks_on", "show", "step", "train"]

ALIAS = "challenger"
#: Artifact that tells what came out, tag of the order that it was trained for.
TRAINED, KEY = "trained.json", "terraflow.key"


class Trained(Record):
    """What a user is told; small enough to pass through Airflow.

    Attributes
    ----------
    scores : dict
        Measure to its value, and the least and greatest value of its 95 % interval.
    at_random : dict
        Measure to its value by a cross-validation that draws pixels at random.
    as_drawn : dict
        Measure to its value for samples as drawn, where labelled pixels have other shares.
    headline : list of str
        Measures to be read first.
    labels : list of str
        What became of the reference data, where not all was used as it is.
    """

    run_id: str
    url: str
    model: str
    scores: dict[str, tuple[float, float, float]]
    at_random: dict[str, float]
    as_drawn: dict[str, float] = {}
    headline: list[str]
    simulated: bool
    labels: list[str] = []


def choose(config: ProjectConfig, hooks: Hooks) -> ModelChoice:
    """Look up the model that a project's configuration names.

    Raises
    ------
    ConfigError
        [model] is wrong.
    """
    probabilities = hooks.target.probabilities
    return choose_model(config.model, hooks.models, seed=config.seed, probabilities=probabilities)


def train(
    config: ProjectConfig,
    hooks: Hooks,
    prepared: Prepared,
    storage: Storage,
    *,
    tune: int = 0,
    why: str = "",
    key: str = "",
) -> Trained:
    """Cross-validate, fit on all samples, log one MLflow run, register the model.

    Parameters
    ----------
    tune : int
        Trials of a search for parameters, each a run inside this one; 0 takes them as they are.
        Each half of the folds is then predicted with the parameters that are best on the other
        half, and the registered model fitted with those that are best on all.
    why : str
        Why it runs, for the note of the run.
    key : str
        Of one order to train. A training whose process was killed and which is tried again under
        the same key goes on after the run that it had finished: no model is registered twice.

    Raises
    ------
    ConfigError
        [model] is wrong.
    DataError
        No honest cross-validation can be made of the samples.
    StorageError, ServiceError
        The store or MLflow does not answer.
    """
    choice = choose(config, hooks)  # a wrong name must not leave a run behind
    samples = _read(prepared, hooks.target, storage)
    check_samples(samples.table, samples.features, hooks.target, config.validation)
    told = {KEY: value_digest([key, prepared.samples, config.model_dump(mode="json"), tune])}
    run = runs.find_finished(storage.settings, config.name, told) if key else None
    if run is None:
        named = record_hooks(hooks, config.model.name)
        name = f"{config.name}-simulated" if samples.note else config.name
        told = tags(config, samples, named, why) | (told if key else {})
        with runs.start_run(storage.settings, config.name, name=name, tags=told) as run:
            training = _validate(config, choice, samples, named, tune)
            _log(training, run, storage, package=hooks.package)
    return _register(run, config, samples, storage)


def _log(training: Training, run: Run, storage: Storage, *, package: str) -> None:
    """Fit on all samples, and fill the run: scores, figures, the model, and what is told of it."""
    samples, choice, evaluation = training.samples, training.choice, training.evaluation
    with one_thread():
        weights = samples.to_table(training.config.map.priors).learning_weights
        model = fit(choice.make(), samples.features, samples.reference, weights)
    remarks = remarks_on(model, choice.name, weights)
    for remark in remarks:
        say(remark)
    if remarks:
        mlflow.set_tag("remarks", "\n".join(remarks))
    log_training(training, run.info.run_id, storage, remarks)
    known = learn_applicability(
        samples.features,
        evaluation.importance,
        folds=evaluation.folds,
        seed=training.config.seed,
    )
    logged = log_model(
        model,
        samples.features,
        choice,
        model_info(training),
        applicability=known,
        package=package,
    )
    trained = Trained(
        run_id=run.info.run_id,
        url=runs.run_url(storage.settings, run),
        model=str(logged.model_uri),
        scores={n: (s.value, s.low, s.high) for n, s in evaluation.scores.items()},
        at_random=evaluation.at_random,
        as_drawn=evaluation.as_drawn,
        headline=list(samples.target.headline),
        simulated=bool(samples.note),
        labels=samples.report.labels.told,
    )
    mlflow.log_dict(trained.to_dict(), TRAINED)


def remarks_on(model: Any, name: str, weights: Floats | None) -> list[str]:
    """List what a user should know of a fitted model."""
    remarks = [unconverged(model)]
    if weights is not None and not takes_weights(model):
        remarks.append(
            f"[model] {name} takes no sample_weight, so that it expects strata in the "
            "shares that were drawn, and not in those of [map] priors; let its fit take them."
        )
    return [remark for remark in remarks if remark]


def _register(run: Run, config: ProjectConfig, samples: Samples, storage: Storage) -> Trained:
    """Register the model of a finished run, unless that is done; point the alias at it."""
    with registry.connected(storage.settings):
        told = mlflow.artifacts.load_dict(f"{run.info.artifact_uri}/{TRAINED}")
        trained = Trained.model_validate(told)
        with contextlib.redirect_stderr(io.StringIO()):  # where MLflow says what the result tells
            version = runs.register(
                trained.model, config.name, ALIAS, run_id=trained.run_id, note=samples.note
            )
    return trained.model_copy(update={"model": f"models:/{config.name}/{version}"})


def _validate(
    config: ProjectConfig, choice: ModelChoice, samples: Samples, named: HookRecord, trials: int
) -> Training:
    validation, seed, table = config.validation, config.seed, samples.to_table(config.map.priors)
    folds = leave_gap(
        spatial_folds(samples.strata, table.blocks, validation, seed=seed),
        samples.pixels,
        samples.strata,
        validation.gap_px,
    )
    tuning = None
    if trials:
        resamples = validation.resamples
        tuning = search(table, folds, choice, trials=trials, resamples=resamples, seed=seed)
        choice = tuning.choice
        model = config.model.model_copy(update={"parameters": choice.chosen})
        config = config.model_copy(update={"model": model})
    say(
        f"{choice.name}: {len(samples.table)} samples in {table.blocks.nunique()} blocks, two "
        f"times {validation.folds} folds ..."
    )
    by_fold = tuning.by_fold if tuning else ()
    found = cross_validate(table, folds, choice, validation, seed=seed, by_fold=by_fold)
    return Training(config, choice, samples, found, named, tuning)


def _read(prepared: Prepared, target: Target, storage: Storage) -> Samples:
    data = io.BytesIO(storage.read(prepared.samples))
    report = read_report(prepared.report, storage)
    table = pd.read_parquet(data).drop(columns="geometry", errors="ignore")
    others = {*NOT_FEATURES, target.column}
    features = [name for name in table.columns if name not in others]
    if features != report.features:
        raise DataError(
            f"{prepared.samples} has {len(features)} features, and not the "
            f"{len(report.features)} in this order that {prepared.report} names; run "
            f"`{command('preprocess')}` again."
        )
    return Samples(table, table[features].astype("float32"), report, prepared, target)


def check(project: OpenProject, inputs: Inputs) -> None:
    """See before long work that the model is known, and that MLflow answers."""
    tune = inputs.get("tune") or 0
    if tune < 0:
        raise ConfigError(f"--tune {tune} is no number of trials; give 1 or more, or leave it out.")
    choose(project.config, project.hooks)
    runs.connect(project.storage.settings)


def step(project: OpenProject, inputs: Inputs) -> Trained:
    """Train on what `preprocess` returned."""
    prepared = Prepared.model_validate(inputs)
    return train(
        project.config,
        project.hooks,
        prepared,
        project.storage,
        tune=inputs.get("tune") or 0,
        why=inputs.get("why") or "",
        key=inputs.get("key") or "",
    )


def show(project: OpenProject, outputs: Inputs) -> int:
    """Tell the scores, and what can be done next."""
    target = project.hooks.target
    trained = Trained.model_validate(outputs)
    if trained.simulated:
        say("\nSimulated data: these scores say nothing about any real place.")
    for line in trained.labels:
        say(f"\n{line}")
    say("\nBy cross-validation over spatial blocks, with 95 % intervals:")
    first = {name: trained.scores[name] for name in trained.headline}
    rows = [
        (target.label(name), Score(*values).text())
        for name, values in (first | trained.scores).items()
        if not name.startswith(("users_accuracy_", "producers_accuracy_"))
    ]
    table(("score", ""), rows)
    random = " and ".join(f"{trained.at_random[name]:.3f}" for name in trained.headline)
    gain = trained.at_random[target.primary] - trained.scores[target.primary][0]
    better = gain > 0 if target.greater_is_better else gain < 0
    say(f"Over random folds{', which is optimistic' if better else ''}: {random}")
    if trained.as_drawn:
        drawn = " and ".join(f"{trained.as_drawn[name]:.3f}" for name in trained.headline)
        say(f"Of the samples as they were drawn, and not of all labelled pixels: {drawn}")
    say(f"\nRun {trained.run_id}, model {trained.model} (alias challenger)")
    say(trained.url)
    say(f"Serve it: {command('serve', '--run-id', trained.run_id)}")
    say(f"Map with it: {command('map', '--model', trained.model)}")
    return 0
