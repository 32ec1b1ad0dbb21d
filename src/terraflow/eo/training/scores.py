"""Scores with intervals, from sums by block."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping

import numpy as np
import numpy.typing as npt
from scipy.special import expit, logit, stdtrit

from terraflow.eo.targets.parts import Floats, Score, Sums

__all__ = ["MIN_BLOCKS", "Measure", "block_moves", "margin", "resample", "with_intervals"]

#: Gives measures of sums: name to an array of the shape of their leading axes.
Measure = Callable[[Sums], dict[str, Floats]]

#: Fewer blocks tell nothing of how much such blocks differ.
MIN_BLOCKS = 3
_AT_ONCE = 50  # resamples, which bounds memory where blocks are many
#: Share of a block by which its weight is changed, to see how much that moves a measure.
STEP = 1e-4
#: Share of the greatest move below which a move is rounding.
ROUNDING = 1e-6
#: Quantile of the normal distribution for 95 % intervals.
_Z = 1.959964


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


def block_moves(by_block: Sums, measure: Measure) -> dict[str, Floats]:
    """Tell how much each measure moves with the weight of each block: its derivative.

    No block is left out, so that a stratum that lies in a few has its part in all that is computed.

    Parameters
    ----------
    by_block : ndarray, shape (block, ...)
        Sums, as `Target.count` gives them.

    Returns
    -------
    dict
        Name to ndarray of shape (block,), whose sum is 0.
    """
    total = by_block.sum(axis=0)
    more, less = (measure(total + step * by_block) for step in (STEP, -STEP))
    return {name: (more[name] - less[name]) / (2 * STEP) for name in more}


def margin(moves: Floats, blocks: int = 0) -> float:
    """Give half the width of a 95 % interval, by what blocks move (infinitesimal jackknife).

    Blocks, not pixels, are independent, because of spatial autocorrelation. Where a few of them
    make most of the variance, as those of a rare stratum do, it is known badly: degrees of freedom
    are about as many as these are, which is the cautious side. As a count it is a third of the
    true one where blocks are alike, since a large square may be chance. So it is corrected for
    that, as far as the blocks that are known to tell allow.

    Parameters
    ----------
    moves : ndarray, shape (block,), float64
        As `block_moves` gives them.
    blocks : int, default 0
        Blocks that are known to tell of each part of the measure; of 0 nothing is corrected.

    References
    ----------
    Efron 1982, The Jackknife, the Bootstrap and Other Resampling Plans,
    doi:10.1137/1.9781611970319, chapter 6; Satterthwaite 1946, doi:10.2307/3002019, each block's
    square being one component, whose own square is three times its variance's; Roberts et al.
    2017, doi:10.1111/ecog.02881, on blocks.
    """
    squares = moves**2
    if not squares.any():
        return 0.0
    telling = int((squares > ROUNDING**2 * squares.max()).sum())
    variance = squares.sum() * telling / max(telling - 1, 1)
    counted = squares.sum() ** 2 / (squares**2).sum()
    freedom = max(counted, min(3 * counted - 2, blocks - 1))
    return float(stdtrit(freedom, 0.975) * math.sqrt(variance))


def with_intervals(
    by_block: Sums, measure: Measure, blocks: Mapping[str, float] | None = None
) -> dict[str, Score]:
    """Give each measure over all blocks together, and its 95 % interval.

    That of a share is computed of the logarithm of its odds, and so stays between 0 and 1. It is
    not wider than Wilson's, with blocks as trials: a block can't tell less than if all of it were
    right or all of it wrong. Wilson's alone holds for a share of none or all, and for one that
    fewer than 3 blocks tell of.

    Parameters
    ----------
    by_block : ndarray, shape (block, ...)
        Sums, as `Target.count` gives them.
    blocks : dict, optional
        Name of a measure that is a share to the number of blocks that tell of it, as
        `Target.effective_blocks` gives them.

    Returns
    -------
    dict
        Name to score; NaN where a measure is undefined, as the user's accuracy of what is never
        predicted.

    References
    ----------
    Wilson 1927, doi:10.1080/01621459.1927.10502953.
    """
    values, moves = measure(by_block.sum(axis=0)), block_moves(by_block, measure)
    trials = blocks or {}
    return {
        name: _share(float(value), moves[name], trials[name])
        if name in trials
        else _number(float(value), moves[name])
        for name, value in values.items()
    }


def _number(value: float, moves: Floats) -> Score:
    if math.isnan(value):
        return Score(math.nan, math.nan, math.nan)
    half = margin(moves)
    return Score(value, value - half, value + half)


def _share(value: float, moves: Floats, blocks: float) -> Score:
    if math.isnan(value) or not blocks:
        return Score(math.nan, math.nan, math.nan)
    widest = _wilson(value, blocks)
    if value in (0, 1) or blocks < MIN_BLOCKS:
        return widest
    odds, half = logit(value), margin(moves / (value * (1 - value)))
    low, high = float(expit(odds - half)), float(expit(odds + half))
    return Score(value, max(low, widest.low), min(high, widest.high))


def _wilson(share: float, trials: float) -> Score:
    z2 = _Z**2 / trials
    middle = (share + z2 / 2) / (1 + z2)
    half = math.sqrt(share * (1 - share) * z2 + z2**2 / 4) / (1 + z2)
    return Score(share, max(middle - half, 0.0), min(middle + half, 1.0))
