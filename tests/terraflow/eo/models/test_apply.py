"""Models asked for the pixels of a map."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from maps import FEATURES, make_model
from terraflow.eo.models.apply import apply_model
from terraflow.eo.models.model import LoadedModel


class Probabilities:
    """A classifier whose probabilities are the features."""

    classes_ = np.array(["a", "b", "c"])

    def predict_proba(self, table: pd.DataFrame) -> np.ndarray:
        assert list(table.columns) == FEATURES
        return table.to_numpy()


def model(estimator: Any = None) -> LoadedModel:
    return make_model(estimator=estimator or Probabilities(), info={"levels": ["a", "b", "c"]})


def features(*pixels: list[float]) -> xr.DataArray:
    """One row of pixels."""
    values = np.array(pixels, dtype="float32").T[:, None, :]
    return xr.DataArray(values, dims=("feature", "y", "x"))


def test_apply_model_takes_the_most_probable_class_and_its_probability() -> None:
    bands = apply_model(model(), features([0.2, 0.7, 0.1], [0.994, 0.006, 0.0], [0.0, 0.0, 1.0]))
    assert bands.dtype == np.uint8
    assert bands.tolist() == [[[2, 1, 3]], [[70, 99, 100]]]


def test_apply_model_pixel_without_a_feature_is_nodata_in_both_bands() -> None:
    bands = apply_model(model(), features([0.2, np.nan, 0.1], [1, 0, 0], [np.inf, 0, 0]))
    assert bands.tolist() == [[[0, 1, 0]], [[0, 100, 0]]]


def test_apply_model_no_pixel_with_all_features_is_nodata_without_asking() -> None:
    bands = apply_model(model(object()), features([np.nan, 1, 0], [0, 1, np.nan]))
    assert bands.tolist() == [[[0, 0]], [[0, 0]]]


def test_apply_model_confidence_that_rounds_to_nodata_is_one_per_cent() -> None:
    assert apply_model(model(), features([0.004, 0.003, 0.003]))[1].tolist() == [[1]]


def test_apply_model_class_that_the_estimator_does_not_know_is_never_given() -> None:
    class OfTwo(Probabilities):
        classes_ = np.array(["a", "c"])

        def predict_proba(self, table: pd.DataFrame) -> np.ndarray:
            return table.to_numpy()[:, [0, 2]]

    bands = apply_model(model(OfTwo()), features([0.2, 0.9, 0.8], [0.6, 0.9, 0.4]))
    assert bands.tolist() == [[[3, 1]], [[80, 60]]]


def test_apply_model_more_pixels_than_a_chunk_gives_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    values = np.random.default_rng(0).random((3, 10, 10)).astype("float32")
    values[0, ::3] = np.nan
    table = xr.DataArray(values, dims=("feature", "y", "x"))
    whole = apply_model(model(), table)
    monkeypatch.setattr("terraflow.eo.models.apply.CHUNK_PX", 7)
    assert (apply_model(model(), table) == whole).all()
