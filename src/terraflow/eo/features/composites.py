"""Statistics over time: composites per period, and over all dates."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

__all__ = ["composite", "fill_gaps", "percentile", "period_labels", "span", "statistic"]

SEASONS = {1: "DJF", 2: "MAM", 3: "JJA", 4: "SON"}


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


def span(times: npt.ArrayLike, composites: str) -> list[str]:
    """List all periods from the first to the last date, those without a date included."""
    if composites == "whole":
        return ["all"]
    periods = _periods(times, composites)
    if composites.endswith("of_year"):
        numbers = sorted(_number(period) for period in periods)
        names = {
            _number(p): _label(p, composites)
            for p in pd.period_range("2000-01", periods=12, freq=periods.freqstr)
        }
        return [names[number] for number in range(numbers[0], numbers[-1] + 1)]
    every = pd.period_range(periods.min(), periods.max(), freq=periods.freqstr)
    return [_label(period, composites) for period in every]


def composite(
    values: xr.DataArray, labels: Sequence[str], periods: Sequence[str], q: float
) -> xr.DataArray:
    """Take a percentile per period, and fill gaps between periods.

    Parameters
    ----------
    values : DataArray, shape (time, y, x), float32
        NaN where not clear.
    labels : sequence of str
        Period of each date.
    periods : sequence of str
        Periods wanted, in order.
    q : float
        Percentile, 0-100; 50 is the median.

    Returns
    -------
    DataArray, shape (period, y, x), float32
        NaN only where a pixel is never clear in any of the periods.
    """
    result = np.empty((len(periods), *values.shape[1:]), dtype="float32")
    for i, period in enumerate(periods):
        chosen = [
            image for image, label in zip(values.values, labels, strict=True) if label == period
        ]
        result[i] = percentile(chosen, q) if chosen else np.nan
    located = xr.DataArray(result, dims=("period", *values.dims[1:]))
    return fill_gaps(located) if len(periods) > 1 else located


def statistic(values: npt.NDArray[np.float32], name: str) -> npt.NDArray[np.float32]:
    """Take min, max, mean, std (of the population) or a percentile such as p10 over all dates.

    Parameters
    ----------
    values : ndarray, shape (time, y, x), float32
        NaN where not clear.

    Returns
    -------
    ndarray, shape (y, x), float32
        NaN where a pixel is never clear.
    """
    if name.startswith("p"):
        return percentile(values, float(name[1:]))
    clear = np.isfinite(values)
    n = clear.sum(axis=0)
    if name in ("min", "max"):
        fill = np.inf if name == "min" else -np.inf
        filled = np.where(clear, values, np.float32(fill))
        extreme = filled.min(axis=0) if name == "min" else filled.max(axis=0)
        return np.where(n > 0, extreme, np.nan).astype("float32")
    known = np.maximum(n, 1)
    mean = np.where(clear, values, 0).sum(axis=0, dtype="float64") / known
    if name == "std":
        away = np.where(clear, values - mean, 0)
        mean = np.sqrt((away**2).sum(axis=0) / known)
    return np.where(n > 0, mean, np.nan).astype("float32")


def percentile(
    values: npt.NDArray[np.float32] | Sequence[npt.NDArray[np.float32]], q: float
) -> npt.NDArray[np.float32]:
    """Percentile along the first axis, of the values that are not NaN, by linear interpolation.

    The same as numpy's nanpercentile, which goes pixel by pixel and takes minutes.

    Parameters
    ----------
    values : ndarray, shape (time, ...), float32

    Returns
    -------
    ndarray, shape (...), float32
        NaN where all are NaN.
    """
    if len(values) == 1:
        only: npt.NDArray[np.float32] = values[0]
        return only
    ordered = np.sort(values, axis=0)  # NaN last
    last = np.maximum(np.isfinite(ordered).sum(axis=0) - 1, 0)
    place = last * np.float32(q / 100)
    below = np.floor(place).astype("int64")[None]
    above = np.minimum(below + 1, last[None])
    low = np.take_along_axis(ordered, below, axis=0)[0]
    high = np.take_along_axis(ordered, above, axis=0)[0]
    weight = (place - below[0]).astype("float32")
    between: npt.NDArray[np.float32] = (low + (high - low) * weight).astype("float32")
    return between


def fill_gaps(composites: xr.DataArray) -> xr.DataArray:
    """Fill missing periods linearly from the periods around them, at both ends from the nearest.

    Parameters
    ----------
    composites : DataArray, with a dimension "period" of equal steps
        NaN is missing.

    Returns
    -------
    DataArray, same shape
        NaN only where all periods are missing.
    """
    if not bool(composites.isnull().any()):
        return composites
    step = xr.DataArray(np.arange(composites.sizes["period"], dtype="float32"), dims="period")
    known = step.where(composites.notnull())
    before, after = composites.ffill("period"), composites.bfill("period")
    since, until = step - known.ffill("period"), known.bfill("period") - step
    gap = since + until
    weight = (since / gap).where(gap > 0, 0)
    return (before + (after - before) * weight).fillna(before).fillna(after)


def _periods(times: npt.ArrayLike, composites: str) -> pd.PeriodIndex:
    # a year of quarters that ends in November has the seasons as its quarters
    freq = "Q-NOV" if composites.startswith("season") else "M"
    return pd.DatetimeIndex(np.asarray(times)).to_period(freq)


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
