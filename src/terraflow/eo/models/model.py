"""Models in MLflow: stored with all that a map needs, and read back."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import packages_distributions, version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import mlflow
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models.model import ModelInfo as LoggedModel
from pydantic import model_validator
from requests.exceptions import RequestException

from terraflow.eo.config.project_file import ProjectConfig, read_recorded
from terraflow.eo.config.record import Record
from terraflow.eo.features.recipe import FeatureRecipe
from terraflow.eo.hooks import HookRecord, Hooks, code_folders, find_hooks
from terraflow.eo.models.applicability import Applicability
from terraflow.eo.models.choice import ModelChoice
from terraflow.eo.targets.calibration import Calibration
from terraflow.eo.targets.target import Target
from terraflow.errors import ConfigError, DataError, first_line
from terraflow.settings import Settings
from terraflow.tracking import model_lock, runs
from terraflow.tracking.registry import registered_version
from terraflow.tracking.trust import check_address, check_trusted, is_ours

__all__ = ["LoadedModel", "ModelInfo", "load_model", "log_model", "open_model"]

#: File of a model beside MLflow's own.
APPLICABILITY = "applicability.npz"
#: Folders of models that bring code of their own, out of which it is imported.
_IN_USE: list[TemporaryDirectory[str]] = []


class ModelInfo(Record):
    """What a model says of itself, stored as its metadata in MLflow.

    Attributes
    ----------
    levels : list of str
        What the columns of a prediction stand for; nothing where it is a number.
    values : list of int
        Value in a map of each level; empty, as of models before version 0.2, is 1 to n.
    features, periods : list of str
        Features in the model's order; periods of their composites.
    config : dict
        Configuration of the training, with the parameters that a search found.
    scores : dict
        Measure to its value over spatial blocks.
    note : str
        What a reader must be told first, or "".
    code_commit, lock_digest, data_digest : str
        Of the training; "" where not known.
    hooks : HookRecord
        What of the project the model depends on.
    example_predictions : list
        What it predicted for its input example; a server looks whether it still does.
    calibration : Calibration
        How sure it may be.
    pixel_m : float or None
        Side in metres of the pixels that it was trained on.
    """

    levels: list[str]
    values: list[int] = []
    features: list[str]
    periods: list[str]
    config: dict[str, Any]
    seed: int
    scores: dict[str, float] = {}
    note: str = ""
    code_commit: str = ""
    lock_digest: str = ""
    data_digest: str = ""
    hooks: HookRecord = HookRecord()
    example_predictions: list[Any] = []
    calibration: Calibration = Calibration()
    pixel_m: float | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_older(cls, values: Any) -> Any:
        """Read version 0, which had other names and the configuration as text."""
        renamed = {"classes": "levels", "project": "config"}
        found = {renamed.get(key, key): value for key, value in dict(values).items()}
        if set(renamed) & set(values):
            found["record_version"] = 0
        if isinstance(found.get("config"), str):
            found["config"] = json.loads(found["config"])
        return found

    def to_metadata(self) -> dict[str, Any]:
        """Return what MLflow stores.

        The configuration is text: MLflow sorts keys, and the order of the bands is that of the
        features.
        """
        return self.to_dict() | {"config": json.dumps(self.config)}


@dataclass(frozen=True)
class LoadedModel:
    """A model with what a map needs to know of it.

    Attributes
    ----------
    estimator : estimator
        Of scikit-learn's API; takes a DataFrame of shape (pixel, feature), float32 or float64.
    info : ModelInfo
    config : ProjectConfig
        Of the training.
    hooks : Hooks
        The project's own features and target.
    uri, run_id : str
    version : str
        In the registry, or "" where the URI names no registered version.
    applicability : Applicability or None
        Where it may be applied; models before version 0.2 do not tell.
    """

    estimator: Any
    info: ModelInfo
    config: ProjectConfig
    hooks: Hooks
    uri: str
    run_id: str
    version: str
    applicability: Applicability | None = None

    @property
    def target(self) -> Target:
        """What was learnt, with the values that its maps have."""
        return self.hooks.target.with_values(self.info.values)

    @property
    def recipe(self) -> FeatureRecipe:
        """How its features are made."""
        return FeatureRecipe.of(self.config, self.hooks.features)


def log_model(
    estimator: Any,
    features: pd.DataFrame,
    choice: ModelChoice,
    info: ModelInfo,
    *,
    applicability: Applicability | None = None,
    package: str = "",
) -> LoggedModel:
    """Log a fitted estimator to the active run as the model "model".

    Its signature takes doubles, which MLflow also makes of float32 columns. The folder of the
    package that holds the project's own hooks is kept with the model (MLflow's `code_paths`), and
    is therefore there wherever the model is loaded. So are the model server, and the versions of
    all packages that it and the model need.

    Parameters
    ----------
    features : DataFrame
        Of which the first three rows become the input example.
    applicability : Applicability
        Kept with the model.
    package : str
        The project's package.
    """
    example = features.head(3).astype("float64")
    predictions = estimator.predict(example)
    info = info.model_copy(update={"example_predictions": predictions.tolist()})
    trusted = choice.kind.trusted
    if trusted is None:  # a model of the project: this process has just made it
        import skops.io  # noqa: PLC0415 - slow, beside Airflow above all

        trusted = tuple(skops.io.get_untrusted_types(data=skops.io.dumps(estimator)))
    requirements = _requirements(trusted, package)
    logged: LoggedModel = mlflow.sklearn.log_model(
        estimator,
        name="model",
        signature=mlflow.models.infer_signature(example, predictions),
        input_example=example,
        pip_requirements=requirements,
        code_paths=code_folders(info.hooks, package) or None,
        skops_trusted_types=list(trusted),
        metadata=info.to_metadata(),
    )
    if applicability:
        with TemporaryDirectory() as folder:
            (Path(folder) / APPLICABILITY).write_bytes(applicability.to_bytes())
            mlflow.MlflowClient().log_model_artifacts(logged.model_id, folder)
    model_lock.attach(logged.model_id, requirements)
    return logged


def _requirements(types: Iterable[str], package: str) -> list[str]:
    """Pin the packages that a stored model needs, but for the project's, which is kept with it."""
    needed = {"lightgbm", "mlflow", "numpy", "pandas", "scikit-learn", "skops"}
    modules = {name.partition(".")[0] for name in types} - {package, "sklearn", *needed}
    # which takes a second or more, as it looks into all that is installed
    for module, distributions in packages_distributions().items() if modules else ():
        if module in modules:
            needed |= set(distributions) - {"terraflow-eo"}
    return [f"{name}=={version(name)}" for name in sorted(needed)]


