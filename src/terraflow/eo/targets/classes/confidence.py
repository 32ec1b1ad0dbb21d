"""Confidences that say how often a class is right, and sets of classes that hold the true one."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from terraflow.eo.targets.calibration import SHARE, Calibration, held_out_quantile

__all__ = ["calibrate", "calibration_error", "reliability", "set_sizes"]

BINS = 15
#: Confidences at which a curve is kept.
KNOTS = np.linspace(0, 1, 101)
Floats = npt.NDArray[np.float64]
Curve = tuple[Floats, Floats]


def calibrate(
    probabilities: Floats,
    reference: npt.NDArray[np.int64],
    folds: npt.ArrayLike,
    weights: Floats,
) -> Calibration:
    """Learn from held-out probabilities how often the most probable class is right.

    Each curve is fitted on all folds but one, and scored on that one by the logarithmic loss; the
    best is then fitted on all. It is a curve of one confidence to another, which leaves the class
    as it is. The set of a pixel has each class whose probability is not below a bound, which nine
    of ten true classes keep.

    Parameters
    ----------
    probabilities : ndarray, shape (sample, class), float64
        Of models that have not seen the sample's block.
    reference : ndarray, shape (sample,), int64
        Number of the true class.
    folds : array-like, shape (sample,)
    weights : ndarray, shape (sample,), float64
        How many labelled pixels each sample stands for.

    References
    ----------
    Guo et al. 2017, arXiv:1706.04599, and Gupta & Ramdas 2022, arXiv:2107.08353, on calibration of
    the most probable class; Sadinle, Lei & Wasserman 2019, doi:10.1080/01621459.2017.1395341, on
    sets.
    """
    folds = np.asarray(folds)
    confidence = probabilities.max(axis=1)
    right = (probabilities.argmax(axis=1) == reference).astype("float64")
    truth = probabilities[np.arange(len(reference)), reference]
    tried = {
        name: _held_out(fit, confidence, right, folds, weights) for name, fit in CURVES.items()
    }
    method = min(tried, key=lambda name: _log_loss(tried[name], right, weights))
    curve = CURVES[method](confidence, right, weights)
    inside = np.zeros(len(truth))
    for fold in np.unique(folds):
        others, here = folds != fold, folds == fold
        bound = _bound(truth[others], weights[others])
        inside[here] = _sets(probabilities[here], bound)[np.arange(here.sum()), reference[here]]
    return Calibration(
        method=method,
        confidence=[] if method == "none" else curve[0].tolist(),
        accuracy=[] if method == "none" else curve[1].tolist(),
        error_before=calibration_error(confidence, right, weights),
        error=calibration_error(tried[method], right, weights),
        set_probability=_bound(truth, weights),
        coverage=float(np.average(inside, weights=weights)),
    )


def set_sizes(probabilities: npt.NDArray[np.floating], bound: float) -> npt.NDArray[np.int64]:
    """Count the classes in each pixel's set, shape (pixel,), of probabilities (pixel, class)."""
    sizes: npt.NDArray[np.int64] = _sets(probabilities, bound).sum(axis=1)
    return sizes


def reliability(
    confidence: Floats, right: npt.ArrayLike, weights: Floats | None = None
) -> tuple[Floats, Floats, Floats]:
    """Give mean confidence, share that is right, and weight of each bin of confidence.

    Returns
    -------
    tuple of ndarray, shape (bin,)
        Bins of equal width without a sample are left out.
    """
    if weights is None:
        weights = np.ones(len(confidence))
    number = np.minimum((confidence * BINS).astype(int), BINS - 1)
    weight: Floats = np.bincount(number, weights, BINS).astype("float64")
    filled = weight > 0
    told = np.bincount(number, weights * confidence, BINS)[filled] / weight[filled]
    found = np.bincount(number, weights * np.asarray(right), BINS)[filled] / weight[filled]
    return told, found, weight[filled]


def calibration_error(confidence: Floats, right: npt.ArrayLike, weights: Floats) -> float:
    """Compute the expected calibration error, 0 to 1, over 15 bins of equal width.

    References
    ----------
    Naeini, Cooper & Hauskrecht 2015, doi:10.1609/aaai.v29i1.9602.
    """
    told, found, weight = reliability(confidence, right, weights)
    return float(np.average(np.abs(told - found), weights=weight))


def _as_it_is(confidence: Floats, right: Floats, weights: Floats) -> Curve:
    del confidence, right, weights
    return KNOTS, KNOTS


def _logistic(confidence: Floats, right: Floats, weights: Floats) -> Curve:
    """Scale and shift the logarithm of the odds (Platt 1999)."""
    if not 0 < right.mean() < 1:
        return _as_it_is(confidence, right, weights)
    model = LogisticRegression(C=1e6).fit(_log_odds(confidence)[:, None], right, weights)
    return KNOTS, model.predict_proba(_log_odds(KNOTS)[:, None])[:, 1]


def _isotonic(confidence: Floats, right: Floats, weights: Floats) -> Curve:
    """Take the nearest curve that never falls (Zadrozny & Elkan 2002)."""
    least = 1 / (len(right) + 2)  # a certainty that no sample can give
    model = IsotonicRegression(y_min=least, y_max=1 - least, out_of_bounds="clip")
    model.fit(confidence, right, weights)
    return KNOTS, model.predict(KNOTS)


CURVES: dict[str, Callable[[Floats, Floats, Floats], Curve]] = {
    "none": _as_it_is,
    "logistic": _logistic,
    "isotonic": _isotonic,
}


def _held_out(
    fit: Callable[[Floats, Floats, Floats], Curve],
    confidence: Floats,
    right: Floats,
    folds: npt.NDArray[np.generic],
    weights: Floats,
) -> Floats:
    """Give the confidence of each sample by a curve of the other folds."""
    found = np.empty(len(confidence))
    for fold in np.unique(folds):
        others, here = folds != fold, folds == fold
        found[here] = np.interp(
            confidence[here], *fit(confidence[others], right[others], weights[others])
        )
    return found


def _log_loss(confidence: Floats, right: Floats, weights: Floats) -> float:
    sure = np.clip(confidence, 1e-6, 1 - 1e-6)
    loss = -(right * np.log(sure) + (1 - right) * np.log(1 - sure))
    return float(np.average(loss, weights=weights))


def _log_odds(confidence: Floats) -> Floats:
    sure = np.clip(confidence, 1e-6, 1 - 1e-6)
    odds: Floats = np.log(sure / (1 - sure))
    return odds


def _bound(truth: Floats, weights: Floats) -> float:
    """Give the probability that so many true classes have at least."""
    return float(max(-held_out_quantile(-truth, weights, SHARE), 0.0))


def _sets(probabilities: npt.NDArray[np.floating], bound: float) -> npt.NDArray[np.bool_]:
    """Tell which classes belong to each pixel's set; the most probable always does."""
    inside: npt.NDArray[np.bool_] = probabilities >= min(bound, 1.0)
    inside |= probabilities == probabilities.max(axis=1, keepdims=True)
    return inside
