"""The most probable class of each pixel by a small network, as matrix products in float32."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

__all__ = ["Network"]

Matrix = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Network:
    """A scaler and a network of rectified linear units, ready for many pixels.

    It decides as the pipeline that it is made of, but with pixels side by side in memory, as images
    have them, and without the probabilities of the other classes; that is some times faster.

    Attributes
    ----------
    mean : ndarray, shape (feature, 1), float32
    layers : list of tuple
        Weights, shape (out, in), and biases, shape (out, 1), of each layer.
    """

    mean: Matrix
    layers: list[tuple[Matrix, Matrix]]

    @classmethod
    def of(cls, classifier: Any) -> Network | None:
        """Take over a fitted classifier, where it is a pipeline of just this kind."""
        if not isinstance(classifier, Pipeline):
            return None
        scaler, network = classifier[0], classifier[-1]
        if (
            len(classifier) != 2
            or not isinstance(scaler, StandardScaler)
            or not isinstance(network, MLPClassifier)
            or network.activation != "relu"
        ):
            return None
        weights = [layer.T.astype("float64") for layer in network.coefs_]
        biases = [layer[:, None] for layer in network.intercepts_]
        weights[0] = weights[0] / scaler.scale_
        if network.out_activation_ == "logistic":  # of two classes, only the second has an output
            weights[-1] = np.vstack([np.zeros_like(weights[-1]), weights[-1]])
            biases[-1] = np.vstack([np.zeros_like(biases[-1]), biases[-1]])
        return cls(
            scaler.mean_[:, None].astype("float32"),
            [
                (np.ascontiguousarray(w, "float32"), b.astype("float32"))
                for w, b in zip(weights, biases, strict=True)
            ],
        )

    def decide(self, pixels: Matrix) -> tuple[npt.NDArray[np.int64], Matrix]:
        """Find the most probable class, from 0, and its probability, as `decide_in_sets` does."""
        return self.decide_in_sets(pixels, None)[:2]

    def decide_in_sets(
        self, pixels: Matrix, bound: float | None
    ) -> tuple[npt.NDArray[np.int64], Matrix, npt.NDArray[np.int64] | None]:
        """Find the most probable class, from 0, and its probability, 0 to 1.

        Parameters
        ----------
        pixels : ndarray, shape (feature, pixel), float32
            Without NaN.
        bound : float or None
            Least probability of a class in a pixel's set, which always has the most probable one.

        Returns
        -------
        number, probability : ndarray, shape (pixel,)
        size : ndarray, shape (pixel,), or None
            Classes in the set, with a bound.
        """
        values = pixels - self.mean
        for i, (weights, biases) in enumerate(self.layers):
            if i:
                np.maximum(values, 0, out=values)
            values = weights @ values
            values += biases
        number = values.argmax(axis=0)
        values -= values.max(axis=0)
        np.exp(values, out=values)
        total = values.sum(axis=0)
        # newer stubs of numpy lose the type of a quotient
        probability: Matrix = np.divide(1, total, dtype="float32")
        if bound is None:
            return number, probability, None
        size = (values >= np.float32(bound) * total).sum(axis=0)
        return number, probability, np.maximum(size, 1)
