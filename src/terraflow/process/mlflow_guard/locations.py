"""Where artifacts may lie: in the store of MLflow's server, and nowhere else on this machine.

MLflow takes any location for an experiment, a version of a model or a trace, and would then read
and write there for whoever asks: also var/ with its secrets, or a folder behind a link.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import mlflow.server.handlers as mlflow_handlers
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import ArtifactRepositoryRegistry
from mlflow.utils.file_utils import local_file_uri_to_path

__all__ = ["is_inside", "restrict"]

#: Schemes by which MLflow names what it has itself: artifacts in its store, and what leads there.
OWN = ("mlflow-artifacts", "runs", "models")
LOCAL = ("", "file")


def restrict(destination: str) -> None:
    """Let this process's MLflow take and open no location outside of its store.

    Parameters
    ----------
    destination : str
        URI or folder of the store.
    """

    def check(location: str) -> None:
        if not is_inside(location, destination):
            raise MlflowException.invalid_parameter_value(
                f"Location {location[:200]!r} is not in the store of this server; leave it out, "
                "or name one that begins with mlflow-artifacts:/."
            )

    open_repository = ArtifactRepositoryRegistry.get_artifact_repository
    check_scheme = mlflow_handlers._validate_artifact_uri_scheme

    def open_inside(
        self: ArtifactRepositoryRegistry, artifact_uri: str, *args: Any, **kwargs: Any
    ) -> Any:
        check(artifact_uri)
        return open_repository(self, artifact_uri, *args, **kwargs)

    def check_both(uri: str, field_name: str) -> None:
        check(uri)
        check_scheme(uri, field_name)

    # the one place that opens a location, whatever it was stored with
    ArtifactRepositoryRegistry.get_artifact_repository = open_inside  # type: ignore[method-assign]
    # and the one that looks at those of a request, of experiments and versions of models alike
    mlflow_handlers._validate_artifact_uri_scheme = check_both


def is_inside(location: str, destination: str) -> bool:
    """Tell whether a location is in the store, or leads there.

    Parameters
    ----------
    location, destination : str
        URI or path. Paths are compared where their links lead.
    """
    plain = _unquote(location)
    parts = urlsplit(plain)
    if "\0" in plain or "\\" in plain or ".." in re.split(r"[/:?#]", plain):
        return False
    if parts.scheme in OWN:
        return not parts.netloc and urlsplit(location).scheme == parts.scheme
    store = urlsplit(destination)
    if parts.scheme in LOCAL and store.scheme in LOCAL:
        return not parts.netloc and _path(location).is_relative_to(_path(destination))
    there = f"{store.path.rstrip('/')}/"
    same_place = (parts.scheme, parts.netloc) == (store.scheme, store.netloc)
    return same_place and f"{parts.path.rstrip('/')}/".startswith(there)


def _path(location: str) -> Path:
    """Where MLflow would look, with links followed."""
    return Path(local_file_uri_to_path(location)).resolve()


def _unquote(text: str) -> str:
    while (plain := unquote(text)) != text:
        text = plain
    return text
