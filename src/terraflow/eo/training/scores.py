"""Scores with intervals, from sums that are resampled by block."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from terraflow.eo.targets.parts import Score, Sums

__all__ = ["Measure", "pool", "resample", "with_intervals"]

#: Gives measures of sums: name to an array of the shape of their leading axes.
Measure = Callable[[Sums], dict[str, npt.NDArray[np.float64]]]

_AT_ONCE = 50  # resamples, which bounds memory where blocks are many


def resample(blocks: int, times: int, seed: int) -> Iterator[npt.NDArray[np.int64]]:
    """Draw blocks with replacement, as many as there are.

    Yields
    ------
    ndarray, shape (resample, block), int64
        How often each block is drawn; `times` resamples in all.
    """
    random = np.random.default_rng(seed)
    for start in range(0, times, _AT_ONCE):
        size = min(_AT_ONCE, times - start)
        yield random.multinomial(blocks, np.full(blocks, 1 / blocks), size=size)


def pool(by_block: Sums, times: int, seed: int) -> Iterator[Sums]:
    """Add up resampled blocks, some resamples at a time: shape (resample, ...)."""
    for counts in resample(len(by_block), times, seed):
        yield np.tensordot(counts, by_block, axes=1)


def with_intervals(by_block: Sums, measure: Measure, times: int, seed: int) -> dict[str, Score]:
    """Give each measure over all blocks together, and its 95 % interval.

    Blocks, not pixels, are resampled, because of spatial autocorrelation.

    Parameters
    ----------
    by_block : ndarray, shape (block, ...)
        Sums, as `Target.count` gives them.
    times : int
        Resamples.

    Returns
    -------
    dict
        Name to score; 0 where a measure is undefined, as the precision of what is never
        predicted.

    References
    ----------
    Efron & Tibshirani 1993, An Introduction to the Bootstrap, doi:10.1201/9780429246593, chapter
    13 on percentile intervals.
    """
    values = measure(by_block.sum(axis=0))
    drawn = [measure(sums) for sums in pool(by_block, times, seed)]
    result = {}
    for name, value in values.items():
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "All-NaN slice")
            bounds = np.nanpercentile(np.concatenate([d[name] for d in drawn]), [2.5, 97.5], axis=0)
        result[name] = Score(*np.nan_to_num([value, *bounds]).tolist())
    return result
