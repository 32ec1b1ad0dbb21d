from __future__ import annotations

import re
from datetime import datetime

import numpy as np
import pystac
import pytest

from terraflow.eo.features.time.periods import (
    check_dates,
    far_periods,
    observed_periods,
    period_days,
    period_labels,
)
from terraflow.errors import DataError

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


def make_period(start: str, end: str) -> pystac.Item:
    told = {"start_datetime": f"{start}T00:00:00Z", "end_datetime": f"{end}T23:59:59Z"}
    return pystac.Item("composite", None, None, None, told)


ANNUAL, SEASON = make_period("2024-01-01", "2024-12-31"), make_period("2024-06-01", "2024-08-31")
MONTH, SIXTEEN_DAYS = (
    make_period("2024-05-01", "2024-05-31"),
    make_period("2024-04-22", "2024-05-07"),
)


@pytest.mark.parametrize(
    ("composites", "longest"),
    [
        ("month", MONTH),
        ("month_of_year", MONTH),
        ("season", SEASON),
        ("season_of_year", SEASON),
        ("whole", ANNUAL),
    ],
)
def test_check_dates_items_that_cover_no_more_than_a_period_pass(
    composites: str, longest: pystac.Item
) -> None:
    check_dates([longest, SIXTEEN_DAYS], composites)


@pytest.mark.parametrize(
    ("item", "composites", "remedies"),
    [
        (ANNUAL, "month", ["whole"]),
        (ANNUAL, "season_of_year", ["whole"]),
        (SEASON, "month", ["season", "whole"]),
        (SEASON, "month_of_year", ["season_of_year", "whole"]),
    ],
)
def test_check_dates_longer_item_is_refused_and_the_remedy_works(
    item: pystac.Item, composites: str, remedies: list[str]
) -> None:
    wanted = rf"composite covers 2024-.* more than the {composites[:5]}.*; set composites = (.*)\.$"
    with pytest.raises(DataError, match=wanted) as caught:
        check_dates([MONTH, item], composites)
    told = re.findall(r'"(\w+)"', str(caught.value).rpartition(";")[2])
    assert told == remedies
    for remedy in told:
        check_dates([MONTH, item], remedy)


def test_check_dates_undated_item_is_refused_and_the_remedy_works() -> None:
    item = pystac.Item("x", None, None, datetime(1970, 1, 1), {"terraflow:undated": True})
    with pytest.raises(DataError, match=r'no date, which .* composites = "whole", or a'):
        check_dates([item], "month")
    check_dates([item], "whole")
