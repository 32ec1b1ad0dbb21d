from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from land_cover.features import phenology

NAMES = ["ndvi_start", "ndvi_peak", "ndvi_amplitude"]
NAN = float("nan")
#: One date in each of the 24 half-months.
DATES = [f"2023-{month:02}-{day:02}" for month in range(1, 13) for day in (5, 20)]
SERIES = hnp.arrays(
    "float32",
    st.tuples(st.just(len(DATES)), st.just(3)),
    elements=st.one_of(st.just(np.nan), st.floats(-1, 1, width=32)),
)


def cube(dates: Sequence[str], *pixels: Sequence[float]) -> xr.Dataset:
    """A row of pixels, each with one value a date."""
    values = np.array(pixels, "float32").T[:, None, :]
    time = np.array(dates, "datetime64[ns]")
    return xr.Dataset({"ndvi": (("time", "y", "x"), values)}, coords={"time": time})


def told(dates: Sequence[str], values: Sequence[float]) -> list[float]:
    """Start, peak and amplitude of one pixel."""
    result = phenology(cube(dates, values))
    return [float(result[name][0, 0]) for name in NAMES]


def by_hand(dates: Sequence[str], values: np.ndarray) -> list[float]:
    """The same for one pixel with one date a half-month, on a curve of three years by the day."""
    days = (np.array(dates, "datetime64[D]") - np.datetime64("2023-01-01")).astype(int) + 1
    known = np.isfinite(values)
    if known.sum() < 3:
        return [NAN] * 3
    days, values = days[known], values[known].astype("float64")
    peak, amplitude = days[values.argmax()], values.max() - values.min()
    if amplitude == 0:
        return [peak, peak, 0]
    fine = np.arange(peak - 365, peak + 0.005, 0.01)
    curve = np.interp(fine, np.concatenate([days - 365, days, days + 365]), np.tile(values, 3))
    start = fine[np.flatnonzero(curve <= values.max() - amplitude / 2 + 1e-6)[-1]]
    return [(start - 1) % 365 + 1, peak, amplitude]


def test_phenology_single_season_is_as_computed_by_hand() -> None:
    # 2023: 10 March is day 69, 30 March 89, 29 May 149, 28 July 209, 6 October 279
    dates = ["2023-03-10", "2023-03-30", "2023-05-29", "2023-07-28", "2023-10-06"]
    values = [0.2, 0.2, 0.5, 0.8, 0.3]
    # half of the amplitude is 0.5, reached on day 149
    assert told(dates, values) == pytest.approx([149, 209, 0.6], abs=1e-3)


def test_phenology_start_lies_between_two_dates_in_proportion() -> None:
    # days 91, 131, 171: half of the amplitude, 0.4, lies three quarters between 91 and 131
    dates = ["2023-04-01", "2023-05-11", "2023-06-20"]
    assert told(dates, [0.1, 0.5, 0.7]) == pytest.approx([121, 171, 0.6], abs=1e-3)


def test_phenology_start_is_the_last_rise_before_the_peak() -> None:
    # a first, smaller season, down to 0.3 on day 171, and half of the amplitude is 0.5
    dates = ["2023-03-02", "2023-05-11", "2023-06-20", "2023-07-30", "2023-10-08"]
    assert told(dates, [0.1, 0.8, 0.3, 0.9, 0.2])[:2] == pytest.approx(
        [171 + 40 / 3, 211], abs=1e-3
    )


def test_phenology_gaps_are_bridged_by_the_clear_dates_around_them() -> None:
    dates = ["2023-03-02", "2023-04-01", "2023-05-11", "2023-06-20", "2023-10-08"]
    values = [0.1, NAN, NAN, 0.7, 0.2]
    # day 61 to 171, half way between
    assert told(dates, values) == pytest.approx([116, 171, 0.6], abs=1e-3)


def test_phenology_years_are_taken_together_by_medians_and_mean_days() -> None:
    dates = [
        "2022-04-01",
        "2022-05-11",
        "2022-06-18",
        "2022-10-08",
        "2023-04-01",
        "2023-05-11",
        "2023-06-20",
        "2023-06-22",
    ]
    values = [0.1, 0.5, 0.7, 0.2, 0.1, 0.3, 0.9, 0.1]
    # medians 0.1, 0.4, 0.7, 0.2; the peak's days are 169, 171 and 173
    assert told(dates, values) == pytest.approx([131, 171, 0.6], abs=1e-3)


def test_phenology_order_of_dates_does_not_matter() -> None:
    dates, values = DATES, np.sin(np.arange(24))
    mixed = np.random.default_rng(0).permutation(24)
    assert told([dates[i] for i in mixed], values[mixed]) == told(dates, values)


