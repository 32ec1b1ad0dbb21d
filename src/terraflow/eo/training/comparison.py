"""Compare two models on the pixels that both were tested on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from terraflow.eo.training.scores import Matrices, count_by_block, measures, resample
from terraflow.errors import DataError

__all__ = ["Difference", "NotComparableError", "compare", "pair"]

MIN_COMMON_SHARE = 0.5
#: Decimals of coordinates, 1 cm in degrees: rounding errors of two grids' origins are smaller.
DECIMALS = 7


@dataclass(frozen=True)
class Difference:
    """Macro F1 of the challenger less that of the champion, on the same pixels.

    Attributes
    ----------
    value, low, high : float
        The difference, -1 to 1, and its 95 % interval.
    pixels, blocks : int
        That both were tested on.
    """

    value: float
    low: float
    high: float
    pixels: int
    blocks: int


class NotComparableError(DataError):
    """Two versions were not tested on the same data; the message is a part of the reason."""


def compare(pixels: pd.DataFrame, *, resamples: int = 1000, seed: int = 0) -> Difference:
    """Give the difference of two models' macro F1 with its 95 % interval.

    Blocks, not pixels, are resampled, since neighbouring pixels are alike; both models are scored
    on the same resample, so that what makes a block hard for both cancels out.

    Parameters
    ----------
    pixels : DataFrame
        Columns block, class_name, challenger, champion, as `pair` gives them.
    resamples : int
        Of blocks, with replacement.

    References
    ----------
    Efron & Tibshirani 1993, An Introduction to the Bootstrap, doi:10.1201/9780429246593, chapter
    13 on percentile intervals; Roberts et al. 2017, doi:10.1111/ecog.02881, on blocks.
    """
    names = sorted(set(pixels["class_name"]) | set(pixels["challenger"]) | set(pixels["champion"]))
    number = {
        who: pd.Index(names).get_indexer(pixels[who])
        for who in ("class_name", "challenger", "champion")
    }
    by_block = np.stack(
        [
            count_by_block(number["class_name"], number[who], pixels["block"], len(names))
            for who in ("challenger", "champion")
        ],
        axis=1,
    )
    blocks = len(by_block)
    drawn = [np.tensordot(times, by_block, axes=1) for times in resample(blocks, resamples, seed)]
    low, high = np.quantile(_difference(np.concatenate(drawn)), [0.025, 0.975])
    value = _difference(by_block.sum(axis=0))
    return Difference(float(value), float(low), float(high), len(pixels), blocks)


def pair(challenger: pd.DataFrame, champion: pd.DataFrame) -> pd.DataFrame:
    """Join the held-out predictions of two models where they were tested on the same pixel.

    Parameters
    ----------
    challenger, champion : DataFrame
        Columns x, y (in the same CRS), block, class_name (the reference), predicted.

    Returns
    -------
    DataFrame
        Columns block (the challenger's), class_name, challenger, champion.

    Raises
    ------
    NotComparableError
        Other classes or blocks, or less than half of the challenger's pixels or one block in
        common.
    """
    classes, old = set(challenger["class_name"]), set(champion["class_name"])
    if classes != old:
        raise NotComparableError(
            f"it tells {', '.join(sorted(classes))} apart, the champion {', '.join(sorted(old))}"
        )
    keys = ["x", "y", "class_name"]
    common = (
        challenger.rename(columns={"predicted": "challenger"}).round({"x": DECIMALS, "y": DECIMALS})
    ).merge(
        champion.rename(columns={"predicted": "champion", "block": "old_block"})
        .round({"x": DECIMALS, "y": DECIMALS})[[*keys, "champion", "old_block"]],
        on=keys,
    )  # fmt: skip
    if len(common) < MIN_COMMON_SHARE * len(challenger):
        raise NotComparableError(
            f"only {len(common)} of its {len(challenger)} tested pixels were tested with the same "
            f"class for the champion, and {MIN_COMMON_SHARE:.0%} are expected"
        )
    together = len(common[["block", "old_block"]].drop_duplicates())
    if not together == common["block"].nunique() == common["old_block"].nunique():
        raise NotComparableError(
            "they were tested on blocks that were cut otherwise, and the same [validation] and "
            "labels are expected"
        )
    if (blocks := common["block"].nunique()) < 2:
        raise NotComparableError(f"the tested pixels lie in {blocks} block, and 2 are expected")
    return common[["block", "class_name", "challenger", "champion"]]


def _difference(matrices: Matrices) -> npt.NDArray[np.float64]:
    """Macro F1 of the first less that of the second: (..., 2, class, class) to (...)."""
    macro_f1 = measures(matrices)["macro_f1"]
    return macro_f1[..., 0] - macro_f1[..., 1]
