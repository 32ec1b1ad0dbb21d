"""Estimates from a probability sample: shares, ratios and means of a stratified design."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import ndtri, stdtrit

from terraflow.eo.config.record import Record
from terraflow.errors import DataError

__all__ = ["Design", "Interval", "Stratum"]

Floats = npt.NDArray[np.float64]
LEVEL = 0.95
Z = float(ndtri((1 + LEVEL) / 2))


class Stratum(Record):
    """A part of a map that is sampled for itself.

    Attributes
    ----------
    level : str
        What the map says of its pixels, where all of them have one value by name.
    pixels : int
        In the whole map.
    area_m2 : float
        On the ellipsoid.
    mean, spread : float or None
        Mean and standard deviation over its area of what the map says, in the map's unit; None
        where values have names.
    """

    level: str = ""
    pixels: int
    area_m2: float
    mean: float | None = None
    spread: float | None = None


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95 % interval, all in one unit.

    Attributes
    ----------
    value, low, high : float
        NaN where the sample can't tell.
    standard_error : float
        0 where all points of each stratum agree; the interval of a share is not of width 0 then.
    """

    value: float
    low: float
    high: float
    standard_error: float

    def scaled(self, factor: float) -> Interval:
        """Give it in another unit."""
        return Interval(*(factor * number for number in vars(self).values()))

    def to_dict(self) -> dict[str, float] | None:
        """Return plain values of JSON, which has no NaN: None where the sample can't tell."""
        return None if math.isnan(self.value) else dict(vars(self))


NOT_ESTIMABLE = Interval(*[math.nan] * 4)