def test_phenology_season_across_the_new_year_starts_in_the_year_before() -> None:
    # days 258, 318, 13, 73, 133: from 318 to 13 are 60 days
    dates = ["2022-09-15", "2022-11-14", "2023-01-13", "2023-03-14", "2023-05-13"]
    assert told(dates, [0.2, 0.4, 0.8, 0.6, 0.2]) == pytest.approx([333, 13, 0.6], abs=1e-3)


def test_phenology_start_early_in_january_is_a_day_of_the_same_year() -> None:
    # days 356, 21 and 61: half of the amplitude lies half way between the first two, on day 6
    dates = ["2022-12-22", "2023-01-21", "2023-03-02"]
    assert told(dates, [0.1, 0.7, 0.3]) == pytest.approx([6, 21, 0.6], abs=1e-3)


def test_phenology_last_day_of_a_leap_year_is_told() -> None:
    dates = ["2024-09-01", "2024-11-01", "2024-12-31"]
    assert told(dates, [0.1, 0.3, 0.5])[1] == 366


@pytest.mark.parametrize(
    ("dates", "values"),
    [
        (["2023-06-20"], [0.7]),
        (["2023-04-01", "2023-06-20"], [0.1, 0.7]),
        (["2023-04-01", "2023-04-02", "2023-06-20", "2023-06-21"], [0.1, 0.2, 0.7, 0.6]),
        (["2023-04-01", "2023-05-11", "2023-06-20"], [0.1, NAN, 0.7]),
        (["2023-04-01", "2023-05-11", "2023-06-20"], [NAN, NAN, NAN]),
    ],
)
def test_phenology_fewer_than_three_half_months_is_nodata_without_a_warning(
    dates: list[str], values: list[float]
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isnan(told(dates, values)).all()


def test_phenology_without_dates_is_nodata() -> None:
    empty = cube(DATES, [0.5] * 24, [0.5] * 24).isel(time=slice(0))
    assert all(
        np.isnan(image).all() and image.shape == (1, 2) for image in phenology(empty).values()
    )


def test_phenology_constant_series_starts_at_its_peak_and_is_not_lost() -> None:
    values = [NAN, *[0.4] * 23]
    assert told(DATES, values) == [20, 20, 0]


def test_phenology_pixels_are_told_apart_whatever_the_order_of_axes() -> None:
    random = np.random.default_rng(1)
    values = random.random((24, 2, 3), dtype="float32")
    values[:, 1, 2] = np.nan
    time = np.array(DATES, "datetime64[ns]")
    whole = xr.Dataset({"ndvi": (("time", "y", "x"), values)}, coords={"time": time})
    result = phenology(whole)
    assert list(result) == NAMES
    assert {(image.shape, image.dtype) for image in result.values()} == {((2, 3), np.dtype("f4"))}
    turned = phenology(whole.transpose("x", "time", "y"))
    for name in NAMES:
        np.testing.assert_array_equal(turned[name], result[name])
        assert np.isnan(result[name][1, 2])
        for y, x in [(0, 0), (0, 2), (1, 1)]:
            alone = whole.isel(y=[y], x=[x])
            assert phenology(alone)[name][0, 0] == result[name][y, x]


def test_phenology_leaves_the_cube_as_it_was() -> None:
    given = cube(DATES, np.sin(np.arange(24)))
    before = given.copy(deep=True)
    phenology(given)
    xr.testing.assert_identical(given, before)


def test_phenology_cube_without_ndvi_says_so() -> None:
    with pytest.raises(KeyError, match="ndvi"):
        phenology(cube(DATES, [0.5] * 24).rename(ndvi="evi"))


@given(SERIES)
def test_phenology_is_that_of_a_curve_drawn_day_by_day(values: np.ndarray) -> None:
    # steps far from the limits of float32, so that both agree which point lies below half
    values = np.round(values * 8) / 8
    result = phenology(cube(DATES, *values.T))
    for pixel in range(values.shape[1]):
        start, peak, amplitude = by_hand(DATES, values[:, pixel])
        assert result["ndvi_peak"][0, pixel] == pytest.approx(peak, nan_ok=True)
        assert result["ndvi_amplitude"][0, pixel] == pytest.approx(amplitude, nan_ok=True)
        apart = abs(result["ndvi_start"][0, pixel] - start)
        assert min(apart, 365 - apart) <= 0.02 or np.isnan([apart, start]).all()


@given(SERIES)
def test_phenology_is_finite_and_in_range_where_three_half_months_are_clear(
    values: np.ndarray,
) -> None:
    result = phenology(cube(DATES, *values.T))
    enough = np.isfinite(values).sum(axis=0) >= 3
    for image in result.values():
        assert (np.isfinite(image[0]) == enough).all()
    for name in ("ndvi_start", "ndvi_peak"):
        assert ((result[name][0, enough] >= 1) & (result[name][0, enough] <= 366)).all()
    assert (result["ndvi_amplitude"][0, enough] >= 0).all()
