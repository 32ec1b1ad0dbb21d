"""Models in MLflow: stored with all that a map needs, and read back."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import mlflow
import numpy as np
import numpy.typing as npt
import pandas as pd
import skops.io
import xarray as xr
from mlflow.exceptions import MlflowException
from mlflow.models.model import ModelInfo as LoggedModel
from pydantic import model_validator
from requests.exceptions import RequestException

from terraflow.eo.built_in import DEFAULT
from terraflow.eo.config.project_file import ProjectConfig, read_recorded
from terraflow.eo.config.record import Record
from terraflow.eo.features.recipe import FeatureRecipe
from terraflow.eo.hooks import HookRecord, Hooks, code_folders, find_hooks
from terraflow.eo.models.choice import ModelChoice
from terraflow.eo.models.network import Network
from terraflow.eo.targets.target import Target
from terraflow.errors import ConfigError, DataError, first_line
from terraflow.settings import Settings
from terraflow.tracking import runs

__all__ = ["LoadedModel", "ModelInfo", "apply_model", "check_features", "load_model", "log_model"]

#: Pixels that a model is asked for at once: bounds the memory of its tables. Fewer keep a
#: network's values in the processor's cache; a forest would have to fetch its trees more often.
CHUNK_PX, NETWORK_CHUNK_PX = 65536, 16384


class ModelInfo(Record):
    """What a model says of itself, stored as its metadata in MLflow.

    Attributes
    ----------
    levels : list of str
        What the columns of a prediction stand for; nothing where it is a number.
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
    """

    levels: list[str]
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
    """

    estimator: Any
    info: ModelInfo
    config: ProjectConfig
    hooks: Hooks
    uri: str
    run_id: str
    version: str

    @property
    def target(self) -> Target:
        """What was learnt."""
        return self.hooks.target

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
    package: str = "",
) -> LoggedModel:
    """Log a fitted estimator to the active run as the model "model".

    Its signature takes doubles, which MLflow also makes of float32 columns. The folder of the
    package that holds the project's own hooks is kept with the model (MLflow's `code_paths`), and
    so is there wherever the model is loaded.

    Parameters
    ----------
    features : DataFrame
        Of which the first three rows become the input example.
    package : str
        The project's package.
    """
    example = features.head(3).astype("float64")
    trusted = choice.kind.trusted
    if trusted is None:  # a model of the project: this process has just made it
        trusted = tuple(skops.io.get_untrusted_types(data=skops.io.dumps(estimator)))
    logged: LoggedModel = mlflow.sklearn.log_model(
        estimator,
        name="model",
        signature=mlflow.models.infer_signature(example, estimator.predict(example)),
        input_example=example,
        pip_requirements=choice.requirements(package),
        code_paths=code_folders(info.hooks, package) or None,
        skops_trusted_types=list(trusted),
        metadata=info.to_metadata(),
    )
    return logged


def load_model(uri: str, settings: Settings, hooks: Hooks) -> LoadedModel:
    """Read a model that `train` logged.

    Parameters
    ----------
    uri : str
        models:/name@alias, models:/name/version, runs:/id/model, or where the model lies.
    hooks : Hooks
        Of the project that asks; what the model needs beside them is imported.

    Raises
    ------
    ServiceError
        MLflow does not answer.
    ConfigError
        There is no such model.
    DataError
        It is no model of TerraFlow, or a hook is missing or changed.
    """
    runs.connect(settings)
    try:
        logged = mlflow.models.get_model_info(uri)
        number = _registered_version(uri)
        estimator = mlflow.sklearn.load_model(logged.model_uri)
    except (MlflowException, RequestException, OSError, ValueError, ImportError) as error:
        raise ConfigError(
            f"Model {uri} can't be read: {first_line(error)}; name a model that the "
            f"registry page of {settings.mlflow_url} lists."
        ) from error
    try:
        info = ModelInfo.model_validate(logged.metadata or {})
        config = read_recorded(info.config)
    except ValueError as error:
        raise DataError(
            f"Model {uri} does not tell what it was trained with ({_problem(error)}); name one "
            "that TerraFlow trained."
        ) from error
    found = find_hooks(info.hooks, hooks, uri)
    return LoadedModel(estimator, info, config, found, uri, logged.run_id or "", number)


