"""Models as the server gets them: found, looked at, and copied."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from terraflow.console import command
from terraflow.errors import ConfigError, StorageError, first_line
from terraflow.files import make_dir
from terraflow.serving.trust import check_trusted
from terraflow.settings import Settings

__all__ = ["FoundModel", "fetch", "find_model"]

#: Of this stack's MLflow.
OURS = ("models:", "runs:")


@dataclass(frozen=True)
class FoundModel:
    """What a model says of itself.

    Attributes
    ----------
    uri : str
        That names this very model for good: an alias may move.
    shown : str
        As the user named it.
    name, version : str
        In the registry, or "".
    example : dict
        A request of one row that its signature accepts.
    note : str
        What a reader must be told first, or "".
    """

    uri: str
    shown: str
    name: str
    version: str
    example: dict[str, Any]
    note: str


def find_model(settings: Settings, run_id: str, model_uri: str) -> FoundModel:
    """Read what a model says of itself; nothing of it is loaded.

    Raises
    ------
    ConfigError
        There is no such model, or it has no signature.
    ServiceError
        MLflow does not answer.
    """
    import mlflow  # noqa: PLC0415 - slow
    from mlflow.exceptions import MlflowException  # noqa: PLC0415

    from terraflow.serving.app.page import sample_request  # noqa: PLC0415
    from terraflow.tracking import runs as tracking  # noqa: PLC0415

    asked, name, version = model_uri, "", ""
    if run_id:
        tracking.find_run(settings, run_id)
        asked = model_uri = f"runs:/{run_id}/model"
    elif model_uri.startswith(OURS):
        tracking.connect(settings)
    try:
        name, version = _registered(model_uri)
        if version:
            model_uri = f"models:/{name}/{version}"
        model = mlflow.models.Model.load(model_uri)
    except (MlflowException, OSError, ValueError) as error:
        hint = f"; run {run_id} logged no model named model" if run_id else ""
        raise ConfigError(
            f"Model {asked} can't be read: {first_line(error)}{hint}; name a model that the "
            f"registry page of {settings.mlflow_url} lists."
        ) from error
    schema = model.get_input_schema()
    if not schema or not schema.has_input_names():
        raise ConfigError(
            f"Model {model_uri} has no signature with column names; log it with one "
            "(mlflow.models.infer_signature) and serve that."
        )
    note = str((model.metadata or {}).get("note", ""))
    example = sample_request(model_uri, model)
    return FoundModel(model_uri, asked, name, version, example, note)


def fetch(settings: Settings, model: FoundModel, *, trust: bool) -> Path:
    """Copy a model beside the state, where the server finds it whatever becomes of its origin.

    Copies of servers before, which no longer run, are removed.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    ConfigError
        It runs code when it is loaded, and `trust` is not given.
    StorageError
        It can't be copied.
    """
    import mlflow  # noqa: PLC0415 - slow
    from mlflow.exceptions import MlflowException  # noqa: PLC0415

    copies = settings.var / "served"
    shutil.rmtree(copies, ignore_errors=True)
    make_dir(copies)
    try:
        found = mlflow.artifacts.download_artifacts(model.uri, dst_path=str(copies))
    except (MlflowException, OSError) as error:
        raise StorageError(
            f"Model {model.shown} can't be copied to {copies}: {first_line(error)}; see "
            f"`{command('status')}`."
        ) from error
    if not trust:
        check_trusted(Path(found), model.shown, ours=model.uri.startswith(OURS))
    return Path(found)


def _registered(uri: str) -> tuple[str, str]:
    """Name and version of a model of the registry; "" where the URI names none."""
    from mlflow import MlflowClient  # noqa: PLC0415 - slow

    rest = uri.removeprefix("models:/")
    if rest == uri or not ("@" in rest or "/" in rest):  # models:/m-0123 names a logged model
        return "", ""
    name, at, alias = rest.partition("@")
    if at:
        return name, str(MlflowClient().get_model_version_by_alias(name, alias).version)
    name, _, version = rest.rpartition("/")
    return name, version
