from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor, VotingClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.svm import LinearSVC

from learning import SMALL, make_choice
from samples import CLASSES, FEATURES, make_samples
from terraflow.eo.config.sections import Model
from terraflow.eo.models.choice import REFUSED, ModelChoice, choose_model, fit, one_thread
from terraflow.eo.models.estimators import CLASSIFIERS, REGRESSORS
from terraflow.errors import ConfigError


def make(name: str = "random_forest", **parameters: Any) -> Any:
    """Make a built-in estimator."""
    return make_choice(name, **parameters).make()


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_make_twice_gives_the_same_probabilities_to_the_last_bit(name: str) -> None:
    samples = make_samples()
    answers = []
    for _ in range(2):
        with one_thread():
            model = fit(make(name, **SMALL[name]), samples[FEATURES],
                        samples["class_name"])  # fmt: skip
        answers.append(model.predict_proba(samples[FEATURES]))
    assert list(model.classes_) == CLASSES
    assert (answers[0] == answers[1]).all()
    assert (samples["class_name"] == model.predict(samples[FEATURES])).mean() > 0.6


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_make_float64_gives_the_classes_of_float32(name: str) -> None:
    samples = make_samples()
    with one_thread():
        model = fit(make(name, **SMALL[name]), samples[FEATURES],
                    samples["class_name"])  # fmt: skip
    answers = [model.predict(samples[FEATURES].astype(kind)) for kind in ("float32", "float64")]
    assert (answers[0] == answers[1]).all()


def test_make_seed_is_the_projects() -> None:
    model = make_choice(seed=7).make()
    assert model.random_state == 7


def test_make_lists_become_the_tuple_that_scikit_learn_wants() -> None:
    model = make("mlp", hidden_layer_sizes=[8, 4])
    assert model.steps[-1][1].hidden_layer_sizes == (8, 4)


def test_parameters_of_the_configuration_go_over_our_defaults() -> None:
    assert make_choice(n_estimators=7).parameters["n_estimators"] == 7
    assert make_choice().parameters["n_estimators"] == 200


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("random_forst", "'random_forst' is not known; the nearest are random_forest"),
        ("svm", "'svm' is not known; write one of lightgbm, mlp, random_forest"),
    ],
)
def test_choose_model_unknown_name_tells_the_nearest(name: str, expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        make_choice(name)


@pytest.mark.parametrize(
    ("name", "key", "expected"),
    [
        ("random_forest", "n_estimator", "random_forest has no parameter 'n_estimator'; the "
         "nearest are n_estimators"),
        ("lightgbm", "num_leafs", "nearest are num_leaves"),
        ("mlp", "alfa", "nearest are alpha"),
        ("mlp", "class_weight", "mlp has no class_weight; it can't weight classes"),
        ("random_forest", "random_state", "random_state can't be set: .* the seed by `seed`"),
        ("lightgbm", "n_jobs", "n_jobs can't be set"),
    ],
)  # fmt: skip
def test_choose_model_unfit_parameter_is_refused(name: str, key: str, expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        make_choice(name, **{key: 1})


@pytest.mark.parametrize("key", CLASSIFIERS["lightgbm"].further)
def test_make_lightgbm_takes_parameters_beyond_its_signature(key: str) -> None:
    values = {
        "extra_trees": True,
        "max_bin": 15,
        "path_smooth": 5.0,
        "feature_fraction_bynode": 0.5,
    }
    samples = make_samples()
    table = samples[FEATURES], samples["class_name"]
    plain, changed = (
        fit(make("lightgbm", n_estimators=10, **more), *table) for more in ({}, {key: values[key]})
    )
    assert not np.array_equal(plain.predict_proba(table[0]), changed.predict_proba(table[0]))


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("random_forest", {"n_estimators": "many"}),
        ("lightgbm", {"num_leaves": -3}),
        ("mlp", {"alpha": -1.0}),
    ],
)
def test_fit_wrong_value_names_the_parameter(name: str, wrong: dict[str, object]) -> None:
    samples = make_samples()
    with pytest.raises(ConfigError, match=f"can't be fitted: .*{next(iter(wrong))}"):
        fit(make(name, **wrong), samples[FEATURES], samples["class_name"])


@pytest.mark.parametrize("sign", REFUSED)
def test_fit_feature_name_that_lightgbm_refuses_is_named(sign: str) -> None:
    samples = make_samples()
    features = samples[FEATURES].rename(columns={"noise": f"slope{sign}_max"})
    with pytest.raises(ConfigError, match="refuses the name of feature slope") as caught:
        fit(make("lightgbm"), features, samples["class_name"])
    assert f"slope{sign}_max" in str(caught.value)
    assert "[model.parameters]" not in str(caught.value)


