"""Drift of new pixels against those of the training: measures and their figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.figure import Figure

from terraflow.eo.targets.figures import TITLE, fitted, wrapped

__all__ = ["Drift", "drift_figure", "measure", "population_stability", "resembling"]

BINS = 10
#: Least share of a bin, in place of the 0 whose logarithm is infinite.
EPSILON = 1e-4
#: A mean index that so many pixels have by chance, or by having been filled otherwise.
CHANCE = 0.01
SHOWN = 30


@dataclass(frozen=True)
class Drift:
    """How new pixels differ from those of the training.

    Attributes
    ----------
    psi, outside_per_feature : dict
        Feature to population stability index, and to share (0-1) of new pixels outside the
        training's range.
    outside_range : float
        Share (0-1) of new pixels with any feature outside the training's range. A model of trees
        knows nothing there, and gives what it gives at the edge.
    """

    psi: dict[str, float]
    outside_per_feature: dict[str, float]
    outside_range: float

    @property
    def ranked(self) -> list[str]:
        """Features, the greatest index first."""
        return sorted(self.psi, key=lambda name: self.psi[name], reverse=True)


def measure(training: pd.DataFrame, new: pd.DataFrame) -> Drift:
    """Compare the features of two sets of pixels.

    Parameters
    ----------
    training, new : DataFrame, shape (pixel, feature)
        The same columns; finite.
    """
    outside = (new < training.min()) | (new > training.max())
    psi = {
        name: population_stability(training[name].to_numpy(), new[name].to_numpy())
        for name in training
    }
    per_feature = {name: float(outside[name].mean()) for name in training}
    return Drift(psi, per_feature, float(outside.any(axis=1).mean()))


def resembling(
    training: pd.DataFrame,
    new: pd.DataFrame,
    series: Sequence[str],
    *,
    observed: Sequence[str],
    periods: Sequence[str],
) -> dict[str, str]:
    """Name the periods whose new pixels look like another period of the training.

    By the mean index over bands and indices: that with another period is at most half of that with
    the period itself, which is more than chance. So images that are a month out of season are
    seen, although no single feature has shifted far.

    Parameters
    ----------
    training, new : DataFrame, shape (pixel, feature)
        Finite.
    series : sequence of str
        Bands and indices, each of which has a feature SERIES_PERIOD.
    observed, periods : sequence of str
        Periods of the new pixels, and of the training.

    Returns
    -------
    dict
        Observed period to that which it looks like.
    """
    found = {}
    for period in observed:
        index = {
            other: float(
                np.mean(
                    [
                        population_stability(
                            training[f"{name}_{other}"].to_numpy(),
                            new[f"{name}_{period}"].to_numpy(),
                        )
                        for name in series
                    ]
                )
            )
            for other in periods
        }
        nearest = min(index, key=lambda other: index[other])
        if index[period] > CHANCE and index[nearest] <= index[period] / 2:
            found[period] = nearest
    return found


def population_stability(
    training: npt.NDArray[np.floating], new: npt.NDArray[np.floating]
) -> float:
    """Compute the population stability index of one feature.

    The sum over bins of (q - p) ln(q / p), where p and q are the shares of training and new pixels
    in a bin: 0 for equal shares, below 0.1 little change, above 0.25 a shift. Bins are bounded by
    the deciles of the training; a value that fills a whole bin, as of a constant feature, gets a
    bin of its own, so that a change from it is seen.

    Parameters
    ----------
    training, new : ndarray, shape (pixel,)
        Finite; any unit.

    Returns
    -------
    float
        0 or more; unitless.

    References
    ----------
    Yurdakul & Naranjo 2020, Statistical properties of the population stability index,
    doi:10.21314/JRMV.2020.227.
    """
    deciles = np.quantile(training.astype("float64"), np.arange(1, BINS) / BINS)
    edges, times = np.unique(deciles, return_counts=True)
    edges = np.union1d(edges, np.nextafter(edges[times > 1], np.inf))
    p, q = _shares(training, edges), _shares(new, edges)
    return float(np.sum((q - p) * np.log(q / p)))


def _shares(
    values: npt.NDArray[np.floating], edges: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    bins = np.searchsorted(edges, values.astype("float64"), side="right")
    counts = np.bincount(bins, minlength=len(edges) + 1)
    return np.maximum(counts / len(values), EPSILON)


def drift_figure(
    drift: Drift,
    max_psi: float,
    predicted: Mapping[str, tuple[float, float]],
    note: str,
) -> Figure:
    """Draw the index of the features that changed most, and what the model maps.

    Parameters
    ----------
    drift : Drift
        The 30 features of the greatest index are drawn.
    max_psi : float
        Drawn as a line.
    predicted : dict
        What the model maps, as `Target.summarise` tells, of training and of new pixels; empty
        where there would be no map.
    note : str
        Second line of the title.
    """
    shown = drift.ranked[:SHOWN]
    rows = max(len(shown), 2 * len(predicted))
    figure = Figure(figsize=(12, 2.5 + 0.24 * rows), layout="constrained")
    left, right = figure.subplots(1, 2)
    values = [drift.psi[name] for name in shown]
    left.barh(
        [wrapped(name) for name in shown],
        values,
        color=["C3" if value > max_psi else "C0" for value in values],
    )
    left.axvline(max_psi, color="black", linestyle="--", label=f"threshold {max_psi:g}")
    left.invert_yaxis()
    left.set(xlabel="population stability index")
    left.set_title(f"{len(shown)} of {len(drift.psi)} features")
    left.legend(loc="lower right")
    places = np.arange(len(predicted))
    for offset, label, colour, shares in zip(
        (-0.2, 0.2),
        ("training", "new"),
        ("0.6", "C0"),
        zip(*predicted.values(), strict=True) if predicted else ([], []),
        strict=True,
    ):
        right.barh(places + offset, shares, 0.4, label=label, color=colour)
    right.set_yticks(places, [wrapped(name) for name in predicted])
    right.invert_yaxis()
    right.set(title="What the model maps")
    right.legend()
    figure.suptitle(wrapped(f"Drift against the training data\n{note}", TITLE))
    return fitted(figure)
