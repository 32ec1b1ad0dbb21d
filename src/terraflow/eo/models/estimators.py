"""Classifiers by name: parameters, search spaces, and what makes them repeatable."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, cast

import pandas as pd
from sklearn.exceptions import ConvergenceWarning
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from terraflow.eo.config.project_file import ProjectConfig
from terraflow.errors import ConfigError

if TYPE_CHECKING:
    import optuna

__all__ = ["KINDS", "Kind", "find_kind", "fit", "make_classifier", "one_thread", "parameters"]

Parameters = dict[str, Any]
#: LightGBM's own error for a wrong value; named, so that the library need not be imported.
REFUSAL = "LightGBMError"
#: What LightGBM refuses in names of features.
REFUSED = '",:[]{}'


@dataclass(frozen=True)
class Kind:
    """What a name stands for.

    Attributes
    ----------
    estimator : str
        module:class, of scikit-learn's API; imported when it is used, since a library may lack what
        it needs of the system, as LightGBM does OpenMP.
    defaults : dict
        Ours, over the library's.
    fixed : dict
        Nobody may change these, or the same seed would not give the same model.
    search : callable
        Draws parameters from an Optuna trial.
    scaled : bool
        Whether features are brought to mean 0 and standard deviation 1 first.
    further : tuple of str
        Parameters that the library takes beside those in its signature.
    trusted : tuple of str
        Types, beside skops' own, that a stored model holds.
    """

    estimator: str
    defaults: Parameters
    fixed: Parameters
    search: Callable[[optuna.Trial], Parameters]
    scaled: bool = False
    further: tuple[str, ...] = ()
    trusted: tuple[str, ...] = ()


def _search_forest(trial: optuna.Trial) -> Parameters:
    return {
        "max_features": trial.suggest_float("max_features", 0.05, 0.8, log=True),
        "min_samples_leaf": trial.suggest_int("min_samples_leaf", 1, 16, log=True),
        "criterion": trial.suggest_categorical("criterion", ["gini", "entropy"]),
    } | _weight(trial, ["none", "balanced", "balanced_subsample"])


def _search_lightgbm(trial: optuna.Trial) -> Parameters:
    return {
        "n_estimators": trial.suggest_int("n_estimators", 50, 400, log=True),
        "learning_rate": trial.suggest_float("learning_rate", 0.02, 0.2, log=True),
        "num_leaves": trial.suggest_int("num_leaves", 7, 63, log=True),
        "min_child_samples": trial.suggest_int("min_child_samples", 5, 80, log=True),
        "colsample_bytree": trial.suggest_float("colsample_bytree", 0.2, 1),
        "reg_lambda": trial.suggest_float("reg_lambda", 0.001, 10, log=True),
    } | _weight(trial, ["none", "balanced"])


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
KINDS = {
    "random_forest": Kind(
        "sklearn.ensemble:RandomForestClassifier",
        defaults={"n_estimators": 200, "min_samples_leaf": 2},
        fixed={"n_jobs": 1},
        search=_search_forest,
        trusted=("sklearn.tree._tree.Tree",),
    ),
    "lightgbm": Kind(
        "lightgbm:LGBMClassifier",
        defaults={
            "n_estimators": 150, "learning_rate": 0.05, "num_leaves": 15, "colsample_bytree": 0.5,
            "subsample": 0.8, "subsample_freq": 1,
        },
        fixed={"n_jobs": 1, "deterministic": True, "force_row_wise": True, "verbosity": -1},
        search=_search_lightgbm,
        further=("extra_trees", "feature_fraction_bynode", "max_bin", "path_smooth"),
        trusted=(
            "collections.OrderedDict", "lightgbm.basic.Booster", "lightgbm.sklearn.LGBMClassifier",
        ),
    ),
    "mlp": Kind(
        "sklearn.neural_network:MLPClassifier",
        defaults={"hidden_layer_sizes": [64], "alpha": 1.0, "max_iter": 300},
        fixed={},
        search=_search_mlp,
        scaled=True,
        trusted=(
            "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
            "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
        ),
    ),
}  # fmt: skip


def make_classifier(project: ProjectConfig) -> Any:
    """Make the classifier that [model] names, not fitted yet.

    Same seed, same features: same model, to the last bit.

    Raises
    ------
    ConfigError
        There is no such model, or it has no such parameter; the nearest names are told.
    """
    kind = find_kind(project)
    values = parameters(project)
    if "hidden_layer_sizes" in values:  # TOML has lists, scikit-learn wants a tuple
        values["hidden_layer_sizes"] = tuple(values["hidden_layer_sizes"])
    estimator = _class(kind)(**values, **kind.fixed, random_state=project.seed)
    return make_pipeline(StandardScaler(), estimator) if kind.scaled else estimator


def parameters(project: ProjectConfig) -> Parameters:
    """Return our defaults with those of [model.parameters] over them.

    Raises
    ------
    ConfigError
        As `make_classifier`.
    """
    kind, name = find_kind(project), project.model.name
    fixed = {"random_state", *kind.fixed}
    known = (set(_class(kind)().get_params()) | set(kind.further)) - fixed
    for key in project.model.parameters:
        if key in fixed:
            raise ConfigError(
                f"[model.parameters] {key} can't be set: it is fixed so that the same seed gives "
                "the same model; remove it, and change the seed by `seed`."
            )
        if key == "class_weight" and key not in known:
            raise ConfigError(
                f"[model] {name} can't weight classes, so class_weight must go; balance them by "
                "[labels] samples_per_class, or take random_forest or lightgbm."
            )
        if key not in known:
            raise ConfigError(f"[model] {name} has no parameter {key!r}; {_nearest(key, known)}.")
    return kind.defaults | project.model.parameters


@contextmanager
def one_thread() -> Iterator[None]:
    """Bound BLAS to one thread, so that sums round alike; enter it outside of other threads."""
    with threadpool_limits(limits=1, user_api="blas"), warnings.catch_warnings():
        # an mlp that stopped early has the scores to show for it
        warnings.filterwarnings("ignore", category=ConvergenceWarning)
        yield


def fit(classifier: Any, features: pd.DataFrame, classes: pd.Series) -> Any:
    """Fit, and return the classifier.

    Raises
    ------
    ConfigError
        A parameter has a value, or a feature a name, that the library refuses.
    """
    try:
        return classifier.fit(features, classes)
    except Exception as error:
        if not isinstance(error, ValueError | TypeError) and type(error).__name__ != REFUSAL:
            raise
        name = type(getattr(classifier, "steps", [(0, classifier)])[-1][1]).__name__
        wrong = [column for column in features if set(column) & set(REFUSED)]
        if "feature name" in str(error) and wrong:
            raise ConfigError(
                f"{name} refuses the name of feature {wrong[0]}: it takes none of {REFUSED} in "
                "names; rename the band or layer in [data.bands] or [features.layers], or choose "
                "another [model] name."
            ) from error
        text = str(error).splitlines()[0].rstrip(".")
        raise ConfigError(
            f"{name} can't be fitted: {text}; correct the value in [model.parameters]."
        ) from error


def _class(kind: Kind) -> Callable[..., Any]:
    try:
        return cast("Callable[..., Any]", resolve_name(kind.estimator))
    except OSError as error:
        library = kind.estimator.partition(":")[0]
        raise ConfigError(
            f"{library} can't be loaded: {error}; install OpenMP (libgomp1 on Debian, libomp on "
            "macOS), or choose another [model] name."
        ) from error


def find_kind(project: ProjectConfig) -> Kind:
    """Look up what [model] names.

    Raises
    ------
    ConfigError
        There is no such model; the nearest names are told.
    """
    try:
        return KINDS[project.model.name]
    except KeyError:
        raise ConfigError(
            f"[model] name {project.model.name!r} is not known; "
            f"{_nearest(project.model.name, KINDS)}."
        ) from None


def _nearest(word: str, known: Iterable[str]) -> str:
    names: Sequence[str] = sorted(known)
    close = difflib.get_close_matches(word, names, n=3, cutoff=0.5)
    return f"the nearest are {', '.join(close)}" if close else f"write one of {', '.join(names)}"
