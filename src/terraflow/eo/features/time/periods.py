"""Periods of composites: their names, their order, and their places in time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
import pystac

from terraflow.eo.images.sources.solar_days import UNDATED, item_span
from terraflow.errors import DataError

__all__ = [
    "YEAR_DAYS",
    "check_dates",
    "far_periods",
    "observed_periods",
    "period_days",
    "period_labels",
]

YEAR_DAYS = 365
#: Of the period that an item covers: the longest month and season.
LONGEST_DAYS = {"month": 31, "season": 92}
SEASONS = {1: "DJF", 2: "MAM", 3: "JJA", 4: "SON"}


def check_dates(items: Sequence[pystac.Item], composites: str) -> None:
    """See that items can be composited by their dates.

    An item that covers a period counts to the month or season in which its middle lies, so that it
    may be no longer than one.

    Parameters
    ----------
    items : sequence of pystac.Item
    composites : str
        As for `period_labels`.

    Raises
    ------
    DataError
        One has no date, or covers more than a month or season.
    """
    if composites == "whole":
        return
    name = composites.partition("_")[0]
    for item in items:
        if item.properties.get(UNDATED):
            raise DataError(
                f"Item {item.id} has no date, which composites by {composites} need; set "
                '[features] composites = "whole", or a [data] name_pattern or date_format that '
                "finds it."
            )
        start, end = item_span(item)
        if (end - start).days > LONGEST_DAYS[name]:
            others = ['"whole"']
            if (end - start).days <= LONGEST_DAYS["season"]:
                others.insert(0, f'"{composites.replace("month", "season")}"')
            raise DataError(
                f"Item {item.id} covers {start:%Y-%m-%d} to {end:%Y-%m-%d}, more than the {name} "
                f'that [features] composites = "{composites}" takes it for; set composites = '
                f"{' or '.join(others)}."
            )


def period_labels(times: npt.ArrayLike, composites: str) -> list[str]:
    """Name the period of each date.

    Parameters
    ----------
    times : array-like of datetime64
    composites : {"month", "month_of_year", "season", "season_of_year", "whole"}
        Seasons are of the meteorological year: December counts to the winter of the next year.

    Returns
    -------
    list of str
        As 2024-04, 04, 2024-MAM, MAM, all.
    """
    return [_label(period, composites) for period in _periods(times, composites)]


def observed_periods(times: npt.ArrayLike, composites: str) -> list[str]:
    """List the periods in which a date lies, in order of the calendar."""
    found = dict(zip(_periods(times, composites), period_labels(times, composites), strict=True))
    number = _number if composites.endswith("of_year") else lambda period: period.ordinal
    return list(dict.fromkeys(found[period] for period in sorted(found, key=number)))


def period_days(periods: Sequence[str], composites: str) -> list[float]:
    """Tell the middle of each period in days: since 1970, or over all years since New Year.

    Parameters
    ----------
    periods : sequence of str
        As `period_labels` names them.
    """
    if composites == "whole":
        return [0.0 for _ in periods]
    start = pd.Timestamp("1970-01-01")
    middles = []
    for name in periods:
        period = _parse(name, composites)
        first, last = period.start_time - start, (period + 1).start_time - start
        middles.append((first + last) / pd.Timedelta(days=2))
    return middles


def far_periods(
    observed: Sequence[str], periods: Sequence[str], composites: str, max_gap_days: float | None
) -> list[str]:
    """List the periods that lie too far from all that are observed to be filled from them.

    Parameters
    ----------
    observed : sequence of str
        Periods of which there is an image.
    periods : sequence of str
        Periods wanted.
    max_gap_days : float or None
        As in `composites.composite`.
    """
    known = np.isin(periods, observed)
    if max_gap_days is None or not known.any():
        return []
    days = np.array(period_days(periods, composites))
    apart = np.abs(days[:, None] - days[known])
    if composites.endswith("of_year"):
        apart = np.minimum(apart, YEAR_DAYS - apart)
    far = apart.min(axis=1) > max_gap_days
    return [name for name, is_far in zip(periods, far, strict=True) if is_far]


def _periods(times: npt.ArrayLike, composites: str) -> pd.PeriodIndex:
    # a year of quarters that ends in November has the seasons as its quarters
    freq = "Q-NOV" if composites.startswith("season") else "M"
    return pd.DatetimeIndex(np.asarray(times)).to_period(freq)


def _parse(name: str, composites: str) -> pd.Period:
    """Read what `_label` wrote; over all years, as a period of 1970."""
    if composites.startswith("month"):
        return pd.Period(name if composites == "month" else f"1970-{name}", freq="M")
    year, _, season = name.rpartition("-")
    quarter = next(number for number, known in SEASONS.items() if known == season)
    return pd.Period(year=int(year or 1970), quarter=quarter, freq="Q-NOV")


def _number(period: pd.Period) -> int:
    return int(period.month if period.freqstr == "M" else period.quarter)


def _label(period: pd.Period, composites: str) -> str:
    if composites == "whole":
        return "all"
    if composites == "month":
        return str(period.strftime("%Y-%m"))
    if composites == "month_of_year":
        return f"{period.month:02}"
    season = SEASONS[period.quarter]
    return season if composites == "season_of_year" else f"{period.qyear}-{season}"
