from __future__ import annotations

import optuna
import pytest

from learning import make_choice
from samples import FEATURES, make_samples
from terraflow.eo.config.sections import Model
from terraflow.eo.models.choice import choose_model, fit, one_thread
from terraflow.eo.models.estimators import CLASSIFIERS, REGRESSORS


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_search_draws_parameters_that_the_model_takes(name: str) -> None:
    draw = CLASSIFIERS[name].search
    assert draw
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    samples = make_samples(blocks=4)
    for _ in range(3):
        drawn = make_choice(name, **draw(study.ask()))
        with one_thread():
            fit(drawn.make(), samples[FEATURES], samples["class_name"])


@pytest.mark.parametrize("name", REGRESSORS)
def test_search_of_numbers_draws_parameters_that_the_model_takes(name: str) -> None:
    draw = REGRESSORS[name].search
    assert draw
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    samples = make_samples(blocks=4)
    for _ in range(3):
        model = Model(name=name, parameters=draw(study.ask()))
        drawn = choose_model(model, {}, seed=1, probabilities=False)
        with one_thread():
            fit(drawn.make(), samples[FEATURES], samples[FEATURES[0]])
