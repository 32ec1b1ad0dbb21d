from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from terraflow.eo.features.time.composites import (
    clear_observations,
    composite,
    fill_gaps,
    first_clear,
    percentile,
    statistic,
)

SERIES = hnp.arrays(
    "float32",
    st.tuples(st.integers(1, 8), st.just(3)),
    elements=st.one_of(st.just(np.nan), st.floats(-1, 1, width=32)),
)


@given(SERIES)
def test_fill_gaps_is_linear_interpolation_with_the_nearest_at_the_ends(
    values: np.ndarray,
) -> None:
    filled = fill_gaps(values)
    for pixel in range(3):
        known = np.flatnonzero(np.isfinite(values[:, pixel]))
        if len(known):
            expected = np.interp(np.arange(len(values)), known, values[known, pixel])
            np.testing.assert_allclose(filled[:, pixel], expected, atol=1e-5)
        else:
            assert np.isnan(filled[:, pixel]).all()


@given(SERIES, st.lists(st.integers(0, 364), min_size=8, max_size=8, unique=True))
def test_fill_gaps_around_the_year_is_linear_interpolation_on_a_circle(
    values: np.ndarray, days: list[int]
) -> None:
    at = np.sort(days[: len(values)])
    filled = fill_gaps(values, at, around=True)
    for pixel in range(3):
        known = np.flatnonzero(np.isfinite(values[:, pixel]))
        if len(known):
            expected = np.interp(at, at[known], values[known, pixel], period=365)
            np.testing.assert_allclose(filled[:, pixel], expected, atol=1e-5)
        else:
            assert np.isnan(filled[:, pixel]).all()


@given(SERIES, st.integers(1, 5), st.booleans())
def test_fill_gaps_reaches_no_farther_than_it_may(
    values: np.ndarray, reach: int, around: bool
) -> None:
    days = np.arange(len(values))
    filled = fill_gaps(values, days, max_gap_days=reach, around=around)
    anyhow = fill_gaps(values, days, around=around)
    for pixel in range(3):
        known = np.flatnonzero(np.isfinite(values[:, pixel]))
        for day in days:
            apart = [abs(day - other) for other in known]
            near = [min(d, 365 - d) if around else d for d in apart]
            if near and min(near) <= reach:
                assert filled[day, pixel] == anyhow[day, pixel]
            else:
                assert np.isnan(filled[day, pixel])


@given(SERIES, st.integers(0, 100))
def test_percentile_is_numpys(values: np.ndarray, q: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # all NaN
        expected = np.nanpercentile(values.astype("float64"), q, axis=0)
    np.testing.assert_allclose(percentile(values, q), expected, atol=1e-6)


@given(SERIES, st.sampled_from(["min", "max", "mean", "std"]))
def test_statistic_is_numpys(values: np.ndarray, name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        expected = getattr(np, f"nan{name}")(values.astype("float64"), axis=0)
    found = statistic(values, name)
    assert found.dtype == "float32"
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("away", [-np.inf, np.inf, np.nan])
@pytest.mark.parametrize(("name", "expected"), [("p50", 4), ("p10", 2.4), ("min", 2), ("max", 6)])
def test_statistic_of_what_is_not_finite_is_that_of_the_rest(
    away: float, name: str, expected: float
) -> None:
    values = np.array([away, 2, 4, 6], "float32")[:, None, None]
    assert statistic(values, name).item() == pytest.approx(expected)


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("name", ["p50", "p10", "min", "max", "mean", "std"])
@pytest.mark.parametrize("count", [1, 3])
def test_statistic_of_nothing_finite_is_none(name: str, count: int) -> None:
    values = np.full((count, 1, 1), -np.inf, "float32")
    assert np.isnan(statistic(values, name).item())


def test_statistic_percentile_by_name() -> None:
    values = np.arange(11, dtype="float32")[:, None, None]
    assert statistic(values, "p10").item() == 1


def composited(
    values: list[float], labels: list[str], periods: list[str], **options: object
) -> list[float]:
    series = xr.DataArray(np.array(values, "float32")[:, None, None], dims=("time", "y", "x"))
    changes: dict[str, Any] = {"composites": "month_of_year", "q": 50, "max_gap_days": 92}
    result = composite(series, labels, periods, **changes | options)
    found: list[float] = result.values.ravel().tolist()
    return found


def test_composite_takes_the_wanted_periods_in_order() -> None:
    clear = ([0.2, 0.4, 0.6], ["06", "06", "08"])
    everything = composited(*clear, ["06", "07", "08", "09"], max_gap_days=None)
    np.testing.assert_allclose(everything, [0.3, 0.45, 0.6, 0.6], atol=1e-6)
    np.testing.assert_allclose(composited(*clear, ["06"], q=0), [0.2], atol=1e-6)


@pytest.mark.parametrize("periods", [["11", "12", "01"], ["01", "11", "12"]])
def test_composite_december_lies_between_november_and_january(periods: list[str]) -> None:
    found = composited([0.2, np.nan, 0.8], ["11", "12", "01"], periods)
    assert found[periods.index("12")] == pytest.approx(0.5, abs=0.01)


def test_composite_of_a_model_without_the_key_is_as_it_was() -> None:
    periods = [f"{month:02}" for month in range(1, 13)]
    found = composited([0.2, np.nan, 0.8], ["11", "12", "01"], periods, max_gap_days=None)
    assert found[periods.index("12")] == pytest.approx(0.2)
    assert found[periods.index("06")] == pytest.approx(0.5)


def test_composite_has_nothing_where_the_nearest_clear_month_is_too_far() -> None:
    periods = ["01", "02", "06", "11"]
    clear = ([0.2, 0.4, np.nan, np.nan], periods)
    found = composited(*clear, periods)
    assert np.isnan(found[2])
    assert found[3] == pytest.approx(0.4 - 0.2 * 274 / 335.5)
    near = composited(*clear, periods, max_gap_days=40)
    assert np.isnan(near[2:]).all()
    assert np.isfinite(composited(*clear, periods, max_gap_days=183)).all()


def test_clear_observations_count_dates_of_which_all_bands_are_clear() -> None:
    red = np.array([[[0.1, np.nan]], [[0.1, 0.2]], [[0.3, 0.2]]], "float32")
    nir = np.where([[[True, True]], [[False, True]], [[True, True]]], red, np.nan)
    dims = ("time", "y", "x")
    found = clear_observations(xr.Dataset({"red": (dims, red), "nir": (dims, nir)}))
    assert found.dtype == "uint16"
    assert found.tolist() == [[2, 2]]


def test_first_clear_takes_all_bands_of_a_pixel_from_one_image() -> None:
    nan = np.nan
    red = np.array([[[1, nan, nan, 1]], [[2, 2, nan, 2]], [[3, 3, 3, 3]]], "float32")
    nir = np.array([[[nan, nan, nan, 10]], [[20, 20, nan, 20]], [[30, nan, nan, 30]]], "float32")
    found = first_clear([red, nir], [[0, 1], [2]])
    assert np.array_equal(found[0], [[[2, 2, nan, 1]], [[3, 3, 3, 3]]], True)
    assert np.array_equal(found[1], [[[20, 20, nan, 10]], [[30, nan, nan, 30]]], True)
    either = first_clear([red, nir], [[0, 2]])
    assert np.array_equal(either[0], [[[3, 3, 3, 1]]], True)
    assert np.array_equal(either[1], [[[30, nan, nan, 10]]], True)
