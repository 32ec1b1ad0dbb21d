"""A map parted into strata, and random pixels drawn from each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from terraflow.eo.targets.area.design import Stratum
from terraflow.eo.targets.area.pixel_areas import PixelAreas
from terraflow.errors import ConfigError, DataError

__all__ = ["NUMBER_STRATA", "STRATA", "draw_pixels", "part_map", "part_numbers"]

#: What strata are made of; the first is the default.
STRATA = ("classes", "classes+confidence")
#: Share of a value's pixels, those of lowest confidence, that become a stratum of their own.
UNSURE = 1 / 3
#: What strata of a map of numbers are made of, and how many there are.
NUMBER_STRATA, RANGES = "values", 5
Places = npt.NDArray[np.int64]


def part_map(
    values: npt.NDArray[np.uint8],
    confidence: npt.NDArray[np.uint8] | None,
    names: Mapping[int, str],
    areas: PixelAreas,
    *,
    by: str = "",
) -> tuple[npt.NDArray[np.uint8], dict[str, Stratum]]:
    """Part a map by its values; by confidence, too, the third of lowest confidence is apart.

    Parameters
    ----------
    values : ndarray, shape (y, x), uint8
        0 is nodata.
    confidence : ndarray, shape (y, x), uint8, or None
        Per cent.
    names : mapping
        Value to what it stands for.
    by : {"", "classes", "classes+confidence"}

    Returns
    -------
    ndarray, shape (y, x), uint8
        Number of the stratum from 1, in the order of the dict; 0 is nodata.
    dict
        Name to stratum; of values that the map has.

    Raises
    ------
    ConfigError
        `by` is not known.
    DataError
        The map has no pixel with a value, or no confidence.
    """
    if by and by not in STRATA:
        raise ConfigError(f"--strata {by} is not known; write {' or '.join(STRATA)}.")
    sure = np.zeros_like(values)
    limits: dict[int, int] = {}
    if by == STRATA[1]:
        if confidence is None:
            raise DataError(f"The map has no band of confidence; draw with --strata {STRATA[0]}.")
        for value in names:
            limits[value] = _limit(np.bincount(confidence[values == value], minlength=256))
        table = np.zeros(256, "uint8")
        table[list(limits)] = list(limits.values())
        sure = (confidence > table[values]).astype("uint8")
    combined = np.where(values > 0, 2 * values.astype("uint16") + sure, 0)
    sizes = np.bincount(combined.ravel(), minlength=2 * max(names) + 2)
    area_m2 = areas.sums(combined, len(sizes))
    strata: dict[str, Stratum] = {}
    numbers = np.zeros(len(sizes), "uint8")
    for number in np.flatnonzero(sizes[2:]) + 2:
        level = names[int(number) // 2]
        word = "above" if number % 2 else "up to"
        limit = limits.get(int(number) // 2)
        name = level if limit is None else f"{level}, confidence {word} {limit} %"
        strata[name] = Stratum(
            level=level, pixels=int(sizes[number]), area_m2=float(area_m2[number])
        )
        numbers[number] = len(strata)
    if not strata:
        raise DataError("The map has no pixel with a value; points can't be drawn from it.")
    return numbers[combined], strata


def part_numbers(
    values: npt.NDArray[np.float64], areas: PixelAreas, *, by: str = ""
) -> tuple[npt.NDArray[np.uint8], dict[str, Stratum]]:
    """Part a map of numbers into five ranges of about equal area.

    There are fewer where many pixels have one number. A range holds its upper limit, and not its
    lower one, which is that of the range before; the first holds both.

    Parameters
    ----------
    values : ndarray, shape (y, x), float64
        In the map's unit; NaN is nodata.
    by : {"", "values"}

    Returns
    -------
    ndarray, shape (y, x), uint8
        Number of the stratum from 1, in the order of the dict; 0 is nodata.
    dict
        Name to stratum, with the mean and the standard deviation of its numbers over its area.

    Raises
    ------
    ConfigError
        `by` is not known.
    DataError
        The map has no pixel with a value.
    """
    if by and by != NUMBER_STRATA:
        raise ConfigError(f"--strata {by} is not for a map of numbers; write {NUMBER_STRATA}.")
    area_of_pixels = np.concatenate([block for _, block in areas.blocks()])
    known = np.isfinite(values) & (area_of_pixels > 0)
    if not known.any():
        raise DataError("The map has no pixel with a value; points can't be drawn from it.")
    numbers = values[known]
    pixel_m2 = area_of_pixels[known]
    order = np.argsort(numbers)
    below = np.cumsum(pixel_m2[order])
    parts = np.arange(1, RANGES) / RANGES * below[-1]
    # limits are numbers of the map, so that no range is empty
    upper = np.unique([*numbers[order[np.searchsorted(below, parts)]], numbers[order[-1]]])
    stratum = np.searchsorted(upper, numbers)
    pixels = np.bincount(stratum)
    area_m2 = np.bincount(stratum, pixel_m2)
    shift = numbers - upper[stratum]  # 0 where all are one number, without rounding
    mean = np.bincount(stratum, pixel_m2 * shift) / area_m2
    squares = np.bincount(stratum, pixel_m2 * (shift - mean[stratum]) ** 2) / area_m2
    lower = [numbers[order[0]], *upper[:-1]]
    strata = {
        f"range {i + 1}: {lower[i]:.4g} to {upper[i]:.4g}": Stratum(
            pixels=int(pixels[i]),
            area_m2=float(area_m2[i]),
            mean=float(upper[i] + mean[i]),
            spread=float(np.sqrt(squares[i])),
        )
        for i in range(len(upper))
    }
    numbered = np.zeros(values.shape, "uint8")
    numbered[known] = stratum + 1
    return numbered, strata


def draw_pixels(
    strata: npt.NDArray[np.uint8], counts: Sequence[int], areas: PixelAreas, seed: int
) -> list[Places]:
    """Draw pixels at random from each stratum, without replacement, by their area.

    Each gets the key log(u) / area with a uniform u, and the largest keys are taken: where pixels
    shrink towards the poles, a square metre has the same chance everywhere in a stratum.

    Parameters
    ----------
    strata : ndarray, shape (y, x), uint8
        As `part_map` and `part_numbers` give them.
    counts : sequence of int
        Pixels of each stratum, at most as many as it has.

    Returns
    -------
    list of ndarray, shape (count, 2), int64
        Row and column of each drawn pixel of a stratum.

    References
    ----------
    Efraimidis & Spirakis 2006, doi:10.1016/j.ipl.2005.11.003.
    """
    random = np.random.default_rng(seed)
    keys = [np.empty(0) for _ in counts]
    places = [np.empty((0, 2), dtype="int64") for _ in counts]
    for rows, block in areas.blocks():
        with np.errstate(divide="ignore"):  # what has no area is not drawn
            key = np.log(random.random(block.shape)) / block
        here = strata[rows]
        for i, count in enumerate(counts):
            row, column = np.nonzero(here == i + 1)
            found = np.concatenate([keys[i], key[row, column]])
            at = np.concatenate([places[i], np.stack([row + rows.start, column], axis=1)])
            best = np.argsort(found, kind="stable")[::-1][:count]
            keys[i], places[i] = found[best], at[best]
    return places


def _limit(histogram: npt.NDArray[np.intp]) -> int:
    """Give the confidence up to which a third of the pixels lie, or all of them."""
    below = np.cumsum(histogram)
    return int(np.searchsorted(below, UNSURE * below[-1]))