class Design:
    """A stratified random sample of a map's pixels, or of clusters of them.

    A stratum weighs as much as its area, and each of its points alike. The variance is that of a
    ratio of two weighted sums, in first order; where a cluster holds several points, clusters are
    what was drawn, and the variance is that between them. Where a cluster reaches over strata,
    clusters are the units over all strata together, which is the safe side.

    Parameters
    ----------
    stratum : sequence of str, shape (point,)
    strata : mapping
        All strata of the map by name.
    cluster : sequence, shape (point,), optional
        What of each point was drawn together; None where each was drawn by itself.

    Raises
    ------
    DataError
        A stratum is unknown, or has too few points to tell a variance.

    References
    ----------
    Stehman 2014, doi:10.1080/01431161.2014.930207, equations 3 and 25 to 31; Olofsson et al. 2014,
    doi:10.1016/j.rse.2014.02.015, equations 5 to 11, which these are where strata are the map's
    values; Särndal, Swensson & Wretman 1992, doi:10.1007/978-1-4612-4378-6, chapters 4 and 5, on
    clusters and ratios; Satterthwaite 1946, doi:10.2307/3002019, on degrees of freedom.
    """

    def __init__(
        self,
        stratum: Sequence[str],
        strata: Mapping[str, Stratum],
        cluster: Sequence[Any] | None = None,
    ) -> None:
        names = [name for name, each in strata.items() if each.pixels]
        h = pd.Index(names).get_indexer(pd.Index(stratum))
        if (h < 0).any():
            unknown = sorted({str(s) for s, i in zip(stratum, h, strict=True) if i < 0})
            raise DataError(
                f"Points lie in the strata {', '.join(unknown)}, and the sample has "
                f"{', '.join(names)}; read them with the file that was drawn with them."
            )
        pixels = np.array([strata[name].pixels for name in names])
        area = np.array([strata[name].area_m2 for name in names])
        n = np.bincount(h, minlength=len(names))
        self.area_m2 = float(area.sum())
        self._unit, self._group, by_stratum = _units(h, cluster)
        self._units = np.bincount(self._group, minlength=len(names) if by_stratum else 1)
        drawn_alone = cluster is None
        # where all pixels of a stratum were looked at, nothing is left to chance
        self._census = (n == pixels) & drawn_alone if by_stratum else np.zeros(1, bool)
        self._left = 1 - n / pixels if drawn_alone else np.ones(len(self._units))
        lone = (self._units < 2) & ~self._census
        if (few := np.flatnonzero((n == 0) | lone)).size:
            told = ", ".join(f"{names[i]} ({pixels[i]} px, {n[i]} points)" for i in few)
            raise DataError(
                f"Nothing can be estimated: the sample has {told}, and an estimate needs at least "
                "2 points, or clusters, in each stratum; fill in more points, or draw a larger "
                "sample."
            )
        self._weight = (area / self.area_m2 / n)[h]

    def mean(self, values: npt.ArrayLike) -> Interval:
        """Estimate the mean over the map's area of numbers in any unit: shape (point,), float64.

        The interval is Student's. It has width 0 where the points of each stratum have one number:
        numbers have no bounds that would tell more.
        """
        y = np.asarray(values, dtype="float64")
        return self._students(y, np.ones_like(y))

    def share(self, has: npt.ArrayLike) -> Interval:
        """Estimate the share (0-1) of the map's area that has something: bool, shape (point,).

        References
        ----------
        Yan & Su 2010, doi:10.1198/sbr.2009.0049: where all points of each stratum agree, Wilson's
        limits of the strata are added as their squares.
        """
        y = np.asarray(has, dtype="float64")
        return self._interval(y, np.ones_like(y), self._limits_of_share(y))

    def ratio(self, has: npt.ArrayLike, among: npt.ArrayLike) -> Interval:
        """Estimate the share (0-1) that has something, of the area that something else has.

        References
        ----------
        Wilson 1927, doi:10.1080/01621459.1927.10502953, where all points agree, with Kish's
        effective number of points, Survey Sampling 1965, section 11.7.
        """
        y, x = np.asarray(has, dtype="float64"), np.asarray(among, dtype="float64")
        if not x.any():
            return NOT_ESTIMABLE
        return self._interval(y * x, x, self._limits_of_ratio(y * x, x))

    def _interval(self, y: Floats, x: Floats, limits: tuple[float, float]) -> Interval:
        """Give a share (0-1) by Student's t; by `limits` where that has no width."""
        found = self._students(y, x)
        if not found.standard_error:
            return Interval(found.value, *limits, 0.0)
        low, high = max(0.0, found.low), min(1.0, found.high)
        return Interval(found.value, low, high, found.standard_error)

    def _students(self, y: Floats, x: Floats) -> Interval:
        """Give a ratio of weighted sums by Student's t."""
        whole = float(self._weight @ x)
        value = float(self._weight @ y) / whole
        rest = np.bincount(self._unit, self._weight * (y - value * x) / whole)
        mean = np.bincount(self._group, rest, len(self._units)) / np.maximum(self._units, 1)
        squares = np.bincount(self._group, (rest - mean[self._group]) ** 2, len(self._units))
        free = np.maximum(self._units - 1, 1)
        parts = self._left * self._units / free * squares
        variance = float(parts.sum())
        if variance <= (1e-10 * np.abs(y).max()) ** 2:  # rounding alone
            return Interval(value, value, value, 0.0)
        freedom = variance**2 / float((parts**2 / free).sum())
        error = math.sqrt(variance)
        margin = float(stdtrit(freedom, (1 + LEVEL) / 2)) * error
        return Interval(value, value - margin, value + margin, error)

    def _limits_of_share(self, y: Floats) -> tuple[float, float]:
        of_unit = np.bincount(self._unit, self._weight), np.bincount(self._unit, self._weight * y)
        share, found = (np.bincount(self._group, u, len(self._units)) for u in of_unit)
        part = found / share
        low, high = np.where(self._census, part, _wilson(part, self._units))
        below, above = (
            math.sqrt(float((share**2 * (limit - part) ** 2).sum())) for limit in (low, high)
        )
        return max(0.0, float(found.sum()) - below), min(1.0, float(found.sum()) + above)

    def _limits_of_ratio(self, y: Floats, x: Floats) -> tuple[float, float]:
        of_unit = np.bincount(self._unit, self._weight * x)
        value = float(self._weight @ y) / float(of_unit.sum())
        if self._census[self._group[of_unit > 0]].all():
            return value, value
        low, high = _wilson(np.array(value), of_unit.sum() ** 2 / (of_unit**2).sum())
        return float(low), float(high)


def _units(
    h: npt.NDArray[np.intp], cluster: Sequence[Any] | None
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], bool]:
    """Give each point's unit, each unit's group, and whether the groups are the strata."""
    if cluster is None:
        return np.arange(len(h)), h, True
    unit = pd.factorize(np.asarray(cluster, dtype=object))[0]
    stratum_of = pd.Series(h).groupby(unit)
    if (stratum_of.nunique() > 1).any():
        return unit, np.zeros(unit.max() + 1, dtype=np.intp), False
    return unit, stratum_of.first().to_numpy(), True


def _wilson(share: Floats, n: npt.ArrayLike) -> Floats:
    """Give both of Wilson's limits of shares of n points each: shape (2, ...)."""
    n = np.asarray(n, dtype="float64")
    middle = (share + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z / (1 + Z**2 / n) * np.sqrt(share * (1 - share) / n + Z**2 / (4 * n**2))
    return np.stack([middle - half, middle + half])
