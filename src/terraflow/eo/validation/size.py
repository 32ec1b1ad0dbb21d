"""How many points a sample needs, and how many of them each stratum gets."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from terraflow.errors import ConfigError

__all__ = ["ALLOCATIONS", "allocate", "points_needed"]

ALLOCATIONS = ("proportional", "equal", "neyman")
#: Without two points a stratum's variance can't be told.
LEAST = 2
Floats = npt.NDArray[np.float64]


def points_needed(
    shares: Floats, spreads: Floats, target_se: float, pixels: int, *, most: float = 1
) -> int:
    """Give the points with which the overall accuracy, or a mean, has a standard error.

    Parameters
    ----------
    shares : ndarray, shape (stratum,)
        Of the area, 0 to 1.
    spreads : ndarray, shape (stratum,)
        Expected standard deviation of a point's being right, sqrt(U (1 - U)) with the user's
        accuracy U; or of the reference, in the unit of its numbers.
    target_se : float
        Above 0, and below `most`; in the unit of `spreads`.
    pixels : int
        Of the map.
    most : float
        1 for a share; infinite for numbers.

    Raises
    ------
    ConfigError
        `target_se` is out of its range.

    References
    ----------
    Olofsson et al. 2014, doi:10.1016/j.rse.2014.02.015, equation 13.
    """
    if not 0 < target_se < most:
        given = "one as 0.01" if most == 1 else "one above 0, in the unit of the map"
        raise ConfigError(f"--target-se {target_se} is no standard error; give {given}.")
    variance = target_se**2 + float(shares @ spreads**2) / pixels
    return math.ceil(float(shares @ spreads) ** 2 / variance - 1e-9)


def allocate(
    points: int,
    sizes: npt.NDArray[np.int64],
    shares: Floats,
    spreads: Floats,
    how: str = "proportional",
) -> npt.NDArray[np.int64]:
    """Part the points of a sample among strata.

    Each stratum has at least two points, or all of its pixels.

    Parameters
    ----------
    sizes : ndarray, shape (stratum,)
        Pixels, which no stratum's points exceed.
    how : {"proportional", "equal", "neyman"}
        By area, alike, or by area times spread, which makes the variance of the overall accuracy,
        or of the mean of numbers, least.

    Raises
    ------
    ConfigError
        `how` is not known, or the points are too few or more than the map has pixels.

    References
    ----------
    Cochran 1977, Sampling Techniques, chapter 5, on Neyman's allocation; Webster's method of
    divisors, Balinski & Young 1980, doi:10.1073/pnas.77.1.1, on whole numbers.
    """
    if how not in ALLOCATIONS:
        raise ConfigError(f"--allocation {how} is not known; write {', '.join(ALLOCATIONS)}.")
    least = np.minimum(LEAST, sizes)
    if not least.sum() <= points <= sizes.sum():
        raise ConfigError(
            f"--points {points} can't be drawn from {len(sizes)} strata of {sizes.sum()} pixels; "
            f"give {least.sum()} to {sizes.sum()}."
        )
    weights = {
        "proportional": shares,
        "equal": np.ones_like(shares),
        "neyman": shares * spreads,
    }[how]
    counts = least.copy()
    for _ in range(points - int(least.sum())):
        due = np.where(counts < sizes, weights / (2 * counts + 1), -1)
        counts[int(due.argmax())] += 1
    return counts
