from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from odc.geo.geobox import GeoBox
from odc.geo.xr import xr_coords

from area import TRANSFORM, make_project
from terraflow.eo.config.sections import Features
from terraflow.eo.features.pixel import (
    compute_features,
    count_gaps,
    feature_names,
    neighbourhood,
)
from terraflow.eo.features.recipe import FeatureRecipe
from terraflow.eo.features.time.periods import observed_periods

GRID = GeoBox((16, 16), TRANSFORM, "EPSG:32633")


def cube(values: list[float], days: list[str]) -> xr.Dataset:
    """Give every pixel the same time series."""
    geobox = GRID[:2, :3]
    data = np.broadcast_to(np.array(values, "float32")[:, None, None], (len(values), 2, 3))
    coords = xr_coords(geobox) | {"time": pd.to_datetime(days)}
    return xr.Dataset({"red": xr.DataArray(data, dims=("time", "y", "x"), coords=coords)})


def compute(data: xr.Dataset, **changes: object) -> xr.DataArray:
    features = Features.model_validate(changes)
    periods = observed_periods(data.time.values, features.composites)
    return compute_features(data, features, periods)


def test_compute_features_by_hand() -> None:
    data = cube([0.1, 0.3, 0.2, 0.6], ["2024-04-01", "2024-04-11", "2024-04-21", "2024-06-01"])
    features = compute(data)
    assert list(features.feature.values) == [
        "red_2024-04",
        "red_2024-06",
        "red_max",
        "red_std",
    ]
    pixel = features.values[:, 1, 2]
    np.testing.assert_allclose(pixel, [0.2, 0.6, 0.6, np.std([0.1, 0.3, 0.2, 0.6])], rtol=1e-5)
    assert features.dtype == "float32"
    assert features.odc.geobox == data.odc.geobox


def test_compute_features_month_of_year_joins_the_years() -> None:
    features = compute(cube([0.1, 0.3], ["2023-04-01", "2024-04-01"]), composites="month_of_year")
    assert list(features.feature.values) == ["red_04", "red_max", "red_std"]
    np.testing.assert_allclose(features.values[0], 0.2, rtol=1e-5)


def test_compute_features_month_of_year_has_the_months_of_a_winter_and_no_other() -> None:
    days = ["2023-11-05", "2023-12-05", "2024-01-05", "2024-02-05"]
    features = compute(cube([0.2, np.nan, 0.8, 0.8], days), composites="month_of_year")
    assert list(features.feature.values)[:-2] == ["red_01", "red_02", "red_11", "red_12"]
    np.testing.assert_allclose(features.values[:4, 0, 0], [0.8, 0.8, 0.2, 0.497], atol=1e-3)


def test_compute_features_month_of_year_keeps_the_distance_of_months() -> None:
    days = ["2024-04-01", "2024-05-01", "2024-08-01"]
    features = compute(cube([0.0, np.nan, 0.8], days), composites="month_of_year")
    share = (135 - 104.5) / (227 - 104.5)  # middles of the months
    np.testing.assert_allclose(features.values[:3, 0, 0], [0, 0.8 * share, 0.8], rtol=1e-5)


def test_compute_features_gap_that_is_too_long_leaves_the_feature_missing() -> None:
    data = cube([0.0, np.nan, 0.8], ["2024-01-01", "2024-05-01", "2024-09-01"])
    found = compute(data, composites="month_of_year")
    assert np.isnan(found.sel(feature="red_05")).all()
    assert np.isfinite(found.drop_sel(feature="red_05")).all()
    recipe = FeatureRecipe.of(make_project())
    periods = ["01", "05", "09"]
    assert count_gaps(found, recipe, periods) == 6
    farther = compute(data, composites="month_of_year", max_gap_days=130)
    assert np.isfinite(farther).all()
    assert count_gaps(farther, recipe, periods) == 0
    assert count_gaps(farther * np.nan, recipe, periods) == 0  # never clear, which is no gap


def test_compute_features_dates_outside_the_periods_change_nothing() -> None:
    features = Features(composites="month_of_year")
    june = cube([0.1, 0.3], ["2024-06-01", "2024-06-15"])
    longer = cube([0.1, 0.3, 0.9], ["2024-06-01", "2024-06-15", "2024-12-01"])
    expected = compute_features(june, features, ["06"])
    np.testing.assert_array_equal(compute_features(longer, features, ["06"]), expected)


def test_compute_features_names_are_those_of_feature_names() -> None:
    features = Features(
        composites="whole", statistics=["min", "p90"], layers={"height": "x"}, neighbourhood=[3]
    )
    layers = {"height": np.ones((2, 3), "float32")}
    found = compute_features(cube([0.1], ["2024-04-01"]), features, ["all"], layers)
    assert list(found.feature.values) == feature_names(["red"], features, ["all"], ["height"])
    assert list(found.feature.values) == [
        "red_all",
        "red_min",
        "red_p90",
        "height",
        "red_all_mean3",
        "red_all_std3",
        "red_min_mean3",
        "red_min_std3",
        "red_p90_mean3",
        "red_p90_std3",
        "height_mean3",
        "height_std3",
    ]


def test_neighbourhood_by_hand_leaves_missing_values_out() -> None:
    image = np.array([[1, 2, 3], [4, np.nan, 6], [7, 8, 9]], "float32")
    mean, std = neighbourhood(image, 3)
    assert mean[0, 0] == pytest.approx(np.mean([1, 2, 4]))
    assert std[0, 1] == pytest.approx(np.std([1, 2, 3, 4, 6]))
    assert np.isnan(mean[1, 1])
    assert mean.dtype == std.dtype == "float32"
