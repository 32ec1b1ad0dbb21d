"""MLflow runs that end in a true state, and the model registry."""

from __future__ import annotations

import hashlib
import logging
import re
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Any

import mlflow
from mlflow.entities import Run, ViewType
from mlflow.environment_variables import (
    MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR,
    MLFLOW_HTTP_REQUEST_MAX_RETRIES,
    MLFLOW_RUN_ID,
    MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT,
)
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from requests.exceptions import RequestException

from terraflow import probes
from terraflow.checkout.git import git
from terraflow.config import export, project_root
from terraflow.console import command
from terraflow.credentials import tracking_environment
from terraflow.errors import ConfigError, ServiceError, StorageError, first_line
from terraflow.settings import Settings
from terraflow.tracking.abandoned import end_abandoned_runs, own_tags

__all__ = [
    "connect",
    "find_finished",
    "find_run",
    "find_run_url",
    "latest_runs",
    "metric_name",
    "provenance",
    "register",
    "run_url",
    "start_child_run",
    "start_run",
]

#: Outlasts the restart of a killed MLflow server: pauses of 2, 4, 8, 16 and 32 s.
RETRIES = 5
#: Tag by which MLflow's page chooses what it shows of an experiment, and its value for models.
_KIND, _MODELS = "mlflow.experimentKind", "custom_model_development"


def connect(settings: Settings) -> None:
    """Point MLflow at the running server.

    Raises
    ------
    ServiceError
        It does not answer.
    """
    if not probes.answers(f"{settings.mlflow_url}/health"):
        raise ServiceError(
            f"MLflow does not answer at {settings.mlflow_url}; start the stack with "
            f"`{command('up')}`, or see `{command('status')}`."
        )
    if not MLFLOW_HTTP_REQUEST_MAX_RETRIES.is_set():
        MLFLOW_HTTP_REQUEST_MAX_RETRIES.set(RETRIES)
    MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR.set(False)
    MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT.set(True)
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    mlflow.set_tracking_uri(settings.mlflow_url)
    mlflow.set_registry_uri(settings.mlflow_url)
    MLFLOW_RUN_ID.unset()  # of a program's own run, which would take this one in
    export(tracking_environment(settings))


@contextmanager
def start_run(
    settings: Settings, experiment: str, *, name: str, tags: dict[str, str]
) -> Iterator[Run]:
    """Open a run that ends FINISHED, or FAILED without artifacts.

    Runs that a killed process of this machine left open are ended first.

    Parameters
    ----------
    experiment : str
        Made if it does not exist.
    tags : dict
        Beside them the run holds code commit and lock digest.

    Raises
    ------
    ServiceError, StorageError
        MLflow does not answer, or could not store what it was sent.
    """
    connect(settings)
    run = None
    try:
        _open_experiment(experiment)
        end_abandoned_runs(settings)
        with mlflow.start_run(run_name=name, tags=tags | own_tags() | provenance()) as run:
            yield run
    except (MlflowException, RequestException, OSError) as error:
        if run:
            _delete_artifacts(run)
        text = first_line(error)
        raise StorageError(
            f"MLflow at {settings.mlflow_url} could not store the run: {text}; look at "
            f"`{command('logs', 'mlflow')}` (is the disk full?) and run it again."
        ) from error
    except BaseException:
        if run:
            _delete_artifacts(run)
        raise


@contextmanager
def start_child_run(name: str, tags: Mapping[str, str]) -> Iterator[Run]:
    """Open a run inside the active one, as for one trial of many; it ends FINISHED or FAILED.

    Raises
    ------
    MlflowException
        MLflow failed; `start_run` around it makes a sentence of it.
    """
    with mlflow.start_run(run_name=name, nested=True, tags=dict(tags) | own_tags()) as run:
        yield run


def _delete_artifacts(run: Run) -> None:
    """Remove what may be half-written: a failed run keeps its parameters, not its artifacts."""
    patience = MLFLOW_HTTP_REQUEST_MAX_RETRIES.get()
    MLFLOW_HTTP_REQUEST_MAX_RETRIES.set(1)
    with suppress(MlflowException, RequestException, OSError):
        client = mlflow.MlflowClient()
        for model in mlflow.search_logged_models(
            experiment_ids=[run.info.experiment_id],
            output_format="list",
            filter_string=f"source_run_id = '{run.info.run_id}'",
        ):
            get_artifact_repository(model.artifact_location).delete_artifacts("")
            client.delete_logged_model(model.model_id)
        get_artifact_repository(run.info.artifact_uri).delete_artifacts("")
    MLFLOW_HTTP_REQUEST_MAX_RETRIES.set(patience)


