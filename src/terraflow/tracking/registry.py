"""MLflow's model registry: versions, the aliases that point at them, and their tags."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import mlflow
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from requests.exceptions import RequestException

from terraflow.console import command, say
from terraflow.errors import StorageError, first_line
from terraflow.lock import Lock
from terraflow.settings import Settings
from terraflow.tracking import runs as tracking

__all__ = [
    "connected",
    "exclusive",
    "find_by_alias",
    "find_by_run",
    "registered_version",
    "set_alias",
    "write_tags",
]

#: How long another process may take to compare a model and to move an alias.
COMPARE_S = 1800.0
_NOT_FOUND = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")


@contextmanager
def connected(settings: Settings) -> Iterator[None]:
    """Connect to the registry, and make a sentence of what fails in it.

    Raises
    ------
    ServiceError, StorageError
        MLflow does not answer, or fails on the way.
    """
    tracking.connect(settings)
    try:
        yield
    except (MlflowException, RequestException) as error:
        raise StorageError(
            f"The model registry at {settings.mlflow_url} failed: {first_line(error)}; "
            f"look at `{command('logs', 'mlflow')}` and run it again."
        ) from error


@contextmanager
def exclusive(settings: Settings) -> Iterator[None]:
    """Connect, and let one process of this machine at a time read an alias and move it.

    MLflow moves an alias without asking where it points: of two runs that end together, each
    would be compared with the same old version, and the later one would win.

    Raises
    ------
    ServiceError, StorageError
        MLflow does not answer, or fails on the way, or another process does not come to an end.
    """
    with connected(settings):
        lock = Lock(settings.run_dir / "registry.lock")
        lock.wait("the comparison with the champion", COMPARE_S, say)
        try:
            yield
        finally:
            lock.release()


def find_by_alias(name: str, alias: str) -> ModelVersion | None:
    """Find the version of a registered model that an alias points at.

    Raises
    ------
    MlflowException
        MLflow failed, other than by not knowing the name; `exclusive` makes a sentence of it.
    """
    try:
        return mlflow.MlflowClient().get_model_version_by_alias(name, alias)
    except MlflowException as error:
        if error.error_code not in _NOT_FOUND:
            raise
        return None


def find_by_run(run_id: str) -> ModelVersion | None:
    """Find the latest version that a run registered, under any name."""
    found = mlflow.MlflowClient().search_model_versions(f"run_id = '{run_id}'")
    return max(found, key=lambda version: version.creation_timestamp, default=None)


def registered_version(uri: str) -> str:
    """Version that an address of the registry names, by number or alias; "" where it names none.

    Raises
    ------
    MlflowException
        There is no such alias.
    """
    rest = uri.removeprefix("models:/")
    name, at, alias = rest.partition("@")
    if at:
        return str(mlflow.MlflowClient().get_model_version_by_alias(name, alias).version)
    return rest.rpartition("/")[2] if rest != uri and "/" in rest else ""


def set_alias(version: ModelVersion, alias: str) -> None:
    """Point an alias at a version; the version that had it keeps everything else."""
    mlflow.MlflowClient().set_registered_model_alias(version.name, alias, version.version)


def write_tags(version: ModelVersion, tags: Mapping[str, str]) -> None:
    """Write tags of a version, over those of the same keys."""
    client = mlflow.MlflowClient()
    for key, value in tags.items():
        client.set_model_version_tag(version.name, version.version, key, value)
