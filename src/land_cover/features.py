"""Features of this project's own, beside those that [features] configures."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import xarray as xr

from terraflow.eo import percentile, statistic

__all__ = ["phenology"]

#: Half-months, in which the dates of all years are taken together.
PERIODS = 24
#: Half-months with a clear date that a season needs: a peak and a date on each side.
MIN_PERIODS = 3
YEAR_DAYS = 365


def phenology(cube: xr.Dataset) -> dict[str, npt.NDArray[np.float32]]:
    """Tell when each pixel's season starts and peaks, and how far its NDVI rises.

    The dates of all years are taken together: each half-month has the median NDVI of its clear
    dates, at their mean day of the year. Between these points NDVI changes linearly, from the last
    of a year to the first as well. The largest point is the peak. The season starts where NDVI
    last rises through half of the amplitude before the peak.

    Parameters
    ----------
    cube : Dataset
        Variable ndvi, dims (time, y, x), float32, unitless, NaN where not clear; coordinate time.

    Returns
    -------
    dict of str to ndarray, shape (y, x), float32
        ndvi_start, ndvi_peak: day of the year, 1 to 366; a season that starts before the new year
        has a start greater than its peak. ndvi_amplitude: largest less smallest point, unitless,
        nominally 0 to 2. All are NaN where fewer than 3 half-months have a clear date. Of equal
        points the first of the year is the peak; where all are equal, the season starts there.

    Raises
    ------
    KeyError
        The cube has no ndvi; name a band so, or list NDVI in [features] indices.

    References
    ----------
    White et al. 1997, doi:10.1029/97GB00330: start at half of the amplitude. Jönsson & Eklundh
    2004, doi:10.1016/j.cageo.2004.05.006: start at any share of it.
    """
    ndvi = cube["ndvi"].transpose("time", "y", "x").values
    day = cube["time"].dt.dayofyear.values.astype("float32")[:, None, None]
    period = ((day.ravel() - 1) * PERIODS // (YEAR_DAYS + 1)).astype("int64")
    curve = np.full((PERIODS, *ndvi.shape[1:]), np.nan, dtype="float32")
    days = curve.copy()
    for number in np.unique(period):
        values = ndvi[period == number]
        curve[number] = percentile(values, 50)
        clear_days = np.where(np.isfinite(values), day[period == number], np.float32(np.nan))
        days[number] = statistic(clear_days, "mean")
    enough = np.isfinite(curve).sum(axis=0) >= MIN_PERIODS
    curve = np.where(enough, curve, np.float32(0))

    peak = np.nanargmax(curve, axis=0)
    back = np.arange(PERIODS)[:, None, None]
    order = (peak - back) % PERIODS  # from the peak back in time, into the year before
    curve = np.take_along_axis(curve, order, axis=0)
    days = np.take_along_axis(days, order, axis=0) - np.float32(YEAR_DAYS) * (order > peak)
    amplitude = curve[0] - np.nanmin(curve, axis=0)
    level = curve[0] - amplitude / 2

    below = 1 + (curve[1:] <= level).argmax(axis=0)[None]
    above = np.where(np.isfinite(curve) & (back < below), back, 0).max(axis=0)[None]
    low, high = (np.take_along_axis(curve, at, axis=0)[0] for at in (below, above))
    first, second = (np.take_along_axis(days, at, axis=0)[0] for at in (below, above))
    share = np.divide(level - low, high - low, out=np.ones_like(level), where=high > low)
    start = (first + share * (second - first) - 1) % YEAR_DAYS + 1
    named = {"ndvi_start": start, "ndvi_peak": days[0], "ndvi_amplitude": amplitude}
    return {name: np.where(enough, image, np.float32(np.nan)) for name, image in named.items()}