def apply_model(model: LoadedModel, features: xr.DataArray) -> npt.NDArray[Any]:
    """Predict the pixels whose features are all there, as a map has them.

    Parameters
    ----------
    features : DataArray, shape (feature, y, x), float32, NaN nodata
        In the order of the model's features.

    Returns
    -------
    ndarray, shape (band, y, x)
        Bands and nodata as `Target.bands` describes them; of the target's dtype.
    """
    flat = features.values.reshape(features.shape[0], -1)
    valid = np.flatnonzero(np.isfinite(flat).all(axis=0))
    bands = model.target.bands(model.info.levels, model.config.map)
    result = np.empty((len(bands), flat.shape[1]), dtype=model.target.dtype)
    for row, band in zip(result, bands, strict=True):
        row[:] = band.nodata
    predict, chunk_px = _predictor(model)
    for first in range(0, len(valid), chunk_px):
        pixels = valid[first : first + chunk_px]
        result[:, pixels] = predict(flat[:, pixels])
    return result.reshape(len(bands), *features.shape[1:])


def check_features(names: Sequence[str], model: LoadedModel) -> None:
    """Check that items give the features of a model, in its order.

    Raises
    ------
    DataError
        They do not; the message names what is missing and what is too much.
    """
    missing = [name for name in model.info.features if name not in names]
    extra = [name for name in names if name not in model.info.features]
    if not missing and not extra and list(names) == model.info.features:
        return
    differences = [
        f"{what} {', '.join(some[:5])}{' ...' if len(some) > 5 else ''} ({len(some)})"
        for what, some in (("missing are", missing), ("too many are", extra))
        if some
    ]
    raise DataError(
        f"The items do not give the {len(model.info.features)} features that model {model.uri} was "
        f"trained with: {'; '.join(differences) or 'their order differs'}; take a model trained "
        "with these bands and [features], or train one."
    )


def _predictor(
    model: LoadedModel,
) -> tuple[Callable[[npt.NDArray[np.float32]], npt.NDArray[Any]], int]:
    """Give what predicts (feature, pixel) as (band, pixel), and its chunk."""
    target, levels = model.target, model.info.levels
    if _takes_decisions(target) and (network := Network.of(model.estimator)):
        encode = DEFAULT().encode_decided
        return lambda pixels: encode(*network.decide(pixels)), NETWORK_CHUNK_PX

    def predict(pixels: npt.NDArray[np.float32]) -> npt.NDArray[Any]:
        table = pd.DataFrame(np.ascontiguousarray(pixels.T), columns=model.info.features)
        return target.encode(target.predict(model.estimator, table, levels))

    return predict, CHUNK_PX


def _takes_decisions(target: Target) -> bool:
    """Tell whether a map holds no more than a decision and its probability, as the default's."""
    mine, names = type(target), ("predict", "encode", "encode_decided")
    return all(getattr(mine, name, None) is getattr(DEFAULT, name) for name in names)


def _registered_version(uri: str) -> str:
    rest = uri.removeprefix("models:/")
    name, at, alias = rest.partition("@")
    if at:
        return str(mlflow.MlflowClient().get_model_version_by_alias(name, alias).version)
    return rest.rpartition("/")[2] if rest != uri and "/" in rest else ""


def _problem(error: ValueError) -> str:
    details: Mapping[str, Any] = getattr(error, "errors", lambda: [{}])()[0]
    where = ".".join(map(str, details.get("loc", ())))
    what = details.get("msg", first_line(error))
    return f"{where}: {what}" if where else str(what)
