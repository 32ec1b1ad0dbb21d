from __future__ import annotations

import pytest

from terraflow.eo.config.sections import Model
from terraflow.eo.models.choice import choose_model
from terraflow.eo.models.size import check_size
from terraflow.errors import DataError


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("mlp", "hidden_layer_sizes", [10**9, 10**9]),
        ("mlp", "hidden_layer_sizes", [10**18]),
        ("random_forest", "n_estimators", 10**12),
        ("lightgbm", "n_estimators", 10**30),
    ],
)
def test_model_that_no_memory_holds_is_refused(name: str, key: str, value: object) -> None:
    with pytest.raises(DataError, match=rf"\[model.parameters\] {key} = .* needs .*; set less"):
        choose_model(Model(name=name, parameters={key: value}), {}, seed=1)


def test_members_of_a_model_count() -> None:
    with pytest.raises(DataError, match="vote__forest__n_estimators"):
        check_size({"vote__forest__n_estimators": 10**12})


@pytest.mark.parametrize("value", [64, [64], (512, 256), ["a", 3], "wide", None, [], 1.5, True])
def test_other_values_are_left_to_the_library(value: object) -> None:
    check_size({"hidden_layer_sizes": value, "n_estimators": value})
