"""The search for parameters: Optuna's trials, each a run inside the training's run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import mlflow
import numpy as np
import optuna
import pandas as pd

from terraflow import tracking
from terraflow.console import progress

from . import classifiers
from .config import ProjectConfig
from .scores import Matrices, count_by_block, measures, resample
from .validation import encode, predict_held_out, spatial_folds

__all__ = ["Tuning", "correct_for_choice", "tune"]


@dataclass(frozen=True)
class Tuning:
    """What a search found.

    Attributes
    ----------
    project : ProjectConfig
        With the best parameters in [model.parameters].
    trials : int
        The first of which had the parameters of the configuration.
    macro_f1 : float
        Of the best trial; too good, since the same blocks chose it.
    corrected_macro_f1 : float
        What is left of it on blocks that had no part in the choice.
    """

    project: ProjectConfig
    trials: int
    macro_f1: float
    corrected_macro_f1: float


def tune(
    project: ProjectConfig,
    features: pd.DataFrame,
    classes: pd.Series,
    blocks: pd.Series,
    trials: int,
) -> Tuning:
    """Search the parameters with the best macro F1 over held-out blocks.

    The first trial takes the parameters as they are configured, the others come from Optuna's TPE
    sampler; same data and seed, same trials. Each becomes a run inside MLflow's active one.

    Parameters
    ----------
    features : DataFrame, shape (sample, feature), float32
    classes, blocks : Series
        As in `cross_validate`.
    trials : int
        At least 1.

    References
    ----------
    Bergstra et al. 2011, Algorithms for Hyper-Parameter Optimization, NeurIPS 24, on TPE.
    """
    kind = classifiers.find_kind(project)
    names, reference = encode(classes)
    folds = spatial_folds(features, classes, blocks, project)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        direction="maximize", sampler=optuna.samplers.TPESampler(seed=project.seed)
    )
    tried: list[tuple[ProjectConfig, Matrices]] = []
    scores: list[float] = []
    with progress(trials, f"tune {project.model.name}", "trials") as bar:
        for number in range(trials):
            trial = study.ask() if number else None
            candidate = _with_parameters(project, kind.search(trial) if trial else {})
            with tracking.start_child_run(f"trial-{number:03}", {"trial": str(number)}):
                mlflow.log_params(classifiers.parameters(candidate))
                predicted = predict_held_out(features, classes, folds, candidate).argmax(axis=1)
                by_block = count_by_block(reference, predicted, blocks, len(names))
                values = measures(by_block.sum(axis=0))
                scores.append(float(values["macro_f1"]))
                mlflow.log_metrics({
                    "macro_f1": scores[-1], "overall_accuracy": float(values["overall_accuracy"]),
                })  # fmt: skip
            if trial:
                study.tell(trial, scores[-1])
            tried.append((candidate, by_block))
            bar.set_postfix(best=f"{max(scores):.4f}", refresh=False)
            bar.update()
    best = int(np.argmax(scores))
    corrected = correct_for_choice(
        np.stack([by_block for _, by_block in tried]), project.validation.resamples, project.seed
    )
    return Tuning(tried[best][0], trials, scores[best], corrected)


def correct_for_choice(by_block: Matrices, times: int, seed: int) -> float:
    """Estimate the macro F1 of choosing the best trial, on blocks that had no part in the choice.

    Blocks are resampled: the trial that is best on those drawn is scored on those not drawn, and
    the mean of these scores taken. No model is fitted again.

    Parameters
    ----------
    by_block : ndarray, shape (trial, block, reference, predicted), int64
        Held-out pixels, in at least 2 blocks.
    times : int
        Resamples.

    Returns
    -------
    float
        0 to 1.

    References
    ----------
    Tsamardinos, Greasidou & Borboudakis 2018, Bootstrapping the out-of-sample predictions for
    efficient and accurate cross-validation, doi:10.1007/s10994-018-5714-4.
    """
    left = []
    for drawn in resample(by_block.shape[1], times, seed):
        chosen = _macro_f1(by_block, drawn).argmax(axis=0)
        outside = _macro_f1(by_block, (drawn == 0).astype(np.int64))
        left.append(outside[chosen, np.arange(len(chosen))])
    return float(np.nanmean(np.concatenate(left)))


def _macro_f1(by_block: Matrices, counts: Matrices) -> Any:
    """Score each trial on blocks taken so many times each: shape (trial, resample)."""
    pooled = np.einsum("tbrp,nb->tnrp", by_block, counts, optimize=True)
    return measures(pooled)["macro_f1"]


def _with_parameters(project: ProjectConfig, changes: dict[str, Any]) -> ProjectConfig:
    parameters = project.model.parameters | changes
    if changes and "class_weight" not in changes:  # no weights are a choice of the search, too
        parameters.pop("class_weight", None)
    model = project.model.model_copy(update={"parameters": parameters})
    return project.model_copy(update={"model": model})
