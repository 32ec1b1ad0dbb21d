"""Mean of a quantity over a map's area, and the map's errors, from a probability sample of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from terraflow.eo.targets.area.design import Design, Interval, Stratum
from terraflow.errors import DataError

__all__ = ["MEASURES", "estimate_means", "mean_rows", "overall_spread"]

#: Measure to what it is for a reader, in the order in which they are shown.
MEASURES = {
    "mean": "mean of the reference",
    "mean_with_map": "mean of the reference, with the map's help",
    "bias": "bias of the map",
    "rmse": "RMSE of the map",
}


def estimate_means(sample: pd.DataFrame, strata: Mapping[str, Stratum]) -> dict[str, Any]:
    """Estimate the mean of the reference, and bias and RMSE of the map, from a stratified sample.

    The mean is estimated twice: from the reference alone, and by the difference estimator, which is
    the map's mean less the map's bias. The better the map, the narrower is the second one's
    interval. An error is mapped less reference. The limits of the RMSE are the roots of those of
    the mean square error.

    Parameters
    ----------
    sample : DataFrame
        Columns stratum, mapped and reference (float64, in the map's unit), and cluster where points
        were drawn together.
    strata : mapping
        All strata of the map, with the mean of each.

    Returns
    -------
    dict
        Plain values of JSON: points, strata, map_mean (of all pixels), and measures: mean,
        mean_with_map, bias and rmse with their 95 % intervals, in the map's unit.

    Raises
    ------
    DataError
        The sample is of no map of numbers, or a stratum has too few points.

    References
    ----------
    Särndal, Swensson & Wretman 1992, doi:10.1007/978-1-4612-4378-6, chapter 3 on stratified means
    and chapter 6 on the difference estimator.
    """
    means = [each.mean for each in strata.values() if each.mean is not None]
    if len(means) < len(strata):
        raise DataError(
            "The sample was drawn from a map whose values have names, and a mean is of numbers; "
            "read its points in the project that made the map."
        )
    map_mean = float(np.average(means, weights=[each.area_m2 for each in strata.values()]))
    cluster = sample["cluster"].tolist() if "cluster" in sample else None
    design = Design(sample["stratum"].tolist(), strata, cluster)
    reference = sample["reference"].to_numpy("float64")
    error = sample["mapped"].to_numpy("float64") - reference
    bias = design.mean(error)
    with_map = Interval(
        map_mean - bias.value, map_mean - bias.high, map_mean - bias.low, bias.standard_error
    )
    found = (design.mean(reference), with_map, bias, _root(design.mean(error**2)))
    return {
        "points": len(sample),
        "strata": len(strata),
        "map_mean": map_mean,
        "measures": {name: value.to_dict() for name, value in zip(MEASURES, found, strict=True)},
    }


def _root(square: Interval) -> Interval:
    """Give the root of a mean square; the standard error is that of the first order."""
    value = math.sqrt(square.value)
    error = square.standard_error / (2 * value) if value else 0.0
    return Interval(value, math.sqrt(max(0.0, square.low)), math.sqrt(square.high), error)


def overall_spread(strata: Mapping[str, Stratum]) -> float:
    """Give the standard deviation of a whole map's numbers: within strata, and between them."""
    area_m2 = np.array([each.area_m2 for each in strata.values()])
    mean = np.array([each.mean or 0 for each in strata.values()])
    mean -= mean[0]  # without rounding where there is one stratum
    within = np.array([each.spread or 0 for each in strata.values()]) ** 2
    between = (mean - np.average(mean, weights=area_m2)) ** 2
    return float(np.sqrt(np.average(within + between, weights=area_m2)))


def mean_rows(estimates: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Put what `estimate_means` gives into words: label and number with its interval."""
    rows = [("mean of the map", f"{estimates['map_mean']:.4g}")]
    for name, label in MEASURES.items():
        value, low, high = (estimates["measures"][name][key] for key in ("value", "low", "high"))
        interval = f"{low:.4g} to {high:.4g}" if low < high else "no interval"
        rows.append((label, f"{value:.4g} ({interval})"))
    return rows
