"""Scores with intervals, from sums that are resampled by block."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import norm
from scipy.stats import t as student_t

from terraflow.eo.targets.parts import Score, Sums

__all__ = [
    "Measure",
    "Presence",
    "interval_shares",
    "pool",
    "presence",
    "resample",
    "with_intervals",
]

#: Gives measures of sums: name to an array of the shape of their leading axes.
Measure = Callable[[Sums], dict[str, npt.NDArray[np.float64]]]

Presence = npt.NDArray[np.bool_]

_AT_ONCE = 50  # resamples, which bounds memory where blocks are many
#: Times that a draw is drawn again; one in three lacks what lies in a single block.
_TRIES = 1000


def resample(
    blocks: int, times: int, seed: int, present: Presence | None = None
) -> Iterator[npt.NDArray[np.int64]]:
    """Draw blocks with replacement, as many as there are.

    A draw without any block of a stratum is drawn again: what is scored stays the same, where a
    stratum that lies in few blocks would be left out of the mean of a draw that lacks it. So the
    bootstrap is conditional on what is known of all samples.

    Parameters
    ----------
    present : ndarray, shape (block, stratum), bool, optional
        Whether a block has samples of a stratum, as `presence` gives it.

    Yields
    ------
    ndarray, shape (resample, block), int64
        How often each block is drawn; `times` resamples in all.

    References
    ----------
    Davison & Hinkley 1997, Bootstrap Methods and their Application,
    doi:10.1017/CBO9780511802843, section 3.3, on resampling conditional on a feature of the data.
    """
    random = np.random.default_rng(seed)
    for start in range(0, times, _AT_ONCE):
        size = min(_AT_ONCE, times - start)
        counts = random.multinomial(blocks, np.full(blocks, 1 / blocks), size=size)
        if present is not None:
            for _ in range(_TRIES):
                lacking = np.flatnonzero((counts @ present == 0).any(axis=1))
                if not lacking.size:
                    break
                counts[lacking] = random.multinomial(
                    blocks, np.full(blocks, 1 / blocks), size=len(lacking)
                )
        yield counts


def presence(blocks: npt.ArrayLike, strata: npt.ArrayLike) -> Presence:
    """Tell which blocks, by their numbers, have samples of which strata: (block, stratum), bool."""
    found: Presence = pd.crosstab(np.asarray(blocks), np.asarray(strata, str)).to_numpy() > 0
    return found


def pool(by_block: Sums, times: int, seed: int, present: Presence | None = None) -> Iterator[Sums]:
    """Add up resampled blocks, some resamples at a time: shape (resample, ...)."""
    for counts in resample(len(by_block), times, seed, present):
        yield np.tensordot(counts, by_block, axes=1)


def interval_shares(blocks: int) -> tuple[float, float]:
    """Give the shares of resamples below a 95 % interval's lower and upper end.

    Resamples of few blocks vary less than samples do, and as a normal distribution where Student's
    t belongs: shares beyond 2.5 and 97.5 % make up for both.

    References
    ----------
    Hesterberg 2015, doi:10.1080/00031305.2015.1089789, section 4.3, on expanded percentile
    intervals.
    """
    if blocks < 2:
        return 0.0, 1.0
    wider = float(np.sqrt(blocks / (blocks - 1)) * student_t.ppf(0.975, blocks - 1))
    below = float(norm.cdf(-wider))
    return below, 1 - below


def with_intervals(
    by_block: Sums, measure: Measure, times: int, seed: int, present: Presence | None = None
) -> dict[str, Score]:
    """Give each measure over all blocks together, and its 95 % interval.

    Blocks, not pixels, are resampled, because of spatial autocorrelation.

    Parameters
    ----------
    by_block : ndarray, shape (block, ...)
        Sums, as `Target.count` gives them.
    times : int
        Resamples.
    present : ndarray, shape (block, stratum), bool, optional
        As in `resample`.

    Returns
    -------
    dict
        Name to score; NaN where a measure is undefined, as the precision of what is never
        predicted.

    References
    ----------
    Efron & Tibshirani 1993, An Introduction to the Bootstrap, doi:10.1201/9780429246593, chapter
    13 on percentile intervals; `interval_shares` on their width.
    """
    values = measure(by_block.sum(axis=0))
    drawn = [measure(sums) for sums in pool(by_block, times, seed, present)]
    result = {}
    for name, value in values.items():
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "All-NaN slice")
            bounds = np.nanquantile(
                np.concatenate([d[name] for d in drawn]), interval_shares(len(by_block)), axis=0
            )
        result[name] = Score(*(float(number) for number in (value, *bounds)))
    return result
