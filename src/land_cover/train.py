"""From samples to a registered model with its scores."""

from __future__ import annotations

import hashlib
import io
import re
import warnings
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any

import geopandas as gpd
import joblib
import mlflow
import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import accuracy_score, confusion_matrix, precision_recall_fscore_support
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict

from terraflow import tracking
from terraflow.errors import DataError
from terraflow.storage import Storage

from .config import ProjectConfig
from .figures import confusion_figure, map_figure
from .ingest import Selection
from .preprocess import read_features

__all__ = ["Scores", "TrainingResult", "cross_validate", "predict_map", "train"]

ALIAS = "challenger"
NOT_FEATURES = ["x", "y", "block", "class_name", "geometry"]
SIMULATED_NOTE = "simulated data, not measured"


@dataclass(frozen=True)
class Scores:
    """Scores of a spatial cross-validation.

    Attributes
    ----------
    overall_accuracy, macro_f1 : float
        0 to 1.
    per_class : dict
        Class to users_accuracy, producers_accuracy (precision, recall), f1 and support in pixels.
    matrix : ndarray, shape (reference, predicted), int64
        Pixels, in the order of `classes`.
    """

    overall_accuracy: float
    macro_f1: float
    per_class: dict[str, dict[str, float]]
    matrix: npt.NDArray[np.int64]
    classes: list[str]


