"""The model that [model] names: looked up once, made as often as it is fitted."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pkgutil import resolve_name
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import is_classifier, is_regressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import has_fit_parameter
from threadpoolctl import threadpool_limits

from terraflow.eo.config.sections import Model
from terraflow.eo.hooks import ModelFactory
from terraflow.eo.models.estimators import CLASSIFIERS, REGRESSORS, Kind, Parameters
from terraflow.eo.models.size import check_size
from terraflow.errors import ConfigError, error_place, first_line, nearest

__all__ = ["ModelChoice", "choose_model", "fit", "one_thread", "takes_weights", "unconverged"]

#: LightGBM's own error for a wrong value; named, so that the library need not be imported.
REFUSAL = "LightGBMError"
#: What LightGBM refuses in names of features.
REFUSED = '",:[]{}'


@dataclass(frozen=True)
class ModelChoice:
    """A model by name, with its parameters and seed.

    Attributes
    ----------
    name : str
    kind : Kind
    chosen : dict
        Parameters of [model.parameters], which are known.
    seed : int
    """

    name: str
    kind: Kind
    chosen: Parameters
    seed: int

    @property
    def parameters(self) -> Parameters:
        """TerraFlow's defaults with the chosen ones over them."""
        return self.kind.defaults | self.chosen

    def with_parameters(self, chosen: Mapping[str, Any]) -> ModelChoice:
        """Choose other parameters."""
        return replace(self, chosen=dict(chosen))

    def make(self) -> Any:
        """Make the estimator, not fitted yet.

        Same seed, same features: same model, to the last bit.

        Raises
        ------
        ConfigError
            A model of the project refuses its parameters.
        """
        values = self.parameters
        for key, value in values.items():
            if _leaf(key) == "hidden_layer_sizes":  # TOML has lists, scikit-learn wants a tuple
                values[key] = tuple(value)
        factory = _factory(self.kind)
        seed = {"random_state": self.seed} if "random_state" in _known(self.kind) else {}
        try:
            estimator = factory(**values, **self.kind.fixed, **seed)
        except Exception as error:
            raise ConfigError(
                f"[model] {self.name} can't be made of {values or 'no parameters'}: "
                f"{type(error).__name__}: {first_line(error)}{error_place(error)}; correct "
                "[model.parameters], or the model."
            ) from error
        return make_pipeline(StandardScaler(), estimator) if self.kind.scaled else estimator


def choose_model(
    model: Model, own: Mapping[str, ModelFactory], *, seed: int, probabilities: bool = True
) -> ModelChoice:
    """Look up what [model] names, among TerraFlow's models and the project's own.

    Parameters
    ----------
    model : Model
    own : mapping
        Name to an estimator type of scikit-learn's API, or to a function that makes one.
    seed : int
        Taken as `random_state` by models that know it.
    probabilities : bool
        Whether the model has to tell probabilities, and not numbers.

    Raises
    ------
    ConfigError
        There is no such model, or it has no such parameter; the nearest names are told. Or an own
        model has the name of a built-in one, or is of the wrong sort.
    DataError
        No model of such parameters fits into this machine's memory.
    """
    built_in = CLASSIFIERS if probabilities else REGRESSORS
    if twice := sorted(set(own) & set(built_in)):
        raise ConfigError(
            f"The project's own model {twice[0]} has the name of a built-in one; rename it in "
            "Project(models=...)."
        )
    kind = _find(model.name, built_in, own)
    _check_parameters(model, kind)
    choice = ModelChoice(model.name, kind, dict(model.parameters), seed)
    check_size(choice.parameters)
    _check_sort(choice, probabilities=probabilities)
    return choice


@contextmanager
def one_thread() -> Iterator[None]:
    """Bound BLAS to one thread, so that sums round alike; enter it outside of other threads."""
    with threadpool_limits(limits=1, user_api="blas"), warnings.catch_warnings():
        # `unconverged` tells it of the model that is registered
        warnings.filterwarnings("ignore", category=ConvergenceWarning)
        yield


def takes_weights(estimator: Any) -> bool:
    """Tell whether an estimator learns samples by their weights."""
    return bool(has_fit_parameter(_last(estimator), "sample_weight"))


def fit(
    estimator: Any,
    features: pd.DataFrame,
    reference: pd.Series,
    weights: npt.NDArray[np.float64] | None = None,
) -> Any:
    """Fit, and return the estimator.

    Parameters
    ----------
    weights : ndarray, shape (sample,), float64, optional
        Of the samples; an estimator that takes none, as one of the project may, is fitted without.

    Raises
    ------
    ConfigError
        A parameter has a value, or a feature a name, that the library refuses; or a model of the
        project fails.
    """
    try:
        if weights is None or not takes_weights(estimator):
            return estimator.fit(features, reference)
        step = f"{estimator.steps[-1][0]}__" if isinstance(estimator, Pipeline) else ""
        return estimator.fit(features, reference, **{f"{step}sample_weight": weights})
    except Exception as error:
        inner = _last(estimator)
        if not _is_refusal(error, inner):
            raise
        name = type(inner).__name__
        wrong = [column for column in features if set(column) & set(REFUSED)]
        if "feature name" in str(error) and wrong:
            raise ConfigError(
                f"{name} refuses the name of feature {wrong[0]}: it takes none of {REFUSED} in "
                "names; rename the band or layer in [data.bands] or [features.layers], or choose "
                "another [model] name."
            ) from error
        raise ConfigError(
            f"{name} can't be fitted: {first_line(error)}{error_place(error)}; correct the value "
            "in [model.parameters], or the model."
        ) from error


