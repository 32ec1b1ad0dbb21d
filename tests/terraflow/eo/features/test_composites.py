from __future__ import annotations

import warnings

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from terraflow.eo.features.composites import (
    composite,
    fill_gaps,
    percentile,
    period_labels,
    span,
    statistic,
)

SERIES = hnp.arrays(
    "float32",
    st.tuples(st.integers(1, 8), st.just(3)),
    elements=st.one_of(st.just(np.nan), st.floats(-1, 1, width=32)),
)
WINTER = np.array(["2023-12-14", "2024-01-03", "2024-04-05", "2024-12-01"], "datetime64[ns]")


@given(SERIES)
def test_fill_gaps_is_linear_interpolation_with_the_nearest_at_the_ends(
    values: np.ndarray,
) -> None:
    filled = fill_gaps(xr.DataArray(values, dims=("period", "pixel"))).values
    for pixel in range(3):
        known = np.flatnonzero(np.isfinite(values[:, pixel]))
        if len(known):
            expected = np.interp(np.arange(len(values)), known, values[known, pixel])
            np.testing.assert_allclose(filled[:, pixel], expected, atol=1e-5)
        else:
            assert np.isnan(filled[:, pixel]).all()


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


def test_statistic_percentile_by_name() -> None:
    values = np.arange(11, dtype="float32")[:, None, None]
    assert statistic(values, "p10").item() == 1


@pytest.mark.parametrize(
    ("composites", "labels", "length"),
    [
        ("month", ["2023-12", "2024-01", "2024-04", "2024-12"], 13),
        ("month_of_year", ["12", "01", "04", "12"], 12),
        ("season", ["2024-DJF", "2024-DJF", "2024-MAM", "2025-DJF"], 5),
        ("season_of_year", ["DJF", "DJF", "MAM", "DJF"], 2),
        ("whole", ["all"] * 4, 1),
    ],
)
def test_period_labels_and_span(composites: str, labels: list[str], length: int) -> None:
    assert period_labels(WINTER, composites) == labels
    assert len(span(WINTER, composites)) == length
    assert set(labels) <= set(span(WINTER, composites))


def test_composite_takes_the_wanted_periods_in_order() -> None:
    values = np.array([0.2, 0.4, 0.6], "float32")[:, None, None]
    series = xr.DataArray(values, dims=("time", "y", "x"))
    result = composite(series, ["06", "06", "08"], ["06", "07", "08", "09"], 50)
    np.testing.assert_allclose(result.values.ravel(), [0.3, 0.45, 0.6, 0.6], atol=1e-6)
    low = composite(series, ["06", "06", "08"], ["06"], 0)
    np.testing.assert_allclose(low.values.ravel(), [0.2], atol=1e-6)
