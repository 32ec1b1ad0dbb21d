"""How unlike the training samples a pixel is, and where a model may be applied."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt
import pandas as pd

from terraflow.errors import DataError

__all__ = ["Applicability", "learn_applicability"]

#: Training samples, drawn at random, that pixels are compared with: time goes with them.
POINTS = 500
#: Of each part of so many samples the nearest counts, and the mean over the parts: the nearest of
#: all is mostly noise. With it held-out pixels of the lowest and the highest tenth hardly differed
#: in accuracy.
PART = 25
#: Share of the weighted variance that the axes keep, of which there are fewer than features; the
#: rest is mostly noise, which makes all pixels alike.
KEPT = 0.95
#: Pixels compared at once, so that their distances stay in the processor's cache.
_AT_ONCE = 256
Matrix = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Applicability:
    """Training samples, in a space where distances weigh features by their importance.

    Attributes
    ----------
    features : ndarray of str, shape (feature,)
    mean : ndarray, shape (feature, 1), float32
    axes : ndarray, shape (axis, feature), float32
        Takes standardised, weighted features to the axes that hold 95 % of their variance.
    points : ndarray, shape (sample, axis), float32
    spread : float
        Mean distance between two of the samples.
    threshold : float
        Greatest dissimilarity inside the area of applicability.
    """

    features: npt.NDArray[np.str_]
    mean: Matrix
    axes: Matrix
    points: Matrix
    spread: float
    threshold: float

    def dissimilarity(self, pixels: Matrix) -> Matrix:
        """Compute the dissimilarity index.

        Parameters
        ----------
        pixels : ndarray, shape (feature, pixel), float32
            Without NaN.

        Returns
        -------
        ndarray, shape (pixel,), float32
            Distance to the nearest training sample, in mean distances between two of them: the
            root mean square over parts of 25 samples.
        """
        return _nearest(self.axes @ (pixels - self.mean), self.points) / np.float32(self.spread)

    def to_bytes(self) -> bytes:
        """Write it as an npz file, which holds numbers and text alone."""
        file = io.BytesIO()
        np.savez(file, **asdict(self))
        return file.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> Applicability:
        """Read what `to_bytes` wrote.

        Raises
        ------
        DataError
            It is something else.
        """
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as file:
                read = dict(file)
            spread, threshold = (float(read.pop(name)) for name in ("spread", "threshold"))
            return cls(**read, spread=spread, threshold=threshold)
        except (ValueError, KeyError, TypeError, OSError, EOFError, BadZipFile) as error:
            raise DataError(
                f"The model's training samples can't be read: {error}; train it again."
            ) from error


def learn_applicability(
    features: pd.DataFrame,
    importance: Mapping[str, float],
    *,
    folds: npt.ArrayLike,
    seed: int,
) -> Applicability:
    """Find the area of applicability of a model.

    The threshold is the outlier-removed maximum of the dissimilarity that held-out samples had to
    samples of other folds: the upper whisker of a box plot. Up to 500 samples, drawn at
    random, stand for all, and the axes that hold 95 % of the weighted variance for all features.
    The nearest sample is looked for in parts of 25 of them, and the mean taken.

    Parameters
    ----------
    features : DataFrame, shape (sample, feature), float32
    importance : mapping
        Feature to the loss when its values are permuted; less than 0 counts as 0.
    folds : array-like, shape (sample,)

    References
    ----------
    Meyer & Pebesma 2021, doi:10.1111/2041-210X.13650.
    """
    values, folds = features.to_numpy(dtype="float64"), np.asarray(folds)
    mean, std = values.mean(axis=0), values.std(axis=0)
    weights = np.array([max(importance.get(str(name), 0.0), 0.0) for name in features.columns])
    if not (weights * std).any():
        weights = np.ones(len(weights))
    scale = np.where(std > 0, weights / weights.sum() / np.where(std > 0, std, 1), 0.0)
    weighted = (values - mean) * scale
    axes = _axes(weighted) * scale
    placed = ((values - mean) @ axes.T).astype("float32")
    random = np.random.default_rng(seed)
    chosen = np.sort(random.permutation(len(placed))[:POINTS])
    points = np.ascontiguousarray(placed[chosen])
    spread = _mean_distance(points)
    apart = np.full(len(placed), np.nan, dtype="float32")
    for fold in np.unique(folds):
        held_out, others = folds == fold, points[folds[chosen] != fold]
        if len(others):
            apart[held_out] = _nearest(placed[held_out].T, others) / spread
    low, high = np.nanquantile(apart, (0.25, 0.75))
    whisker = high + 1.5 * (high - low)
    return Applicability(
        features=np.array([str(name) for name in features.columns]),
        mean=mean[:, None].astype("float32"),
        axes=axes.astype("float32"),
        points=points,
        spread=spread,
        threshold=float(apart[apart <= whisker].max()),
    )


def _axes(weighted: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Give the principal axes that keep nearly all distances: (axis, feature)."""
    variances, vectors = np.linalg.eigh(weighted.T @ weighted / len(weighted))
    order = np.argsort(-variances)
    share = np.cumsum(variances[order]) / max(variances.sum(), np.finfo(float).tiny)
    enough = int(np.searchsorted(share, KEPT)) + 1
    kept: npt.NDArray[np.float64] = vectors.T[order[:enough]]
    return kept


def _nearest(values: Matrix, points: Matrix) -> Matrix:
    """Give the distance of each column of (axis, pixel) to the nearest row of (sample, axis)."""
    parts = max(len(points) // PART, 1)
    points = points[: len(points) // parts * parts]
    # |x - p|^2 = |x|^2 + (|p|^2 - 2 x p), of which the product alone is large
    further = np.hstack([-2 * points, (points**2).sum(axis=1, keepdims=True)]).astype("float32")
    found = np.empty(values.shape[1], dtype="float32")
    for first in range(0, values.shape[1], _AT_ONCE):
        part = values[:, first : first + _AT_ONCE]
        product = further @ np.vstack([part, np.ones((1, part.shape[1]), "float32")])
        nearest = product.reshape(parts, -1, part.shape[1]).min(axis=1) + (part**2).sum(axis=0)
        found[first : first + _AT_ONCE] = np.maximum(nearest, 0).mean(axis=0)
    distance: Matrix = np.sqrt(found)
    return distance


def _mean_distance(points: Matrix) -> float:
    total = 0.0
    for point in points.astype("float64"):
        total += float(np.sqrt(((points - point) ** 2).sum(axis=1)).sum())
    return total / max(len(points) * (len(points) - 1), 1) or 1.0
