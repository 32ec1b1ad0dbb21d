"""Classifiers in MLflow: stored with all that a map needs, and read back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import mlflow
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models.model import ModelInfo
from requests.exceptions import RequestException

from terraflow.eo.config.project_file import ProjectConfig
from terraflow.eo.models.estimators import find_kind
from terraflow.errors import ConfigError, DataError
from terraflow.settings import Settings
from terraflow.tracking import runs as tracking

__all__ = ["LoadedModel", "load_model", "log_classifier"]


@dataclass(frozen=True)
class LoadedModel:
    """A model with what a map needs to know of it.

    Attributes
    ----------
    classifier : estimator
        `predict_proba` takes a DataFrame of shape (pixel, feature), float32 or float64, and gives
        shape (pixel, class).
    classes, features, periods : list of str
        In the classifier's order; periods of the composites.
    project : ProjectConfig
        It was trained with.
    metadata : dict
        All that `log_classifier` was given.
    version : str
        In the registry, or "" where the URI names no registered version.
    """

    classifier: Any
    classes: list[str]
    features: list[str]
    periods: list[str]
    project: ProjectConfig
    metadata: dict[str, Any]
    uri: str
    run_id: str
    version: str


def log_classifier(
    classifier: Any, features: pd.DataFrame, project: ProjectConfig, metadata: Mapping[str, Any]
) -> ModelInfo:
    """Log a fitted classifier to the active run as the model "model".

    Its signature takes doubles, which MLflow also makes of float32 columns, and gives class names.

    Parameters
    ----------
    features : DataFrame
        Of which the first three rows become the input example.
    metadata : dict
        JSON-plain; `load_model` reads classes, features, periods and project from it.
    """
    example = features.head(3).astype("float64")
    told = dict(metadata)
    if "project" in told:  # as text: MLflow sorts keys, and the order of bands is that of features
        told["project"] = json.dumps(told["project"])
    packages = ("lightgbm", "mlflow", "numpy", "pandas", "scikit-learn", "skops")
    info: ModelInfo = mlflow.sklearn.log_model(
        classifier,
        name="model",
        signature=mlflow.models.infer_signature(example, classifier.predict(example)),
        input_example=example,
        pip_requirements=[f"{name}=={version(name)}" for name in packages],
        skops_trusted_types=list(find_kind(project).trusted),
        metadata=told,
    )
    return info


def load_model(uri: str, settings: Settings) -> LoadedModel:
    """Read a model that `train` logged.

    Parameters
    ----------
    uri : str
        models:/name@alias, models:/name/version, runs:/id/model, or where the model lies.

    Raises
    ------
    ServiceError
        MLflow does not answer.
    ConfigError
        There is no such model.
    DataError
        It is no model of a land cover project.
    """
    tracking.connect(settings)
    try:
        info = mlflow.models.get_model_info(uri)
        number = _registered_version(uri)
        classifier = mlflow.sklearn.load_model(info.model_uri)
    except (MlflowException, RequestException, OSError, ValueError) as error:
        raise ConfigError(
            f"Model {uri} can't be read: {str(error).splitlines()[0]}; name a model that the "
            f"registry page of {settings.mlflow_url} lists."
        ) from error
    metadata = dict(info.metadata or {})
    try:
        metadata["project"] = json.loads(metadata["project"])
        return LoadedModel(
            classifier=classifier,
            classes=list(metadata["classes"]),
            features=list(metadata["features"]),
            periods=list(metadata["periods"]),
            project=ProjectConfig.model_validate(metadata["project"]),
            metadata=metadata,
            uri=uri,
            run_id=info.run_id or "",
            version=number,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"Model {uri} does not tell what it was trained with ({str(error).splitlines()[0]}); "
            "name one that `invoke train` of this version made."
        ) from error


def _registered_version(uri: str) -> str:
    rest = uri.removeprefix("models:/")
    name, at, alias = rest.partition("@")
    if at:
        return str(mlflow.MlflowClient().get_model_version_by_alias(name, alias).version)
    return rest.rpartition("/")[2] if rest != uri and "/" in rest else ""
