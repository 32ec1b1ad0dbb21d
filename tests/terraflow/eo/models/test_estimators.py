from __future__ import annotations

import optuna
import pytest

from learning import make_choice
from samples import FEATURES, make_samples
from terraflow.eo.models.choice import fit, one_thread
from terraflow.eo.models.estimators import KINDS


@pytest.mark.parametrize("name", KINDS)
def test_search_draws_parameters_that_the_model_takes(name: str) -> None:
    draw = KINDS[name].search
    assert draw
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    samples = make_samples(blocks=4)
    for _ in range(3):
        drawn = make_choice(name, **draw(study.ask()))
        with one_thread():
            fit(drawn.make(), samples[FEATURES], samples["class_name"])
