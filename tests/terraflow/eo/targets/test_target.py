"""What a target of numbers need not write."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression

from terraflow.eo.targets.parts import Evaluation, Score
from terraflow.eo.targets.target import Target
from terraflow.errors import DataError


class Height(Target):
    name, column, primary, headline, dtype = "height", "height_m", "rmse", ("rmse",), "float32"

    def read_labels(self, *given: Any) -> Any: ...
    def count(self, *given: Any) -> Any: ...
    def measures(self, *given: Any) -> Any: ...
    def bands(self, *given: Any) -> Any: ...
    def report(self, *given: Any) -> Any: ...


TABLE = pd.DataFrame({"a": [0.0, 1, 2]})


@pytest.mark.parametrize("truth", [np.array([1.0, 3, 5]), np.array([[1.0], [3], [5]])])
def test_target_of_numbers_predicts_decides_and_encodes_them(truth: np.ndarray) -> None:
    target, model = Height(), LinearRegression().fit(TABLE, truth)
    predictions = target.predict(model, TABLE, [])
    assert (predictions.shape, predictions.dtype) == ((3, 1), "float64")
    assert target.decide(predictions, []) == pytest.approx([1, 3, 5])
    assert target.as_predictions(pd.Series([1, 3, 5]), []).tolist() == [[1], [3], [5]]
    values = target.encode(predictions)
    assert (values.shape, values.dtype) == ((1, 3), "float32")
    assert values[0] == pytest.approx([1, 3, 5])
    assert target.levels(pd.Series([1.0])) == []


def test_target_of_numbers_has_one_stratum_and_summaries() -> None:
    target = Height()
    assert target.strata(pd.Series([1.0, 2])).tolist() == ["all", "all"]
    assert target.summarise(np.array([1.0, 3]), []) == {"mean": 2, "std": 1}
    assert target.figures(*[None] * 4) == {}  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"Labels give no clear pixel; check \[labels\] field"):
        target.check_samples(pd.Series(dtype=float))


def test_target_of_numbers_tells_its_scores_in_the_card() -> None:
    scores, at_random = {"rmse": Score(0.5, 0.4, 0.6)}, {"rmse": 0.3}
    card = Height().card(Evaluation([], scores, at_random, np.zeros(1), np.zeros((1, 1)), {}))
    assert "| RMSE | 0.500 (0.400 to 0.600) | 0.300 |" in card.scores
    assert "height_m" in card.purpose