def provenance() -> dict[str, str]:
    """Code commit ("+changes" if the tree differs from it) and digest of requirements.lock."""
    root = project_root()
    tags = {}
    lock = root / "requirements.lock"
    if lock.exists():
        tags["lock_digest"] = hashlib.sha256(lock.read_bytes()).hexdigest()[:12]
    with suppress(OSError, subprocess.CalledProcessError):
        git(root, "ls-files", "--error-unmatch", "pyproject.toml")  # not of a repository around it
        commit = git(root, "rev-parse", "HEAD").strip()
        tags["code_commit"] = commit + ("+changes" if git(root, "status", "--porcelain") else "")
    return tags


def register(model_uri: str, name: str, alias: str, *, run_id: str = "", note: str = "") -> str:
    """Register a model under a name, unless its run has, and point an alias at it.

    Parameters
    ----------
    run_id : str
        The run that logged the model: a version that it registered before is taken. Without it
        there is always a new one.
    note : str
        Description of the version.

    Returns
    -------
    str
        The version.
    """
    client = mlflow.MlflowClient()
    known = client.search_model_versions(f"run_id = '{run_id}'") if run_id else []
    version = next((v for v in known if v.name == name), None)
    if version is None:
        version = mlflow.register_model(model_uri, name, await_registration_for=60)
    if note:
        client.update_model_version(name, version.version, description=note)
    client.set_registered_model_alias(name, alias, version.version)
    return str(version.version)


def find_finished(settings: Settings, experiment: str, tags: Mapping[str, str]) -> Run | None:
    """Find the latest run of an experiment that ended well and has these tags.

    Raises
    ------
    ServiceError
        MLflow does not answer.
    """
    connect(settings)
    known = mlflow.get_experiment_by_name(experiment)
    if known is None:
        return None
    wanted = [f"tags.`{key}` = '{value}'" for key, value in tags.items()]
    found = mlflow.MlflowClient().search_runs(
        [known.experiment_id],
        " and ".join(["attributes.status = 'FINISHED'", *wanted]),
        max_results=1,
        order_by=["attributes.start_time DESC"],
    )
    return found[0] if found else None


def _open_experiment(name: str) -> None:
    """Take an experiment, as one of models: without a kind MLflow's page shows traces and chats."""
    experiment = mlflow.set_experiment(name)
    if _KIND not in experiment.tags:
        mlflow.MlflowClient().set_experiment_tag(experiment.experiment_id, _KIND, _MODELS)


def run_url(settings: Settings, run: Run) -> str:
    """Address of the run's page."""
    return f"{settings.mlflow_url}/#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}"


def find_run_url(settings: Settings, run_id: str) -> str:
    """Address of a run's page; of all runs where there is no such run."""
    connect(settings)
    try:
        return run_url(settings, mlflow.get_run(run_id))
    except MlflowException:
        return settings.mlflow_url


def latest_runs(limit: int = 5) -> list[tuple[str, str]]:
    """List the latest runs of all experiments as (run id, start in UTC)."""
    return [
        (
            run.info.run_id,
            f"{datetime.fromtimestamp(run.info.start_time / 1000, UTC):%Y-%m-%d %H:%M}",
        )
        for run in _search("", limit)
    ]


def metric_name(name: str) -> str:
    """Replace what MLflow refuses in a metric's name, and slashes, of which it refuses some."""
    return re.sub(r"[^\w\-. ]", "_", name)


def find_run(settings: Settings, run_id: str) -> Run:
    """Look a run up.

    Raises
    ------
    ConfigError
        There is none; the message lists the latest ones.
    """
    connect(settings)
    try:
        return mlflow.get_run(run_id)
    except MlflowException as error:
        known = ", ".join(f"{run} ({start} UTC)" for run, start in latest_runs())
        none_yet = f"none yet, `{command('train')}` makes one"
        raise ConfigError(
            f"There is no run {run_id!r} at {settings.mlflow_url}; the latest are: "
            f"{known or none_yet}."
        ) from error


def _search(query: str, limit: int) -> list[Any]:
    client = mlflow.MlflowClient()
    ids = [e.experiment_id for e in mlflow.search_experiments(view_type=ViewType.ACTIVE_ONLY)]
    return list(
        client.search_runs(ids, query, max_results=limit, order_by=["attributes.start_time DESC"])
    )