@dataclass(frozen=True)
class TrainingResult:
    """What a user is told; small enough to pass through Airflow."""

    run_id: str
    url: str
    model: str
    overall_accuracy: float
    macro_f1: float
    f1_per_class: dict[str, float]
    simulated: bool

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values."""
        return asdict(self)


def train(project: ProjectConfig, prepared: Selection, storage: Storage) -> TrainingResult:
    """Cross-validate, fit on all samples, log one MLflow run and register the model.

    Parameters
    ----------
    prepared : dict
        What `preprocess` returned.

    Raises
    ------
    StorageError, ServiceError
        The store or MLflow does not answer.
    """
    data = storage.read(prepared["samples"])
    samples = pd.DataFrame(gpd.read_parquet(io.BytesIO(data)).drop(columns="geometry"))
    features = samples.drop(columns=NOT_FEATURES, errors="ignore").astype("float64")
    scores = cross_validate(features, samples["class_name"], samples["block"], project)
    model = _model(project).set_params(n_jobs=-1).fit(features, samples["class_name"])
    model.set_params(n_jobs=1)
    note = SIMULATED_NOTE if project.simulated else ""
    tags = {"simulated": str(project.simulated).lower(), "seed": str(project.seed)}
    name = f"{project.name}-simulated" if project.simulated else project.name
    with tracking.start_run(storage.settings, project.name, name=name, tags=tags) as run:
        if note:
            mlflow.set_tag("mlflow.note.content", f"Trained on {note}.")
        mlflow.set_tag("data_digest", hashlib.sha256(data).hexdigest()[:16])
        _log_dataset(features.assign(class_name=samples["class_name"]), prepared, project)
        mlflow.log_params(_parameters(project, samples, features))
        _log_scores(scores)
        numbers = predict_map(model, read_features(prepared["features"], storage), scores.classes)
        mlflow.log_figure(confusion_figure(scores.matrix, scores.classes, note), "confusion.png")
        mlflow.log_figure(map_figure(numbers, scores.classes, note), "map_quicklook.png")
        mlflow.log_dict(project.model_dump(mode="json"), "config.json")
        info = _log_model(model, features, note)
        registered = tracking.register(info.model_uri, project.name, ALIAS, note=note)
    return TrainingResult(
        run_id=run.info.run_id,
        url=tracking.run_url(storage.settings, run),
        model=f"models:/{project.name}/{registered}",
        overall_accuracy=scores.overall_accuracy,
        macro_f1=scores.macro_f1,
        f1_per_class={name: row["f1"] for name, row in scores.per_class.items()},
        simulated=project.simulated,
    )


def cross_validate(
    features: pd.DataFrame, classes: pd.Series, blocks: pd.Series, project: ProjectConfig
) -> Scores:
    """Score on blocks that the model has not seen.

    Parameters
    ----------
    features : DataFrame, shape (sample, feature), float64
    classes, blocks : Series
        Class name and block number of each sample; no block is in two folds.

    References
    ----------
    Roberts et al. 2017, doi:10.1111/ecog.02881, on blocking; Congalton 1991,
    doi:10.1016/0034-4257(91)90048-B, on user's and producer's accuracy.
    """
    cut = StratifiedGroupKFold(project.validation.folds, shuffle=True, random_state=project.seed)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The least populated class")
        folds = _folds(cut, features, classes, blocks)
    with joblib.parallel_config("threading"):  # a tree lets go of Python's lock
        predicted = cross_val_predict(_model(project), features, classes, cv=folds, n_jobs=-1)
    names = sorted(classes.unique())
    columns = precision_recall_fscore_support(classes, predicted, labels=names, zero_division=0)
    keys = ("users_accuracy", "producers_accuracy", "f1", "support")
    per_class = {
        name: {key: float(column[i]) for key, column in zip(keys, columns, strict=True)}
        for i, name in enumerate(names)
    }
    return Scores(
        overall_accuracy=float(accuracy_score(classes, predicted)),
        macro_f1=float(np.mean([row["f1"] for row in per_class.values()])),
        per_class=per_class,
        matrix=confusion_matrix(classes, predicted, labels=names),
        classes=names,
    )


def _folds(
    cut: StratifiedGroupKFold, features: pd.DataFrame, classes: pd.Series, blocks: pd.Series
) -> list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    try:
        folds = list(cut.split(features, classes, blocks))
    except ValueError as error:
        smallest = classes.value_counts()
        raise DataError(
            f"The samples can't be cut into {cut.n_splits} folds: {error} Classes have "
            f"{smallest.to_dict()} samples; lower [validation] folds."
        ) from error
    if empty := sum(len(test) == 0 for _, test in folds):
        raise DataError(
            f"{empty} of {cut.n_splits} folds hold no sample, with {blocks.nunique()} blocks; "
            "lower [validation] folds or block_size_px."
        )
    return folds


def predict_map(
    model: RandomForestClassifier, features: xr.DataArray, classes: list[str]
) -> npt.NDArray[np.uint8]:
    """Classify every pixel whose features are all there.

    Parameters
    ----------
    features : DataArray, shape (feature, y, x), float32, NaN nodata

    Returns
    -------
    ndarray, shape (y, x), uint8
        1 to n for `classes`, 0 is nodata.
    """
    flat = features.values.reshape(features.shape[0], -1).T
    valid = np.isfinite(flat).all(axis=1)
    numbers = np.zeros(len(flat), dtype="uint8")
    if valid.any():
        table = pd.DataFrame(flat[valid].astype("float64"), columns=list(features.feature.values))
        numbers[valid] = np.searchsorted(classes, model.predict(table)) + 1
    return numbers.reshape(features.shape[1:])


def _model(project: ProjectConfig) -> RandomForestClassifier:
    # one thread: several would add the trees' votes in changing order, and round differently
    return RandomForestClassifier(
        n_estimators=project.model.trees,
        min_samples_leaf=project.model.min_samples_leaf,
        random_state=project.seed,
    )


def _log_dataset(samples: pd.DataFrame, prepared: Selection, project: ProjectConfig) -> None:
    from mlflow.data.code_dataset_source import CodeDatasetSource  # noqa: PLC0415
    from mlflow.data.pandas_dataset import from_pandas  # noqa: PLC0415

    source = CodeDatasetSource(tags={"uri": prepared["samples"], "items": prepared["items"]})
    name = f"{project.name} samples" + (" (simulated)" if project.simulated else "")
    dataset = from_pandas(samples, source=source, targets="class_name", name=name)
    mlflow.log_input(dataset, context="training")


def _parameters(
    project: ProjectConfig, samples: pd.DataFrame, features: pd.DataFrame
) -> dict[str, Any]:
    return {
        "model": "random_forest",
        **project.model.model_dump(),
        **project.validation.model_dump(),
        "composites": project.features.composites,
        "seed": project.seed,
        "features": features.shape[1],
        "samples": len(samples),
        "start": project.data.start,
        "end": project.data.end,
    }


def _log_scores(scores: Scores) -> None:
    metrics = {"overall_accuracy": scores.overall_accuracy, "macro_f1": scores.macro_f1}
    for name, row in scores.per_class.items():
        safe = re.sub(r"[^\w\-. /]", "_", name)  # what MLflow takes in a metric's name
        metrics |= {f"{key}_{safe}": value for key, value in row.items()}
    mlflow.log_metrics(metrics)


def _log_model(model: RandomForestClassifier, features: pd.DataFrame, note: str) -> Any:
    example = features.head(3)
    packages = ("mlflow", "numpy", "pandas", "scikit-learn", "skops")
    signature = mlflow.models.infer_signature(example, model.predict(example))
    return mlflow.sklearn.log_model(
        model,
        name="model",
        signature=signature,
        input_example=example,
        pip_requirements=[f"{name}=={version(name)}" for name in packages],
        skops_trusted_types=["sklearn.tree._tree.Tree"],
        metadata={"classes": list(model.classes_), "note": f"Trained on {note}." if note else ""},
    )
