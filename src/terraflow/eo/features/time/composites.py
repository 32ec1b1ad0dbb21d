"""Statistics over time: composites per period, and over all dates."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import xarray as xr

from terraflow.eo.features.time.periods import YEAR_DAYS, period_days

__all__ = ["clear_observations", "composite", "fill_gaps", "first_clear", "percentile", "statistic"]

Images = npt.NDArray[np.float32]


def composite(
    values: xr.DataArray,
    labels: Sequence[str],
    periods: Sequence[str],
    *,
    q: float,
    composites: str,
    max_gap_days: float | None,
) -> xr.DataArray:
    """Take a percentile per period, and fill gaps between periods.

    Parameters
    ----------
    values : DataArray, shape (time, y, x), float32
        NaN where not clear.
    labels : sequence of str
        Period of each date.
    periods : sequence of str
        Periods wanted.
    q : float
        Percentile, 0-100; 50 is the median.
    composites : str
        Kind of the periods, as `period_labels` takes it.
    max_gap_days : float or None
        Farthest that a period that is filled lies from a clear one of the same pixel, in days from
        middle to middle. None, of models from before this was a rule: as far as it may be, period
        by period, and never from the end of a year to its beginning.

    Returns
    -------
    DataArray, shape (period, y, x), float32
        NaN where a pixel is clear in no period that is near enough.
    """
    result = np.empty((len(periods), *values.shape[1:]), dtype="float32")
    for i, period in enumerate(periods):
        chosen = [
            image for image, label in zip(values.values, labels, strict=True) if label == period
        ]
        result[i] = percentile(chosen, q) if chosen else np.nan
    filled = _filled(result, periods, composites, max_gap_days)
    return xr.DataArray(filled, dims=("period", *values.dims[1:]))


def clear_observations(cube: xr.Dataset) -> npt.NDArray[np.uint16]:
    """Count the dates on which a pixel is clear in all bands.

    Parameters
    ----------
    cube : Dataset
        Bands, dims (time, y, x), float32, NaN where not clear.

    Returns
    -------
    ndarray, shape (y, x), uint16
    """
    clear = np.logical_and.reduce(
        [np.isfinite(band.transpose("time", "y", "x").values) for band in cube.values()]
    )
    count: npt.NDArray[np.uint16] = clear.sum(axis=0, dtype="uint16")
    return count


def first_clear(bands: Sequence[Images], groups: Sequence[Sequence[int]]) -> list[Images]:
    """Take of each group of images one for each pixel: the first that is clear there.

    Parameters
    ----------
    bands : sequence of ndarray, shape (time, y, x), float32
        NaN where not clear.
    groups : sequence of sequence of int
        Numbers of images, the one that is preferred first.

    Returns
    -------
    list of ndarray, shape (group, y, x), float32
        All bands of a pixel are of one image: of the first that is clear in all of them, else of
        the first that is clear in any.
    """
    chosen = [band[[group[0] for group in groups]] for band in bands]
    for place, group in enumerate(groups):
        if len(group) == 1:
            continue
        clear = np.isfinite(np.stack([band[list(group)] for band in bands]))
        taken = np.zeros(clear.shape[2:], bool)
        for usable in (np.all(clear, axis=0), np.any(clear, axis=0)):
            for number, known in zip(group, list(usable), strict=True):
                for band, result in zip(bands, chosen, strict=True):
                    result[place] = np.where(known & ~taken, band[number], result[place])
                taken |= known
    return chosen


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
    """Percentile along the first axis, of the finite values, by linear interpolation.

    The same of these as numpy's nanpercentile, which goes pixel by pixel and takes minutes.

    Parameters
    ----------
    values : ndarray, shape (time, ...), float32

    Returns
    -------
    ndarray, shape (...), float32
        NaN where none is finite.
    """
    images = np.asarray(values)
    if np.isinf(images).any():
        images = np.where(np.isfinite(images), images, np.float32(np.nan))
    if len(images) == 1:
        only: npt.NDArray[np.float32] = images[0]
        return only
    ordered = np.sort(images, axis=0)  # NaN last
    last = np.maximum(np.isfinite(ordered).sum(axis=0) - 1, 0)
    place = last * np.float32(q / 100)
    below = np.floor(place).astype("int64")[None]
    above = np.minimum(below + 1, last[None])
    low = np.take_along_axis(ordered, below, axis=0)[0]
    high = np.take_along_axis(ordered, above, axis=0)[0]
    weight = (place - below[0]).astype("float32")
    between: npt.NDArray[np.float32] = (low + (high - low) * weight).astype("float32")
    return between


def fill_gaps(
    composites: Images,
    days: npt.ArrayLike | None = None,
    *,
    max_gap_days: float = np.inf,
    around: bool = False,
) -> Images:
    """Fill missing periods linearly in time from the periods before and after them.

    Before the first and after the last period of a pixel its nearest stands in.

    Parameters
    ----------
    composites : ndarray, shape (period, pixel) or (period, y, x), float32
        In order of time; NaN is missing.
    days : array-like of float, shape (period,)
        Time of each; by default they are a day apart.
    max_gap_days : float
        What has no value within so many days stays missing.
    around : bool
        Whether the days are those of a year, whose last day is the neighbour of its first.

    Returns
    -------
    ndarray, same shape, float32
    """
    missing = ~np.isfinite(composites).all(axis=0)
    if len(composites) < 2 or not missing.any():
        return composites
    at = np.asarray(range(len(composites)) if days is None else days, dtype="float64")
    gappy, filled = composites[:, missing], composites.copy()
    before, since = _look_back(gappy, at, around=around)
    after, until = (side[::-1] for side in _look_back(gappy[::-1], -at[::-1], around=around))
    gap = since + until
    with np.errstate(invalid="ignore"):  # infinitely far from one or both
        weight = np.where(gap > 0, since / gap, 0)
        between = before + (after - before) * weight
    between = np.where(np.isinf(since), after, np.where(np.isinf(until), before, between))
    near = np.minimum(since, until) <= max_gap_days
    filled[:, missing] = np.where(near, between, np.float32(np.nan))
    return filled


def _look_back(
    images: Images, days: npt.NDArray[np.floating], *, around: bool
) -> tuple[Images, Images]:
    """Give the latest value up to each day, and how many days ago it was; infinite for never."""
    value = np.full(images.shape[1:], np.nan, dtype="float32")
    when = np.full(images.shape[1:], -np.inf, dtype="float32")
    values, since = np.empty_like(images), np.empty_like(images)
    turns = [-YEAR_DAYS, 0] if around else [0]
    for turn in turns:
        for i, (image, day) in enumerate(zip(images, days, strict=True)):
            known = np.isfinite(image)
            value, when = np.where(known, image, value), np.where(known, day + turn, when)
            values[i], since[i] = value, day + turn - when
    return values, since.astype("float32")


def _filled(
    images: Images, periods: Sequence[str], composites: str, max_gap_days: float | None
) -> Images:
    """Fill gaps between periods by their place in time, or, as before it was known, by order."""
    if max_gap_days is None:
        return fill_gaps(images)
    days = np.array(period_days(periods, composites))
    order = np.argsort(days, kind="stable")
    filled = fill_gaps(
        images[order],
        days[order],
        max_gap_days=max_gap_days,
        around=composites.endswith("of_year"),
    )
    return filled[np.argsort(order)]
