"""A served model: tried before it answers, and gone once another has taken over."""

from __future__ import annotations

import weakref
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow.models import infer_signature
from sklearn.base import BaseEstimator
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import LinearRegression

from terraflow.serving.app.model.served import Current, _alike, load

TABLE = pd.DataFrame({"x": [0.0, 1.0, 2.0]})


def save(folder: Path, estimator: Any = None, **options: Any) -> str:
    model = LinearRegression() if estimator is None else estimator
    model.fit(TABLE, TABLE["x"])
    mlflow.sklearn.save_model(
        model,
        folder,
        signature=infer_signature(TABLE, model.predict(TABLE)),
        pip_requirements=[],
        **{"input_example": TABLE} | options,
    )
    return str(folder)


def test_load_model_that_predicts_as_it_did(tmp_path: Path) -> None:
    metadata = {"example_predictions": [0.0, 1.0, 2.00001]}
    served = load(save(tmp_path / "m", metadata=metadata), "m", "1")
    assert served.headers["terraflow-version"] == "1"


def test_load_model_that_predicts_otherwise_is_refused(tmp_path: Path) -> None:
    folder = save(tmp_path / "m", metadata={"example_predictions": [0.0, 1.0, 2.1]})
    with pytest.raises(ValueError, match=r"predicts \[.*\] for its input example, and predicted"):
        load(folder)


def test_load_model_that_fails_on_its_example_is_refused(tmp_path: Path) -> None:
    folder = save(tmp_path / "m", input_example=pd.DataFrame({"y": ["text"]}))
    with pytest.raises(ValueError, match="fails on the input example that was logged with it: Mis"):
        load(folder)


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({"config": '{"name": "land-cover"}'}, "land-cover"),
        ({"config": "damaged"}, "m"),
        ({"config": {"name": 3}}, "m"),
        (None, "m"),
    ],
)
def test_served_project_is_that_of_the_training(
    metadata: Any, expected: str, tmp_path: Path
) -> None:
    served = load(save(tmp_path / "m", metadata=metadata), "m")
    assert served.project == expected


def test_load_model_without_an_example_is_taken(tmp_path: Path) -> None:
    assert load(save(tmp_path / "m", input_example=None)).sample


@pytest.mark.parametrize("estimator", [LinearRegression(), RandomForestRegressor(5, n_jobs=1)])
def test_current_model_before_is_gone_after_the_swap(
    estimator: BaseEstimator, tmp_path: Path
) -> None:
    trusted = {"skops_trusted_types": ["sklearn.tree._tree.Tree"]}
    current = Current(load(save(tmp_path / "a", estimator, **trusted)))
    current.served.answer(b"x\n" + b"1\n" * 3000, "text/csv", max_rows=10_000)
    before = weakref.ref(current.served.model.get_raw_model())
    current.load(save(tmp_path / "b"), "m", "2")
    assert current.swaps == 1
    assert before() is None


def test_current_model_goes_on_where_the_next_one_fails(tmp_path: Path) -> None:
    current = Current(load(save(tmp_path / "a"), "m", "1"))
    liar = save(tmp_path / "b", metadata={"example_predictions": [5.0, 5.0, 5.0]})
    with pytest.raises(ValueError, match="predicted"):
        current.load(liar, "m", "2")
    assert (current.served.version, current.swaps) == ("1", 0)


VALUES = st.recursive(
    st.one_of(st.floats(-1e6, 1e6), st.text(max_size=5), st.booleans(), st.integers()),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=8,
)


@given(VALUES)
def test_alike_is_what_is_the_same(value: Any) -> None:
    assert _alike(value, value)
    assert not _alike([value], value)


@given(st.floats(1, 1e6), st.floats(-0.9e-4, 0.9e-4), st.floats(2e-4, 1))
def test_alike_numbers_may_differ_by_what_rounding_does(
    number: float, little: float, much: float
) -> None:
    assert _alike([number * (1 + little)], [number])
    assert not _alike([number * (1 + much)], [number])
    assert not _alike([str(number)], [number])
    assert not _alike([number, number], [number])
