from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
import pytest

from samples import CLASSES, FEATURES, make_samples
from terraflow.eo.config.sections import Model
from terraflow.eo.models.choice import REFUSED, ModelChoice, choose_model, fit, one_thread
from terraflow.eo.models.estimators import KINDS
from terraflow.errors import ConfigError


def choice(name: str = "random_forest", *, seed: int = 42, **values: object) -> ModelChoice:
    return choose_model(Model.model_validate({"name": name, "parameters": values}), {}, seed=seed)


SMALL: dict[str, dict[str, object]] = {
    "random_forest": {"n_estimators": 10},
    "lightgbm": {"n_estimators": 10},
    "mlp": {"hidden_layer_sizes": [5], "max_iter": 50},
}


@pytest.mark.parametrize("name", KINDS)
def test_choose_model_twice_gives_the_same_probabilities_to_the_last_bit(name: str) -> None:
    samples = make_samples()
    answers = []
    for _ in range(2):
        with one_thread():
            model = fit(
                choice(name, **SMALL[name]).make(), samples[FEATURES], samples["class_name"]
            )
        answers.append(model.predict_proba(samples[FEATURES]))
    assert list(model.classes_) == CLASSES
    assert (answers[0] == answers[1]).all()
    assert (samples["class_name"] == model.predict(samples[FEATURES])).mean() > 0.6


@pytest.mark.parametrize("name", KINDS)
def test_choose_model_float64_gives_the_classes_of_float32(name: str) -> None:
    samples = make_samples()
    with one_thread():
        model = fit(choice(name, **SMALL[name]).make(), samples[FEATURES], samples["class_name"])
    answers = [model.predict(samples[FEATURES].astype(kind)) for kind in ("float32", "float64")]
    assert (answers[0] == answers[1]).all()


def test_choose_model_seed_is_the_projects() -> None:
    model = choice(seed=7).make()
    assert model.random_state == 7


def test_choose_model_lists_become_the_tuple_that_scikit_learn_wants() -> None:
    model = choice("mlp", hidden_layer_sizes=[8, 4]).make()
    assert model.steps[-1][1].hidden_layer_sizes == (8, 4)


def test_parameters_of_the_configuration_go_over_our_defaults() -> None:
    assert choice(n_estimators=7).parameters["n_estimators"] == 7
    assert choice().parameters["n_estimators"] == 200


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("random_forst", "'random_forst' is not known; the nearest are random_forest"),
        ("svm", "'svm' is not known; write one of lightgbm, mlp, random_forest"),
    ],
)
def test_choose_model_unknown_name_tells_the_nearest(name: str, expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        choice(name).make()


@pytest.mark.parametrize(
    ("name", "key", "expected"),
    [
        (
            "random_forest",
            "n_estimator",
            "random_forest has no parameter 'n_estimator'; the nearest are n_estimators",
        ),
        ("lightgbm", "num_leafs", "nearest are num_leaves"),
        ("mlp", "alfa", "nearest are alpha"),
        ("mlp", "class_weight", "it can't weight classes"),
        ("random_forest", "random_state", "random_state can't be set: .* the seed by `seed`"),
        ("lightgbm", "n_jobs", "n_jobs can't be set"),
    ],
)
def test_choose_model_unfit_parameter_is_refused(name: str, key: str, expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        choice(name, **{key: 1}).make()


@pytest.mark.parametrize("key", KINDS["lightgbm"].further)
def test_choose_model_lightgbm_takes_parameters_beyond_its_signature(key: str) -> None:
    values = {
        "extra_trees": True,
        "max_bin": 15,
        "path_smooth": 5.0,
        "feature_fraction_bynode": 0.5,
    }
    samples = make_samples()
    table = samples[FEATURES], samples["class_name"]
    plain, changed = (
        fit(choice("lightgbm", n_estimators=10, **more).make(), *table)
        for more in ({}, {key: values[key]})
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
        fit(choice(name, **wrong).make(), samples[FEATURES], samples["class_name"])


@pytest.mark.parametrize("sign", REFUSED)
def test_fit_feature_name_that_lightgbm_refuses_is_named(sign: str) -> None:
    samples = make_samples()
    features = samples[FEATURES].rename(columns={"noise": f"slope{sign}_max"})
    with pytest.raises(ConfigError, match="refuses the name of feature slope") as caught:
        fit(choice("lightgbm").make(), features, samples["class_name"])
    assert f"slope{sign}_max" in str(caught.value)
    assert "[model.parameters]" not in str(caught.value)


@pytest.mark.parametrize("name", ["random_forest", "lightgbm"])
def test_choose_model_balanced_weights_find_more_of_a_rare_class(name: str) -> None:
    random = np.random.default_rng(1)
    classes = pd.Series(np.where(np.arange(1000) < 40, "rare", "common"))
    table = pd.DataFrame({"a": random.normal(size=1000) + (classes == "rare")}).astype("float32")
    found = {}
    for weights in ({}, {"class_weight": "balanced"}):
        values = weights | {"n_estimators": 20, "max_depth": 2}
        model = fit(choice(name, **values).make(), table, classes)
        found[bool(weights)] = int((model.predict(table)[:40] == "rare").sum())
    assert found[True] > found[False] + 10


@pytest.mark.parametrize("name", KINDS)
def test_search_draws_parameters_that_the_classifier_takes(name: str) -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    samples = make_samples(blocks=4)
    for _ in range(3):
        drawn = choice(name, **KINDS[name].search(study.ask()))
        with one_thread():
            fit(drawn.make(), samples[FEATURES], samples["class_name"])


def test_choose_model_library_that_cant_be_loaded_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "no_openmp.py").write_text("raise OSError('libgomp.so.1: cannot open')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(
        KINDS, "lightgbm", replace(KINDS["lightgbm"], estimator="no_openmp:Classifier")
    )
    with pytest.raises(ConfigError, match=r"no_openmp can't be loaded: libgomp.*install OpenMP"):
        choice("lightgbm").make()