def unconverged(estimator: Any) -> str:
    """Tell of a fitted network that it might have learnt more, in a sentence; else nothing."""
    inner = _last(estimator)
    rounds, most = getattr(inner, "n_iter_", 0), getattr(inner, "max_iter", None)
    if not isinstance(rounds, int) or most is None or rounds < most:
        return ""
    return (
        f"{type(inner).__name__} had not converged after {most} rounds; raise max_iter in "
        "[model.parameters], or take its scores as they are."
    )


def _last(estimator: Any) -> Any:
    """Give the last step of a pipeline, or the estimator itself."""
    return getattr(estimator, "steps", [(0, estimator)])[-1][1]


def _is_refusal(error: Exception, estimator: Any) -> bool:
    """Tell whether an error is about values that the user gave, or comes from the user's model."""
    own = not type(estimator).__module__.startswith(("sklearn.", "lightgbm."))
    return own or isinstance(error, ValueError | TypeError) or type(error).__name__ == REFUSAL


def _find(name: str, built_in: Mapping[str, Kind], own: Mapping[str, ModelFactory]) -> Kind:
    if name in built_in:
        return built_in[name]
    if name not in own:
        known = [*built_in, *own]
        raise ConfigError(f"[model] name {name!r} is not known; {_suggest(name, known)}.")
    search = getattr(own[name], "search", None)
    return Kind(own[name], defaults={}, fixed={}, search=search, trusted=None)


def _check_parameters(model: Model, kind: Kind) -> None:
    fixed = {"random_state", *kind.fixed}
    known = _known(kind) - fixed
    for key in model.parameters:
        if key in fixed or _leaf(key) in ("random_state", "n_jobs"):  # of a member, too
            raise ConfigError(
                f"[model.parameters] {key} can't be set: it is fixed so that the same seed gives "
                "the same model; remove it, and change the seed by `seed`."
            )
        if key in kind.refused:
            raise ConfigError(f"[model] {model.name} has no {key}; {kind.refused[key]}.")
        if key not in known:
            raise ConfigError(
                f"[model] {model.name} has no parameter {key!r}; {_suggest(key, known)}."
            )


def _leaf(key: str) -> str:
    """Name a parameter as the member of a pipeline or a vote does, to which it belongs."""
    return key.rpartition("__")[2]


def _check_sort(choice: ModelChoice, *, probabilities: bool) -> None:
    """Hold a model against what the target asks for."""
    estimator = choice.make()
    wanted = ("fit", "predict_proba", "predict") if probabilities else ("fit", "predict")
    if lacking := [name for name in wanted if not hasattr(estimator, name)]:
        raise ConfigError(
            f"[model] {choice.name} made {type(estimator).__name__}, which has no "
            f"{' and no '.join(lacking)}; an estimator of scikit-learn's API is expected."
        )
    wrong = is_regressor(estimator) if probabilities else is_classifier(estimator)
    if wrong:
        sort = "one that tells probabilities" if probabilities else "one that predicts numbers"
        raise ConfigError(
            f"[model] {choice.name} made {type(estimator).__name__}, but the target of this "
            f"project needs {sort}; name another model."
        )


def _known(kind: Kind) -> set[str]:
    """Names of the parameters that a model takes."""
    factory = _factory(kind)
    try:
        named = inspect.signature(factory).parameters.values()
    except (TypeError, ValueError):  # no callable, which `make` tells, or one that tells nothing
        return set(kind.further)
    known = {p.name for p in named if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    try:
        return known | set(factory().get_params()) | set(kind.further)
    except Exception:  # no estimator of scikit-learn's, or a failure, which `make` tells
        return known


def _factory(kind: Kind) -> Callable[..., Any]:
    if not isinstance(kind.estimator, str):
        return kind.estimator
    try:
        return cast("Callable[..., Any]", resolve_name(kind.estimator))
    except OSError as error:
        library = kind.estimator.partition(":")[0]
        raise ConfigError(
            f"{library} can't be loaded: {error}; install OpenMP (libgomp1 on Debian, libomp on "
            "macOS), or choose another [model] name."
        ) from error


def _suggest(word: str, known: Collection[str]) -> str:
    close = nearest(word, known)
    return (
        f"the nearest are {', '.join(close)}"
        if close
        else f"write one of {', '.join(sorted(known))}"
    )
