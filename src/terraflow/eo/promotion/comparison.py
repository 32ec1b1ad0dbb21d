"""Compare two models on the pixels that both were tested on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from terraflow.eo.targets.parts import NotComparableError, Sums
from terraflow.eo.targets.target import Target
from terraflow.eo.training.scores import interval_shares, pool, presence
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
    """

    value: float
    low: float
    high: float
    pixels: int
    blocks: int
    better: bool


def compare(
    pixels: pd.DataFrame,
    target: Target,
    *,
    label_counts: Mapping[str, int] | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> Difference:
    """Give the difference of two models' primary measure with its 95 % interval.

    Blocks, not pixels, are resampled, because of spatial autocorrelation; both models are scored
    on the same resample, so that what makes a block hard for both cancels out.

    Parameters
    ----------
    pixels : DataFrame
        Columns block, the target's own, challenger and champion, as `pair` gives them.
    label_counts : mapping, optional
        Stratum to the labelled pixels that its pixels stand for; each for one by default.
    resamples : int
        Of blocks, with replacement.

    References
    ----------
    Efron & Tibshirani 1993, An Introduction to the Bootstrap, doi:10.1201/9780429246593, chapter
    13 on percentile intervals; Roberts et al. 2017, doi:10.1111/ecog.02881, on blocks.
    """
    reference = pixels[target.column]
    decided = {who: pixels[who] for who in ("challenger", "champion")}
    levels = target.levels(pd.concat([reference, *decided.values()]))
    strata = target.strata(reference)
    weights = label_weights(strata, label_counts or {})
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

    def difference(sums: Sums) -> npt.NDArray[np.float64]:
        both = target.measures(np.moveaxis(sums, axis, 0), levels)[target.primary]
        less: npt.NDArray[np.float64] = both[0] - both[1]
        return less

    present = presence(pixels["block"], strata)
    drawn = [difference(sums) for sums in pool(by_block, resamples, seed, present)]
    low, high = np.quantile(np.concatenate(drawn), interval_shares(len(by_block)))
    value = difference(by_block.sum(axis=0))
    better = low > 0 if target.greater_is_better else high < 0
    return Difference(
        float(value), float(low), float(high), len(pixels), len(by_block), bool(better)
    )


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
