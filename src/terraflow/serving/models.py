"""Models as the server gets them: found, looked at, and copied."""

from __future__ import annotations

import hashlib
import secrets
import shutil
import sys
import tempfile
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from terraflow import config
from terraflow.console import command, say
from terraflow.credentials import store_environment
from terraflow.errors import ConfigError, StorageError, first_line
from terraflow.files import make_dir
from terraflow.serving.environments import differences, make_environment
from terraflow.settings import Settings
from terraflow.stack.model_server import ServedModel, Way
from terraflow.tracking.trust import check_address, check_trusted, is_ours

__all__ = [
    "FoundModel",
    "check_one",
    "export_model",
    "fetch",
    "find_model",
    "is_alias",
    "model_digest",
    "remove_copies",
]


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


def check_one(run_id: str, model_uri: str) -> None:
    """See that exactly one model is named.

    Raises
    ------
    ConfigError
        Neither or both.
    """
    if bool(run_id) == bool(model_uri):
        raise ConfigError(
            "No model or more than one is named; name one by --run-id ID, or by --model "
            "models:/NAME@ALIAS."
        )


def model_digest(folder: Path) -> str:
    """Name a model's folder by what it holds."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(path.relative_to(folder).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def is_alias(uri: str) -> bool:
    """Tell whether a URI names a model of the registry by an alias, as models:/NAME@ALIAS."""
    name, at, alias = uri.removeprefix("models:/").partition("@")
    return uri.startswith("models:/") and bool(name and at and alias)


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

    from terraflow.serving.app.model.example import sample_request  # noqa: PLC0415
    from terraflow.tracking import runs as tracking  # noqa: PLC0415

    check_address(model_uri, settings.mlflow_url)
    asked, name, version = model_uri, "", ""
    if run_id:
        tracking.find_run(settings, run_id)
        asked = model_uri = f"runs:/{run_id}/model"
    elif is_ours(model_uri):
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


def fetch(settings: Settings, model: FoundModel, way: Way) -> ServedModel:
    """Copy a model into var/served, and see that there is an environment for it.

    The server finds the copy whatever becomes of its origin.

    Returns
    -------
    ServedModel
        Its folder has its name once it is complete.

    Raises
    ------
    ConfigError
        It, or what it names for its environment, runs code, and `way` does not trust it; or it
        needs a Python that is not here.
    ServiceError
        Its packages can't be had.
    StorageError
        It can't be copied.
    """
    copies = make_dir(_copies(settings))
    copy = copies / secrets.token_hex(4)
    with tempfile.TemporaryDirectory(dir=copies, prefix=".") as folder:
        found = _download(model, folder)
        if not way.trust:
            check_trusted(Path(found), model.shown, ours=is_ours(model.uri))
            _check_environment(Path(found), model, way)
        Path(found).rename(copy)
    python, environment = _environment(settings, copy, way)
    return ServedModel(
        model.shown, model.uri, model.name, model.version, str(copy), python, environment, way
    )


def _check_environment(folder: Path, model: FoundModel, way: Way) -> None:
    """Refuse to make an environment of what a stranger names: its packages run when it starts."""
    if is_ours(model.uri) or not (way.isolated or (way.isolated is None and differences(folder))):
        return
    raise ConfigError(
        f"Model {model.shown} is not of this stack's registry, and would be served in an "
        "environment of the packages that it names, whose code runs; look at them, and say --trust "
        "if you trust who made it, or serve it in the stack's environment by --here."
    )


def _environment(settings: Settings, folder: Path, way: Way) -> tuple[str, str]:
    """Choose the environment of a model: its interpreter, and its id."""
    found = differences(folder) if way.isolated is None else []
    if found:
        more = f" and {len(found) - 3} more" if len(found) > 3 else ""
        say(f"The model has another environment than the stack: {', '.join(found[:3])}{more}")
    if not (way.isolated or found):
        return sys.executable, ""
    python = make_environment(settings, folder, maps=way.maps)
    return str(python), python.parent.parent.name


def export_model(settings: Settings, run_id: str, model_uri: str, output: Path) -> Path:
    """Write a model into a folder from which it is served without a registry.

    Raises
    ------
    ConfigError
        There is no such model, or the folder is not empty.
    ServiceError, StorageError
        MLflow does not answer, or the folder can't be written.
    """
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise ConfigError(f"{output} is there already; name a new folder.")
    config.export(store_environment(settings))
    found = find_model(settings, run_id, model_uri)
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}-") as folder:
        Path(_download(found, folder)).replace(output)
    return output


def _download(model: FoundModel, folder: str) -> str:
    import mlflow  # noqa: PLC0415 - slow
    from mlflow.exceptions import MlflowException  # noqa: PLC0415

    try:
        found = mlflow.artifacts.download_artifacts(model.uri, dst_path=folder)
    except (MlflowException, OSError) as error:
        raise StorageError(
            f"Model {model.shown} can't be copied to {Path(folder).parent}: {first_line(error)}; "
            f"see `{command('status')}`."
        ) from error
    return str(found)


def remove_copies(settings: Settings, keep: Collection[str] = ()) -> None:
    """Remove the copies that no server uses.

    Parameters
    ----------
    keep : collection of str
        Folders of those that are used.
    """
    for path in _copies(settings).glob("*"):
        if str(path) not in keep:
            shutil.rmtree(path, ignore_errors=True)


def _copies(settings: Settings) -> Path:
    return settings.var / "served"


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
