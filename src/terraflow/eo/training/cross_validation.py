"""Cross-validation over spatial blocks, and scores with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import joblib
import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.model_selection import StratifiedKFold

from terraflow.console import command
from terraflow.eo.config.sections import Validation
from terraflow.eo.models.choice import ModelChoice, fit, one_thread
from terraflow.eo.targets.parts import Evaluation, Floats, Sums
from terraflow.eo.targets.target import Target
from terraflow.eo.training.folds import Folds
from terraflow.eo.training.scores import with_intervals
from terraflow.eo.training.weights import count_weighted
from terraflow.errors import DataError

__all__ = ["Table", "check_samples", "cross_validate", "predict_held_out"]

#: Of the held-out pixels of a fold so many, at most, tell the importance of features.
IMPORTANCE_PIXELS = 1000
_AT_ONCE = 16  # features whose values are permuted in one call of a model


@dataclass(frozen=True)
class Table:
    """Samples, ready to be learnt from.

    Attributes
    ----------
    features : DataFrame, shape (sample, feature), float32
    reference : Series
        The target's column.
    blocks : Series
        Block number of each sample.
    target : Target
    levels : list of str
        As `Target.levels` gives them.
    weights : ndarray, shape (sample,), float64, or None
        How many labelled pixels each sample stands for, in scores; None is as many each.
    learning_weights : ndarray, shape (sample,), float64, or None
        By which a model learns it.
    """

    features: pd.DataFrame
    reference: pd.Series
    blocks: pd.Series
    target: Target
    levels: list[str]
    weights: Floats | None = None
    learning_weights: Floats | None = None

    def count(self, predictions: Floats, groups: npt.ArrayLike) -> Sums:
        """Count the target's sums of predictions of all samples, by group."""
        return count_weighted(
            self.target,
            self.reference,
            predictions,
            groups,
            levels=self.levels,
            weights=self.weights,
        )

    def measures(self, sums: Sums) -> dict[str, npt.NDArray[np.float64]]:
        """Compute the target's measures."""
        return self.target.measures(sums, self.levels)

    def primary(self, sums: Sums) -> npt.NDArray[np.float64]:
        """Compute the primary measure, the greatest being the best."""
        value = self.measures(sums)[self.target.primary]
        return value if self.target.greater_is_better else -value


def cross_validate(
    table: Table,
    folds: Folds,
    choice: ModelChoice,
    validation: Validation,
    *,
    seed: int,
    by_fold: Sequence[ModelChoice] = (),
) -> Evaluation:
    """Score a model on blocks that it has not seen.

    Parameters
    ----------
    folds : Folds
        Of `spatial_folds`.
    by_fold : sequence of ModelChoice
        One for each fold, where `tune` chose parameters without it; `choice` by default.

    Raises
    ------
    ConfigError
        [model] is wrong.

    References
    ----------
    Roberts et al. 2017, doi:10.1111/ecog.02881, on blocking; Breiman 2001,
    doi:10.1023/A:1010933404324, on permutation importance.
    """
    choices = by_fold or [choice] * len(folds)
    predictions, permuted = _predict(table, folds, choices, seed=seed, permute=True)
    by_block = table.count(predictions, table.blocks)
    known = table.target.effective_blocks(by_block, table.levels)
    scores = with_intervals(by_block, table.measures, known)
    at_random = StratifiedKFold(validation.folds, shuffle=True, random_state=seed).split(
        table.features, table.target.strata(table.reference)
    )
    optimistic = predict_held_out(table, list(at_random), choice, seed=seed)
    random = table.measures(table.count(optimistic, table.blocks).sum(axis=0))
    loss = table.primary(permuted)
    number = np.zeros(len(predictions), dtype="int64")
    for fold, (_, held_out) in enumerate(folds):
        number[held_out] = fold
    calibration = table.target.calibrate(
        predictions,
        table.reference,
        number,
        np.ones(len(number)) if table.weights is None else table.weights,
        table.levels,
    )
    drawn = replace(table, weights=None)
    as_drawn = table.measures(drawn.count(predictions, table.blocks).sum(axis=0))
    names = table.features.columns
    return Evaluation(
        levels=table.levels,
        scores=scores,
        at_random={name: float(value) for name, value in random.items()},
        sums=by_block.sum(axis=0),
        predictions=predictions,
        importance=dict(zip(names, (loss[0] - loss[1:]).tolist(), strict=True)),
        as_drawn={name: float(value) for name, value in as_drawn.items()}
        if table.weights is not None
        else {},
        weights=table.weights,
        folds=number,
        calibration=calibration,
    )


