"""Cross-validation over spatial blocks, and scores with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import joblib
import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.model_selection import StratifiedKFold

from terraflow.eo.config.project_file import ProjectConfig
from terraflow.eo.models.estimators import fit, make_classifier, one_thread
from terraflow.eo.training.folds import Folds
from terraflow.eo.training.scores import Matrices, Score, count_by_block, measures, with_intervals
from terraflow.errors import DataError

__all__ = ["Scores", "check_samples", "cross_validate", "encode", "predict_held_out"]

PER_CLASS = ("users_accuracy", "producers_accuracy", "f1")
#: Of the held-out pixels of a fold so many, at most, tell the importance of features.
IMPORTANCE_PIXELS = 1000
_AT_ONCE = 16  # features whose values are permuted in one call of a classifier


@dataclass(frozen=True)
class Scores:
    """What a spatial cross-validation tells, over all held-out pixels together.

    Attributes
    ----------
    overall_accuracy, macro_f1 : Score
    per_class : dict
        Class to users_accuracy, producers_accuracy (precision, recall) and f1.
    random_overall_accuracy, random_macro_f1 : float
        Of a cross-validation that draws pixels at random and so tests beside what it trained on.
    matrix : ndarray, shape (reference, predicted), int64
        Pixels, in the order of `classes`.
    probabilities : ndarray, shape (sample, class), float64
        Of each sample, by the model of the fold that did not see its block.
    importance : dict
        Feature to the loss of macro F1, where the feature's values are permuted among held-out
        pixels.
    """

    overall_accuracy: Score
    macro_f1: Score
    per_class: dict[str, dict[str, Score]]
    random_overall_accuracy: float
    random_macro_f1: float
    matrix: Matrices
    classes: list[str]
    probabilities: npt.NDArray[np.float64]
    importance: dict[str, float]

    @property
    def predicted(self) -> npt.NDArray[np.object_]:
        """Class name of each sample, shape (sample,)."""
        numbers = self.probabilities.argmax(axis=1)
        return np.array([self.classes[number] for number in numbers], dtype=object)


def cross_validate(
    features: pd.DataFrame,
    classes: pd.Series,
    blocks: pd.Series,
    folds: Folds,
    project: ProjectConfig,
    *,
    by_fold: Sequence[ProjectConfig] = (),
) -> Scores:
    """Score the project's classifier on blocks that it has not seen.

    Parameters
    ----------
    features : DataFrame, shape (sample, feature), float32
    classes, blocks : Series
        Class name and block number of each sample.
    folds : Folds
        Of `spatial_folds`.
    by_fold : sequence of ProjectConfig
        One for each fold, where `tune` chose parameters without it; `project` by default.

    Raises
    ------
    ConfigError
        [model] is wrong.

    References
    ----------
    Roberts et al. 2017, doi:10.1111/ecog.02881, on blocking; Congalton 1991,
    doi:10.1016/0034-4257(91)90048-B, on user's and producer's accuracy; Breiman 2001,
    doi:10.1023/A:1010933404324, on permutation importance.
    """
    names, reference = encode(classes)
    projects = by_fold or [project] * len(folds)
    probabilities, permuted = _predict(features, classes, folds, projects, permute=True)
    by_block = count_by_block(reference, probabilities.argmax(axis=1), blocks, len(names))
    scores = with_intervals(by_block, project.validation.resamples, project.seed)
    at_random = StratifiedKFold(
        project.validation.folds, shuffle=True, random_state=project.seed
    ).split(features, reference)
    optimistic = predict_held_out(features, classes, list(at_random), project).argmax(axis=1)
    random = measures(count_by_block(reference, optimistic, blocks, len(names)).sum(axis=0))
    loss = measures(permuted)["macro_f1"]
    return Scores(
        overall_accuracy=Score(*scores["overall_accuracy"].tolist()),
        macro_f1=Score(*scores["macro_f1"].tolist()),
        per_class={
            name: {key: Score(*scores[key][:, i].tolist()) for key in PER_CLASS}
            for i, name in enumerate(names)
        },
        random_overall_accuracy=float(random["overall_accuracy"]),
        random_macro_f1=float(random["macro_f1"]),
        matrix=by_block.sum(axis=0),
        classes=names,
        probabilities=probabilities,
        importance=dict(zip(features.columns, (loss[0] - loss[1:]).tolist(), strict=True)),
    )  # fmt: skip


def check_samples(samples: pd.DataFrame, features: pd.DataFrame, project: ProjectConfig) -> None:
    """Refuse samples that no honest cross-validation can be made of.

    Parameters
    ----------
    samples : DataFrame
        Columns class_name, block and, where known, polygon (-1 is none).
    features : DataFrame, shape (sample, feature)

    Raises
    ------
    DataError
        A feature is NaN or infinite; a class has fewer samples than there are folds, or lies in
        one block; a polygon lies in several blocks although `whole_polygons` is true.
    """
    finite = np.isfinite(features.to_numpy())
    if not finite.all():
        worst = int(finite.sum(axis=0).argmin())
        raise DataError(
            f"Feature {features.columns[worst]} is NaN or infinite in "
            f"{(~finite[:, worst]).sum()} of {len(features)} samples; leave it out of [features], "
            "or correct its source, and run `invoke preprocess` again."
        )
    if project.validation.whole_polygons and "polygon" in samples:
        known = samples[samples["polygon"] >= 0]
        parts = known.groupby("polygon")["block"].nunique()
        if (parts > 1).any():
            raise DataError(
                f"Polygon {parts.index[parts > 1][0]} lies in {parts.max()} blocks, though "
                "[validation] whole_polygons is true; run `invoke preprocess` again with this "
                "configuration."
            )
    folds, groups = project.validation.folds, samples.groupby("class_name")
    for name, count in groups.size().sort_index().items():
        if count < folds:
            raise DataError(
                f"Class {name} has {count} samples, fewer than the {folds} folds; add labels of "
                "it, merge or leave it out by [labels] classes, or lower [validation] folds."
            )
    for name, count in groups["block"].nunique().sort_index().items():
        if count < 2:
            raise DataError(
                f"All samples of class {name} lie in one block, so that no model can be trained "
                "on it and tested elsewhere; add labels of it in other places, merge or leave it "
                "out by [labels] classes, or lower [validation] block_size_px."
            )


def predict_held_out(
    features: pd.DataFrame, classes: pd.Series, folds: Folds, project: ProjectConfig
) -> npt.NDArray[np.float64]:
    """Predict each sample by a model that was fitted on the other folds.

    Returns
    -------
    ndarray, shape (sample, class), float64
        Probabilities, classes in alphabetical order; 0 for a class that the other folds lack.
    """
    return _predict(features, classes, folds, [project] * len(folds), permute=False)[0]


def _predict(
    features: pd.DataFrame,
    classes: pd.Series,
    folds: Folds,
    projects: Sequence[ProjectConfig],
    *,
    permute: bool,
) -> tuple[npt.NDArray[np.float64], Matrices]:
    """Return probabilities, and matrices as `_permute` does, summed over the folds."""
    names, reference = encode(classes)

    def work(number: int) -> tuple[npt.NDArray[np.float64], Matrices]:
        (seen, held_out), project = folds[number], projects[number]
        model = fit(make_classifier(project), features.iloc[seen], classes.iloc[seen])
        table, truth = features.iloc[held_out], reference[held_out]
        random = np.random.default_rng([project.seed, number])
        matrices = _permute(model, table, truth, names, random) if permute else np.zeros(0, int)
        return _probabilities(model, table, names), matrices

    # folds run beside each other: trees, LightGBM and BLAS let go of Python's lock
    with one_thread(), joblib.parallel_config("threading", n_jobs=-1):
        done = joblib.Parallel()(joblib.delayed(work)(i) for i in range(len(folds)))
    probabilities = np.zeros((len(features), len(names)))
    for (_, held_out), (part, _) in zip(folds, done, strict=True):
        probabilities[held_out] = part
    return probabilities, np.sum([matrices for _, matrices in done], axis=0)


def _probabilities(model: Any, features: pd.DataFrame, names: list[str]) -> npt.NDArray[np.float64]:
    full = np.zeros((len(features), len(names)))
    known = np.searchsorted(names, model.classes_)
    # of a single class, scikit-learn's forest gives one column, its mlp and LightGBM two
    full[:, known] = model.predict_proba(features) if len(known) > 1 else 1
    return full


def _permute(
    model: Any,
    features: pd.DataFrame,
    reference: npt.NDArray[np.int64],
    names: list[str],
    random: np.random.Generator,
) -> Matrices:
    """Count confusion as it is, then with each feature's values permuted: (1 + feature, ...)."""
    rows = np.sort(random.permutation(len(features))[:IMPORTANCE_PIXELS])
    values, reference = features.to_numpy()[rows], reference[rows]
    tables = [values]
    for column in range(values.shape[1]):
        table = values.copy()
        table[:, column] = random.permutation(table[:, column])
        tables.append(table)
    matrices = []
    for start in range(0, len(tables), _AT_ONCE):
        part = tables[start : start + _AT_ONCE]
        frame = pd.DataFrame(np.concatenate(part), columns=features.columns)
        predicted = _probabilities(model, frame, names).argmax(axis=1)
        number = pd.Series(np.repeat(np.arange(len(part)), len(rows)))
        matrices.append(
            count_by_block(np.tile(reference, len(part)), predicted, number, len(names))
        )
    return np.concatenate(matrices)


def encode(classes: pd.Series) -> tuple[list[str], npt.NDArray[np.int64]]:
    """Give class names in alphabetical order, and their number from 0 for each sample."""
    names = sorted(classes.unique())
    return names, np.searchsorted(names, classes)