@pytest.mark.parametrize("name", ["random_forest", "lightgbm"])
def test_make_balanced_weights_find_more_of_a_rare_class(name: str) -> None:
    random = np.random.default_rng(1)
    classes = pd.Series(np.where(np.arange(1000) < 40, "rare", "common"))
    table = pd.DataFrame({"a": random.normal(size=1000) + (classes == "rare")}).astype("float32")
    found = {}
    for weights in ({}, {"class_weight": "balanced"}):
        values = weights | {"n_estimators": 20, "max_depth": 2}
        model = fit(make(name, **values), table, classes)
        found[bool(weights)] = int((model.predict(table)[:40] == "rare").sum())
    assert found[True] > found[False] + 10


def test_make_library_that_cant_be_loaded_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "no_openmp.py").write_text("raise OSError('libgomp.so.1: cannot open')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(
        CLASSIFIERS, "lightgbm", replace(CLASSIFIERS["lightgbm"], estimator="no_openmp:Classifier")
    )
    with pytest.raises(ConfigError, match=r"no_openmp can't be loaded: libgomp.*install OpenMP"):
        make("lightgbm")


class Stump(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """An own model that always answers its favourite class, and knows no seed."""

    def __init__(self, favourite: int = 0, anger: str = "") -> None:
        self.favourite = favourite
        self.anger = anger

    def fit(self, features: pd.DataFrame, classes: pd.Series) -> Stump:
        if self.anger:
            raise RuntimeError(f"{self.anger}.\nAnd more lines.")
        self.classes_ = np.unique(classes)
        return self

    def predict_proba(self, features: pd.DataFrame) -> np.ndarray:
        return np.tile(np.eye(len(self.classes_))[self.favourite], (len(features), 1))

    def predict(self, features: pd.DataFrame) -> np.ndarray:
        return self.classes_[self.predict_proba(features).argmax(axis=1)]


def vote(*, random_state: int | None = None, **parameters: Any) -> VotingClassifier:
    """An own model of two members, each of one thread."""
    trees, bayes = RandomForestClassifier(5, n_jobs=1), GaussianNB()
    model = VotingClassifier([("trees", trees), ("bayes", bayes)], voting="soft", n_jobs=1)
    return model.set_params(trees__random_state=random_state, **parameters)


def refuse(**parameters: Any) -> Any:
    raise LookupError("no such table.\nAnd more lines.")


OWN: dict[str, Any] = {"stump": Stump, "vote": vote}


def choose(name: str, *, own: Any = OWN, **parameters: Any) -> ModelChoice:
    return choose_model(Model(name=name, parameters=parameters), own, seed=7)


def test_choose_model_own_one_stands_beside_the_built_in_ones() -> None:
    stump, forest = choose("stump", favourite=1).make(), choose("random_forest").make()
    assert (type(stump), stump.favourite) == (Stump, 1)
    assert (type(forest), forest.n_estimators) == (RandomForestClassifier, 200)


def test_choose_model_own_one_has_no_parameters_but_its_own_defaults() -> None:
    assert choose("stump").parameters == {}
    assert choose("stump", favourite=1).parameters == {"favourite": 1}


def test_choose_model_own_one_fits_as_the_built_in_ones_do() -> None:
    samples = make_samples()
    model = fit(choose("stump", favourite=2).make(), samples[FEATURES], samples["class_name"])
    assert set(model.predict(samples[FEATURES])) == {"water"}


def test_choose_model_own_one_with_a_built_in_name_is_refused_whichever_is_chosen() -> None:
    for name in ("mlp", "random_forest"):
        with pytest.raises(ConfigError, match="own model mlp has the name of a built-in one"):
            choose(name, own={"mlp": Stump})


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("stum", "'stum' is not known; the nearest are stump"),
        ("xyz", "'xyz' is not known; write one of lightgbm, mlp, random_forest, stump, vote"),
    ],
)
def test_choose_model_unknown_name_tells_the_projects_own_too(name: str, expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        choose(name)


@pytest.mark.parametrize(
    ("name", "key", "expected"),
    [
        ("stump", "favorite", "stump has no parameter 'favorite'; the nearest are favourite"),
        (
            "vote",
            "trees__n_estimator",
            "no parameter 'trees__n_estimator'; the nearest are trees__",
        ),
        ("vote", "random_state", "random_state can't be set: .* the seed by `seed`"),
        ("stump", "class_weight", "stump has no parameter 'class_weight'"),
    ],
)
def test_choose_model_wrong_parameter_of_an_own_one_is_refused(
    name: str, key: str, expected: str
) -> None:
    with pytest.raises(ConfigError, match=expected):
        choose(name, **{key: 1})


def test_make_seed_is_passed_only_to_models_that_know_it() -> None:
    assert "random_state" not in choose("stump").make().get_params()
    assert choose("vote").make().get_params()["trees__random_state"] == 7


def test_make_nested_members_take_parameters_and_keep_their_one_thread() -> None:
    found = choose("vote", trees__n_estimators=3, weights=[2, 1]).make().get_params()
    assert (found["trees__n_estimators"], found["weights"]) == (3, [2, 1])
    assert [value for name, value in found.items() if name.endswith("n_jobs")] == [1, 1]
    with pytest.raises(ConfigError, match="trees__n_jobs can't be set"):
        choose("vote", trees__n_jobs=2)


def test_make_own_one_twice_gives_the_same_probabilities_to_the_last_bit() -> None:
    samples, choice = make_samples(), choose("vote")
    answers = []
    for _ in range(2):
        with one_thread():
            model = fit(choice.make(), samples[FEATURES], samples["class_name"])
        answers.append(model.predict_proba(samples[FEATURES]))
    assert (answers[0] == answers[1]).all()


def test_with_parameters_makes_another_model_of_the_same_kind_and_seed() -> None:
    first = choose("vote", trees__n_estimators=3)
    second = first.with_parameters({"trees__n_estimators": 4})
    assert first.make().get_params()["trees__n_estimators"] == 3
    made = second.make().get_params()
    assert (made["trees__n_estimators"], made["trees__random_state"]) == (4, 7)


def test_choose_model_factory_that_raises_is_one_sentence() -> None:
    with pytest.raises(ConfigError) as caught:
        choose("bad", own={"bad": refuse})
    told = "[model] bad can't be made of no parameters: LookupError: no such table (test_"
    assert str(caught.value).startswith(told)
    assert "\n" not in str(caught.value)


def test_choose_model_estimator_in_place_of_its_class_is_one_sentence() -> None:
    with pytest.raises(ConfigError, match="can't be made of no parameters: TypeError: 'Stump'"):
        choose("bad", own={"bad": Stump()})


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (dict, "bad made dict, which has no fit and no predict_proba and no predict; an estimator"),
        (LinearSVC, "bad made LinearSVC, which has no predict_proba; an estimator"),
        (RandomForestRegressor, "bad made RandomForestRegressor, which has no predict_proba"),
    ],
)
def test_choose_model_that_makes_no_classifier_is_one_sentence(made: Any, expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        choose("bad", own={"bad": made})


def test_choose_model_regressor_with_probabilities_is_no_classifier() -> None:
    class Odd(RandomForestRegressor):  # type: ignore[misc]
        def predict_proba(self, features: pd.DataFrame) -> np.ndarray:
            return np.ones((len(features), 1))

    with pytest.raises(
        ConfigError,
        match="made Odd, but the target of this project needs one that tells probabilities",
    ):
        choose("odd", own={"odd": Odd})


def test_choose_model_classifier_where_a_regressor_is_needed_is_refused() -> None:
    own = {"trees": RandomForestClassifier}
    with pytest.raises(
        ConfigError, match="the target of this project needs one that predicts numbers; name"
    ):
        choose_model(Model(name="trees"), own, seed=7, probabilities=False)


@pytest.mark.parametrize("name", REGRESSORS)
def test_built_in_models_of_numbers_learn_them_and_do_so_twice_alike(name: str) -> None:
    samples = make_samples()
    wanted = 2 * samples[FEATURES[0]] + samples[FEATURES[1]]
    choice = choose_model(Model(name=name), {}, seed=7, probabilities=False)
    answers = []
    for _ in range(2):
        with one_thread():
            model = fit(choice.make(), samples[FEATURES], wanted)
        answers.append(model.predict(samples[FEATURES]))
    assert (answers[0] == answers[1]).all()
    assert np.corrcoef(answers[0], wanted)[0, 1] > 0.9


def test_choose_model_regressor_where_one_is_needed_is_taken() -> None:
    own = {"trees": RandomForestRegressor}
    made = choose_model(Model(name="trees"), own, seed=7, probabilities=False).make()
    assert made.random_state == 7


def test_fit_own_model_that_fails_is_one_sentence() -> None:
    samples = make_samples()
    with pytest.raises(ConfigError) as caught:
        fit(choose("stump", anger="no sun").make(), samples[FEATURES], samples["class_name"])
    assert str(caught.value).startswith("Stump can't be fitted: no sun (test_choice.py, line")
    assert "\n" not in str(caught.value)


def test_fit_failure_inside_a_library_is_not_blamed_on_parameters(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*args: Any, **options: Any) -> None:
        raise RuntimeError("out of luck")

    monkeypatch.setattr(RandomForestClassifier, "fit", fail)
    samples = make_samples()
    with pytest.raises(RuntimeError, match="out of luck"):
        fit(make(), samples[FEATURES], samples["class_name"])
