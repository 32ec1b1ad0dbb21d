"""How sure a model may be, as its held-out predictions tell; stored with the model."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from terraflow.eo.config.record import Record

__all__ = ["SHARE", "Calibration", "calibrate_numbers", "held_out_quantile"]

#: Of pixels whose truth a conformal set or interval is to hold.
SHARE = 0.9
Floats = npt.NDArray[np.float64]


class Calibration(Record):
    """What was learnt of held-out predictions; the defaults leave a model as it is.

    Attributes
    ----------
    method : {"none", "logistic", "isotonic"}
        Which curve takes a model's confidence to how often it is right.
    confidence, accuracy : list of float
        Knots of the curve, 0 to 1, between which it is linear.
    error_before, error : float or None
        Expected calibration error without and with the curve, of samples that had no part in it.
    set_probability : float or None
        Least probability of a class that belongs to a pixel's set.
    half_width : float or None
        Half the width of an interval around a predicted number, in its unit.
    coverage : float or None
        Share of samples whose truth lies in sets, or intervals, that they had no part in.
    """

    method: str = "none"
    confidence: list[float] = []
    accuracy: list[float] = []
    error_before: float | None = None
    error: float | None = None
    set_probability: float | None = None
    half_width: float | None = None
    coverage: float | None = None

    def width_text(self, column: str) -> str:
        """Tell in a sentence how near the reference lies to a predicted number; else nothing."""
        if self.half_width is None or self.coverage is None:
            return ""
        return (
            f"The reference lies within {self.half_width:.4g} of the prediction, in the unit of "
            f"{column}, in {self.coverage:.0%} of labelled pixels of blocks that had no part in "
            "finding this width (90 % are meant)."
        )

    def apply(self, confidence: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
        """Take confidences, 0 to 1, to how often predictions of such a confidence are right."""
        if not self.confidence:
            return confidence
        right: npt.NDArray[np.floating] = np.interp(confidence, self.confidence, self.accuracy)
        return right


def calibrate_numbers(
    misses: Floats, folds: npt.NDArray[np.generic], weights: Floats
) -> Calibration:
    """Find half the width of an interval that holds nine of ten held-out numbers.

    Parameters
    ----------
    misses : ndarray, shape (sample,), float64
        Absolute difference of prediction and reference.
    """
    inside = np.zeros(len(misses))
    for fold in np.unique(folds):
        others, here = folds != fold, folds == fold
        inside[here] = misses[here] <= held_out_quantile(misses[others], weights[others])
    width = held_out_quantile(misses, weights)
    return Calibration(
        half_width=width if math.isfinite(width) else None,
        coverage=float(np.average(inside, weights=weights)),
    )


def held_out_quantile(scores: Floats, weights: Floats, share: float = SHARE) -> float:
    """Give the bound that a new score keeps with a probability: that of split conformal prediction.

    Parameters
    ----------
    scores : ndarray, shape (sample,)
        Of held-out samples; the greater, the worse.
    weights : ndarray, shape (sample,)
        What each sample stands for.
    share : float
        Probability that a new sample's score is not above the bound.

    Returns
    -------
    float
        Infinite where there are too few samples.

    References
    ----------
    Vovk, Gammerman & Shafer 2005, doi:10.1007/b106715; Tibshirani et al. 2019, arXiv:1904.06019,
    on weights.
    """
    order = np.argsort(scores, kind="stable")
    total = weights.sum() + weights.mean()  # the new sample is one more
    below = np.cumsum(weights[order]) / total
    place = int(np.searchsorted(below, share - 1e-12))
    return float(scores[order][place]) if place < len(scores) else math.inf
