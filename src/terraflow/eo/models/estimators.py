"""The built-in models by name: parameters, search spaces, and what makes them repeatable."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import optuna

__all__ = ["CLASSIFIERS", "REGRESSORS", "Kind", "Parameters"]

Parameters = dict[str, Any]


@dataclass(frozen=True)
class Kind:
    """What the name of a model stands for.

    Attributes
    ----------
    estimator : str or callable
        Class of scikit-learn's API; as module:class it is imported when it is used, because a
        library may lack what it needs of the system, as LightGBM does OpenMP.
    defaults : dict
        Ours, over the library's.
    fixed : dict
        Nobody may change these, or the same seed would not give the same model.
    search : callable
        Draws parameters from an Optuna trial; None where there is no search.
    scaled : bool
        Whether features are brought to mean 0 and standard deviation 1 first.
    further : tuple of str
        Parameters that the library takes beside those in its signature.
    decided : tuple of str
        Parameters that the search leaves out where it wants the library's default.
    refused : dict
        Parameters that users may expect, to what to do instead.
    trusted : tuple of str
        Types, beside skops' own, that a stored model holds; None finds them in the model.
    """

    estimator: str | Callable[..., Any]
    defaults: Parameters
    fixed: Parameters
    search: Callable[[optuna.Trial], Parameters] | None
    scaled: bool = False
    further: tuple[str, ...] = ()
    decided: tuple[str, ...] = ()
    refused: Mapping[str, str] = field(default_factory=dict)
    trusted: tuple[str, ...] | None = ()


def _search_forest(trial: optuna.Trial) -> Parameters:
    return {
        "max_features": trial.suggest_float("max_features", 0.05, 0.8, log=True),
        "min_samples_leaf": trial.suggest_int("min_samples_leaf", 1, 16, log=True),
    }


def _search_forest_of_classes(trial: optuna.Trial) -> Parameters:
    criterion = trial.suggest_categorical("criterion", ["gini", "entropy"])
    weight = _weight(trial, ["none", "balanced", "balanced_subsample"])
    return _search_forest(trial) | {"criterion": criterion} | weight


def _search_lightgbm(trial: optuna.Trial) -> Parameters:
    return {
        "n_estimators": trial.suggest_int("n_estimators", 50, 400, log=True),
        "learning_rate": trial.suggest_float("learning_rate", 0.02, 0.2, log=True),
        "num_leaves": trial.suggest_int("num_leaves", 7, 63, log=True),
        "min_child_samples": trial.suggest_int("min_child_samples", 5, 80, log=True),
        "colsample_bytree": trial.suggest_float("colsample_bytree", 0.2, 1),
        "reg_lambda": trial.suggest_float("reg_lambda", 0.001, 10, log=True),
    }


def _search_lightgbm_of_classes(trial: optuna.Trial) -> Parameters:
    return _search_lightgbm(trial) | _weight(trial, ["none", "balanced"])


def _search_mlp(trial: optuna.Trial) -> Parameters:
    width = trial.suggest_int("width", 16, 128, log=True)
    return {
        "hidden_layer_sizes": [width] * trial.suggest_int("layers", 1, 2),
        "alpha": trial.suggest_float("alpha", 1e-3, 10, log=True),
        "learning_rate_init": trial.suggest_float("learning_rate_init", 3e-4, 1e-2, log=True),
    }


def _weight(trial: optuna.Trial, choices: list[str]) -> Parameters:
    choice = trial.suggest_categorical("class_weight", choices)
    return {} if choice == "none" else {"class_weight": choice}


#: One thread each: several would add votes or gradients in changing order, and round differently.
CLASSIFIERS = {
    "random_forest": Kind(
        "sklearn.ensemble:RandomForestClassifier",
        defaults={"n_estimators": 200, "min_samples_leaf": 2},
        fixed={"n_jobs": 1},
        search=_search_forest_of_classes,
        decided=("class_weight",),
        trusted=("sklearn.tree._tree.Tree",),
    ),
    "lightgbm": Kind(
        "lightgbm:LGBMClassifier",
        defaults={
            "n_estimators": 150,
            "learning_rate": 0.05,
            "num_leaves": 15,
            "colsample_bytree": 0.5,
            "subsample": 0.8,
            "subsample_freq": 1,
        },
        fixed={"n_jobs": 1, "deterministic": True, "force_row_wise": True, "verbosity": -1},
        search=_search_lightgbm_of_classes,
        decided=("class_weight",),
        further=("extra_trees", "feature_fraction_bynode", "max_bin", "path_smooth"),
        trusted=(
            "collections.OrderedDict",
            "lightgbm.basic.Booster",
            "lightgbm.sklearn.LGBMClassifier",
        ),
    ),
    "mlp": Kind(
        "sklearn.neural_network:MLPClassifier",
        defaults={"hidden_layer_sizes": [64], "alpha": 1.0, "max_iter": 300},
        fixed={},
        search=_search_mlp,
        refused={
            "class_weight": "it can't weight classes; balance them by [labels] samples_per_class, "
            "or take random_forest or lightgbm"
        },
        scaled=True,
        trusted=(
            "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
            "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
        ),
    ),
}

#: The same models, of numbers.
REGRESSORS = {
    "random_forest": replace(
        CLASSIFIERS["random_forest"],
        estimator="sklearn.ensemble:RandomForestRegressor",
        search=_search_forest,
        decided=(),
    ),
    "lightgbm": replace(
        CLASSIFIERS["lightgbm"],
        estimator="lightgbm:LGBMRegressor",
        search=_search_lightgbm,
        decided=(),
        trusted=(
            "collections.OrderedDict",
            "lightgbm.basic.Booster",
            "lightgbm.sklearn.LGBMRegressor",
        ),
    ),
    "mlp": replace(CLASSIFIERS["mlp"], estimator="sklearn.neural_network:MLPRegressor", refused={}),
}