def load_model(uri: str, settings: Settings, hooks: Hooks, *, trust: bool = False) -> LoadedModel:
    """Read a model that `train` logged.

    Parameters
    ----------
    uri : str
        models:/name@alias, models:/name/version, runs:/id/model, or where the model lies.
    hooks : Hooks
        Of the project that asks; what the model needs beside them is imported.
    trust : bool
        Load it even if that runs code which nobody here has vouched for.

    Raises
    ------
    ServiceError
        MLflow does not answer.
    ConfigError
        There is no such model, or it is not trusted.
    DataError
        It is no model of TerraFlow, or a hook is missing or changed.
    """
    check_address(uri, settings.mlflow_url)
    runs.connect(settings)
    folder = TemporaryDirectory(prefix="terraflow-model-")  # MLflow would not delete its own
    try:
        number = registered_version(uri)
        path = mlflow.artifacts.download_artifacts(uri, dst_path=folder.name)
        if not trust:
            check_trusted(Path(path), uri, ours=is_ours(uri))
        estimator = mlflow.sklearn.load_model(path)
    except (MlflowException, RequestException, OSError, ValueError, ImportError) as error:
        runs.connect(settings)  # which tells it where MLflow is gone by now
        raise ConfigError(
            f"Model {uri} can't be read: {first_line(error)}; name a model that the "
            f"registry page of {settings.mlflow_url} lists."
        ) from error
    own_only = not (trust or is_ours(uri))
    model = open_model(path, uri, hooks, estimator=estimator, version=number, own_only=own_only)
    if model.info.hooks.names:
        _IN_USE.append(folder)
    return model


def open_model(
    path: str, uri: str, hooks: Hooks, *, estimator: Any, version: str = "", own_only: bool = False
) -> LoadedModel:
    """Read what a model that is here says of itself.

    Parameters
    ----------
    path : str
        Its folder.
    uri : str
        Its name.
    hooks : Hooks
        As for `load_model`.
    estimator : estimator
        Which was loaded from there.
    version : str
        In the registry.
    own_only : bool
        Take hooks of the project that asks alone, and import none that the model names.

    Raises
    ------
    DataError, ConfigError
        It is no model of TerraFlow, or a hook is missing, changed or not to be imported.
    """
    logged = mlflow.models.get_model_info(path)
    try:
        info = ModelInfo.model_validate(logged.metadata or {})
        config = read_recorded(info.config)
    except ValueError as error:
        raise DataError(
            f"Model {uri} does not tell what it was trained with ({_problem(error)}); name one "
            "that TerraFlow trained."
        ) from error
    found = find_hooks(info.hooks, hooks, uri, known_only=own_only)
    file = Path(path) / APPLICABILITY
    known = Applicability.from_bytes(file.read_bytes()) if file.exists() else None
    return LoadedModel(estimator, info, config, found, uri, logged.run_id or "", version, known)


def _problem(error: ValueError) -> str:
    details: Mapping[str, Any] = getattr(error, "errors", lambda: [{}])()[0]
    where = ".".join(map(str, details.get("loc", ())))
    what = details.get("msg", first_line(error))
    return f"{where}: {what}" if where else str(what)
