"""Compare two models on the pixels that both were tested on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from terraflow.eo.targets.parts import Floats, NotComparableError, Sums
from terraflow.eo.targets.target import Target
from terraflow.eo.training.scores import MIN_BLOCKS, block_moves, margin
from terraflow.eo.training.weights import count_weighted, label_weights

__all__ = ["Difference", "compare", "pair"]

MIN_COMMON_SHARE = 0.5
#: Decimals of coordinates, 1 cm in degrees: rounding errors of two grids' origins are smaller.
DECIMALS = 7


@dataclass(frozen=True)
class Difference:
    """A measure of the challenger less that of the champion, on the same pixels.

    Attributes
    ----------
    value, low, high : float
        The difference, in the unit of the measure, and its 95 % interval.
    pixels, blocks : int
        Number of pixels and blocks that both were tested on.
    better : bool
        Whether the challenger is better beyond chance.
    left_out : list of str
        Strata in too few blocks to have a say.
    """

    value: float
    low: float
    high: float
    pixels: int
    blocks: int
    better: bool
    left_out: list[str]


def compare(
    pixels: pd.DataFrame, target: Target, *, label_counts: Mapping[str, int] | None = None
) -> Difference:
    """Give the difference of two models' primary measure with its 95 % interval.

    The interval comes from how much each block moves the difference, as `scores.margin` tells.
    Both models are scored on the same blocks, so that what makes a block hard for both cancels
    out; none is ever left out, so that the list of levels stays the same. A stratum in fewer than
    3 blocks has no say: of two blocks a model that is no better wins both by luck in up to 1 of 16
    cases.

    Of 2000 simulated pairs of models that are equally good, 1.8 to 4.3 % have one that is better
    beyond chance, also where one stratum lies in 3 of 20 blocks and is right or wrong there as a
    whole, and where errors of numbers are very unequal between blocks. Percentiles of resampled
    blocks would promote up to 8 % there, and up to 31 % where each block keeps some weight in each
    resample (Rubin 1981, doi:10.1214/aos/1176345338).

    Parameters
    ----------
    pixels : DataFrame
        Columns block, the target's own, challenger and champion, as `pair` gives them.
    label_counts : mapping, optional
        Stratum to the labelled pixels that its pixels stand for; each for one by default.

    Raises
    ------
    NotComparableError
        No stratum lies in 3 blocks.
    """
    pixels, fewest, left_out = _without_rare(pixels, target)
    reference = pixels[target.column]
    decided = {who: pixels[who] for who in ("challenger", "champion")}
    levels = target.levels(pd.concat([reference, *decided.values()]))
    weights = label_weights(target.strata(reference), label_counts or {})
    by_block = np.stack(
        [
            count_weighted(
                target,
                reference,
                target.as_predictions(values, levels),
                pixels["block"],
                levels=levels,
                weights=weights,
            )
            for values in decided.values()
        ],
        axis=1,
    )
    axis = 1 - by_block.ndim  # of challenger and champion, from the end

    def difference(sums: Sums) -> dict[str, Floats]:
        both = target.measures(np.moveaxis(sums, axis, 0), levels)[target.primary]
        return {"less": both[0] - both[1]}

    value = float(difference(by_block.sum(axis=0))["less"])
    half = margin(block_moves(by_block, difference)["less"], fewest)
    low, high = value - half, value + half
    better = low > 0 if target.greater_is_better else high < 0
    return Difference(value, low, high, len(pixels), len(by_block), better, left_out)


def _without_rare(pixels: pd.DataFrame, target: Target) -> tuple[pd.DataFrame, int, list[str]]:
    """Leave out the pixels of strata in too few blocks; give the fewest of the rest, and names."""
    strata = target.strata(pixels[target.column])
    blocks = pixels.groupby(strata)["block"].nunique()
    rare = sorted(map(str, blocks.index[blocks < MIN_BLOCKS]))
    if len(rare) == len(blocks):
        raise NotComparableError(
            f"the tested pixels of {' and of '.join(rare)} lie in fewer than {MIN_BLOCKS} blocks, "
            "in which the better model may be so by chance"
        )
    fewest = int(blocks[blocks >= MIN_BLOCKS].min())
    return pixels[~np.isin(strata.astype(str), rare)], fewest, rare


def pair(challenger: pd.DataFrame, champion: pd.DataFrame, target: Target) -> pd.DataFrame:
    """Join the held-out predictions of two models where they were tested on the same pixel.

    Parameters
    ----------
    challenger, champion : DataFrame
        Columns x, y (in the same CRS), block, the target's own (the reference) and predicted.

    Returns
    -------
    DataFrame
        Columns block (the challenger's), the target's own, challenger, champion.

    Raises
    ------
    NotComparableError
        Other reference values or blocks, or less than half of the challenger's pixels or one
        block in common.
    """
    column = target.column
    target.check_comparable(challenger[column], champion[column])
    keys = ["x", "y", column]
    places = {"x": DECIMALS, "y": DECIMALS}
    mine = challenger.rename(columns={"predicted": "challenger"}).round(places)
    other = champion.rename(columns={"predicted": "champion", "block": "old_block"}).round(places)
    common = mine.merge(other[[*keys, "champion", "old_block"]], on=keys)
    if len(common) < MIN_COMMON_SHARE * len(challenger):
        raise NotComparableError(
            f"only {len(common)} of its {len(challenger)} tested pixels were tested with the same "
            f"reference for the champion, and {MIN_COMMON_SHARE:.0%} are expected"
        )
    together = len(common[["block", "old_block"]].drop_duplicates())
    if not together == common["block"].nunique() == common["old_block"].nunique():
        raise NotComparableError(
            "they were tested on blocks that were cut otherwise, and the same [validation] and "
            "labels are expected"
        )
    if (blocks := common["block"].nunique()) < 2:
        raise NotComparableError(f"the tested pixels lie in {blocks} block, and 2 are expected")
    return common[["block", column, "challenger", "champion"]]
