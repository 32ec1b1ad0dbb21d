from __future__ import annotations

import numpy as np
import pytest

from terraflow.eo.features.time.periods import (
    far_periods,
    observed_periods,
    period_days,
    period_labels,
)

WINTER = np.array(["2023-12-14", "2024-01-03", "2024-04-05", "2024-12-01"], "datetime64[ns]")


@pytest.mark.parametrize(
    ("composites", "labels"),
    [
        ("month", ["2023-12", "2024-01", "2024-04", "2024-12"]),
        ("month_of_year", ["12", "01", "04", "12"]),
        ("season", ["2024-DJF", "2024-DJF", "2024-MAM", "2025-DJF"]),
        ("season_of_year", ["DJF", "DJF", "MAM", "DJF"]),
        ("whole", ["all"] * 4),
    ],
)
def test_observed_periods_are_those_of_the_dates_and_no_other(
    composites: str, labels: list[str]
) -> None:
    assert period_labels(WINTER, composites) == labels
    found = observed_periods(WINTER, composites)
    assert set(found) == set(labels)
    assert len(found) == len(set(labels))


def test_observed_periods_of_a_winter_are_its_four_months() -> None:
    winter = ["2023-11-05", "2023-12-05", "2024-01-05", "2024-02-05"]
    assert observed_periods(winter, "month_of_year") == ["01", "02", "11", "12"]
    assert observed_periods(winter[::-1], "season_of_year") == ["DJF", "SON"]
    assert observed_periods(winter, "month") == ["2023-11", "2023-12", "2024-01", "2024-02"]


@pytest.mark.parametrize(
    ("composites", "periods", "days"),
    [
        ("month_of_year", ["01", "06", "12"], [15.5, 166, 349.5]),
        ("season_of_year", ["DJF", "MAM", "JJA", "SON"], [14, 105, 197, 288.5]),
        ("month", ["1970-01", "1971-02"], [15.5, 410]),
        ("season", ["1970-DJF", "1971-MAM"], [14, 470]),
        ("whole", ["all"], [0]),
    ],
)
def test_period_days_are_the_middles_of_periods(
    composites: str, periods: list[str], days: list[float]
) -> None:
    assert period_days(periods, composites) == days


def test_far_periods_are_those_that_no_image_reaches() -> None:
    year = [f"{month:02}" for month in range(1, 13)]
    assert far_periods(["06"], year, "month_of_year", 92) == ["01", "02", "10", "11", "12"]
    assert far_periods(["12"], year, "month_of_year", 62) == ["03", *year[3:9]]
    assert far_periods(["06"], year, "month_of_year", None) == []
    assert far_periods(["all"], ["all"], "whole", 92) == []