def check_samples(
    samples: pd.DataFrame, features: pd.DataFrame, target: Target, validation: Validation
) -> None:
    """Refuse samples that no honest cross-validation can be made of.

    Parameters
    ----------
    samples : DataFrame
        Columns block, the target's own and, where known, polygon (-1 is none).
    features : DataFrame, shape (sample, feature)

    Raises
    ------
    DataError
        A feature is NaN or infinite; a stratum has fewer samples than there are folds, or lies in
        one block; a polygon lies in several blocks although `whole_polygons` is true.
    """
    finite = np.isfinite(features.to_numpy())
    if not finite.all():
        worst = int(finite.sum(axis=0).argmin())
        raise DataError(
            f"Feature {features.columns[worst]} is NaN or infinite in "
            f"{(~finite[:, worst]).sum()} of {len(features)} samples; leave it out of [features], "
            f"or correct its source, and run `{command('preprocess')}` again."
        )
    if validation.whole_polygons and "polygon" in samples:
        known = samples[samples["polygon"] >= 0]
        parts = known.groupby("polygon")["block"].nunique()
        if (parts > 1).any():
            raise DataError(
                f"Polygon {parts.index[parts > 1][0]} lies in {parts.max()} blocks, though "
                f"[validation] whole_polygons is true; run `{command('preprocess')}` again with "
                "this configuration."
            )
    groups = samples.groupby(target.strata(samples[target.column]))
    for name, count in groups.size().sort_index().items():
        if count < validation.folds:
            raise DataError(
                f"There are {count} samples of {name}, fewer than the {validation.folds} folds; "
                "add labels of it, merge it or leave it out in [labels], or lower [validation] "
                "folds."
            )
    for name, count in groups["block"].nunique().sort_index().items():
        if count < 2:
            raise DataError(
                f"All samples of {name} lie in one block, so that no model can be trained on it "
                "and tested elsewhere; add labels of it in other places, merge it or leave it out "
                "in [labels], or lower [validation] block_size_px."
            )


def predict_held_out(
    table: Table, folds: Folds, choice: ModelChoice, *, seed: int
) -> npt.NDArray[np.float64]:
    """Predict each sample by a model that was fitted on the other folds.

    Returns
    -------
    ndarray, shape (sample, k), float64
        As `Target.predict` gives them.
    """
    return _predict(table, folds, [choice] * len(folds), seed=seed, permute=False)[0]


def _predict(
    table: Table, folds: Folds, choices: Sequence[ModelChoice], *, seed: int, permute: bool
) -> tuple[npt.NDArray[np.float64], Sums]:
    """Return predictions, and sums as `_permute` counts them, added up over the folds."""

    def work(number: int) -> tuple[npt.NDArray[np.float64], Sums]:
        (seen, held_out), choice = folds[number], choices[number]
        learnt = None if table.learning_weights is None else table.learning_weights[seen]
        model = fit(choice.make(), table.features.iloc[seen], table.reference.iloc[seen], learnt)
        tested = table.features.iloc[held_out]
        random = np.random.default_rng([seed, number])
        sums = _permute(model, held_out, table, random) if permute else np.zeros(0, int)
        return table.target.predict(model, tested, table.levels), sums

    # folds run beside each other: trees, LightGBM and BLAS let go of Python's lock
    with one_thread(), joblib.parallel_config("threading", n_jobs=-1):
        done = joblib.Parallel()(joblib.delayed(work)(i) for i in range(len(folds)))
    predictions = np.zeros((len(table.features), done[0][0].shape[1]))
    for (_, held_out), (part, _) in zip(folds, done, strict=True):
        predictions[held_out] = part
    return predictions, np.sum([sums for _, sums in done], axis=0)


def _permute(
    model: Any,
    held_out: npt.NDArray[np.int64],
    table: Table,
    random: np.random.Generator,
) -> Sums:
    """Count sums as it is, then with each feature's values permuted: (1 + feature, ...)."""
    rows = held_out[np.sort(random.permutation(len(held_out))[:IMPORTANCE_PIXELS])]
    values, truth = table.features.to_numpy()[rows], table.reference.to_numpy()[rows]
    weights = None if table.weights is None else table.weights[rows]
    tables = [values]
    for column in range(values.shape[1]):
        changed = values.copy()
        changed[:, column] = random.permutation(changed[:, column])
        tables.append(changed)
    found = []
    for start in range(0, len(tables), _AT_ONCE):
        part = tables[start : start + _AT_ONCE]
        frame = pd.DataFrame(np.concatenate(part), columns=table.features.columns)
        predictions = table.target.predict(model, frame, table.levels)
        number = np.repeat(np.arange(len(part)), len(rows))
        many = np.tile(truth, len(part))
        weigh = None if weights is None else np.tile(weights, len(part))
        found.append(
            count_weighted(
                table.target, many, predictions, number, levels=table.levels, weights=weigh
            )
        )
    return np.concatenate(found)
