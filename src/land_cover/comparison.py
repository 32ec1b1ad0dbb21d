"""Compare two models on the pixels that both were tested on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from terraflow.errors import DataError

__all__ = ["Difference", "NotComparableError", "compare", "macro_f1", "pair"]

MIN_COMMON_SHARE = 0.5
#: Decimals of coordinates, 1 cm in degrees: rounding errors of two grids' origins are smaller.
DECIMALS = 7
_AT_ONCE = 50  # resamples, which bounds memory where blocks are many


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
    block, blocks = pd.factorize(pixels["block"])
    counts = np.stack(
        [
            _count(block, pixels["class_name"], pixels[who], names)
            for who in ("challenger", "champion")
        ],
        axis=1,
    ).astype("float64")  # whole numbers still, and matrix products are many times faster
    whole = macro_f1(counts.sum(axis=0))
    random = np.random.default_rng(seed)
    differences = []
    for start in range(0, resamples, _AT_ONCE):
        size = min(_AT_ONCE, resamples - start)
        times = random.multinomial(len(blocks), np.full(len(blocks), 1 / len(blocks)), size=size)
        scores = macro_f1(np.tensordot(times, counts, axes=1))
        differences.append(scores[:, 0] - scores[:, 1])
    low, high = np.quantile(np.concatenate(differences), [0.025, 0.975])
    return Difference(float(whole[0] - whole[1]), float(low), float(high), len(pixels), len(blocks))


def macro_f1(matrices: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Average the F1 of the classes that the reference has.

    Parameters
    ----------
    matrices : ndarray, shape (..., reference, predicted)
        Pixels.

    Returns
    -------
    ndarray, shape (...)
        0 to 1.
    """
    hits = np.diagonal(matrices, axis1=-2, axis2=-1)
    reference, predicted = matrices.sum(axis=-1), matrices.sum(axis=-2)
    f1 = 2 * hits / np.maximum(reference + predicted, 1)
    mean: npt.NDArray[np.float64] = np.mean(f1, axis=-1, where=reference > 0)
    return mean


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
        Other classes, or less than half of the challenger's pixels or one block in common.
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
        champion.rename(columns={"predicted": "champion"})
        .round({"x": DECIMALS, "y": DECIMALS})[[*keys, "champion"]],
        on=keys,
    )  # fmt: skip
    if len(common) < MIN_COMMON_SHARE * len(challenger):
        raise NotComparableError(
            f"only {len(common)} of its {len(challenger)} tested pixels were tested with the same "
            f"class for the champion, and {MIN_COMMON_SHARE:.0%} are expected"
        )
    if (blocks := common["block"].nunique()) < 2:
        raise NotComparableError(f"the tested pixels lie in {blocks} block, and 2 are expected")
    return common[["block", "class_name", "challenger", "champion"]]


def _count(
    block: npt.NDArray[np.intp], reference: pd.Series, predicted: pd.Series, names: list[str]
) -> npt.NDArray[np.int64]:
    """Count a confusion matrix a block: shape (block, reference, predicted)."""
    shape = (int(block.max()) + 1, len(names), len(names))
    row, column = (pd.Index(names).get_indexer(values) for values in (reference, predicted))
    cells = np.ravel_multi_index((block, row, column), shape)
    return np.bincount(cells, minlength=int(np.prod(shape))).reshape(shape)
