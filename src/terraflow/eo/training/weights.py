"""What a drawn sample stands for: in scores, and in what a model learns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from terraflow.eo.config.sections import Priors
from terraflow.eo.targets.parts import Floats, Sums
from terraflow.eo.targets.target import Target
from terraflow.errors import ConfigError, DataError

__all__ = ["count_weighted", "label_weights", "learning_weights"]


def label_weights(strata: npt.ArrayLike, label_counts: Mapping[str, int]) -> Floats | None:
    """Tell how many labelled pixels each sample stands for.

    Parameters
    ----------
    strata : array-like, shape (sample,)
        Stratum of each sample; within one, samples were drawn at random.
    label_counts : mapping
        Stratum to its labelled pixels.

    Returns
    -------
    ndarray, shape (sample,), float64, or None
        None where each stands for as many: all labelled pixels are samples, or so large a part of
        each stratum.

    Raises
    ------
    DataError
        A stratum has more samples than labelled pixels.

    References
    ----------
    Horvitz & Thompson 1952, doi:10.1080/01621459.1952.10483446.
    """
    names = pd.Series(np.asarray(strata, dtype=object)).astype(str)
    used = names.value_counts()
    for name, number in used.items():
        if number > label_counts.get(str(name), number):
            raise DataError(
                f"{name} has {number} samples of {label_counts[str(name)]} labelled pixels, which "
                "can't be; take samples and data report of one run."
            )
    stands_for = {n: label_counts.get(str(n), count) / count for n, count in used.items()}
    return _unless_equal(names.map(stands_for).to_numpy("float64"))


def learning_weights(
    strata: npt.ArrayLike, label_counts: Mapping[str, int], priors: Priors
) -> Floats | None:
    """Weigh samples so that a model learns strata in the shares that a map is to expect.

    Parameters
    ----------
    strata, label_counts
        As in `label_weights`.
    priors : {"labels", "equal"} or dict
        Shares of the strata: those of the labelled pixels, equal ones, or as given.

    Returns
    -------
    ndarray, shape (sample,), float64, or None
        Of mean 1; None where samples have these shares already. Where all labelled pixels are
        samples, that is so with "labels".

    Raises
    ------
    ConfigError
        `priors` names other strata than there are.
    """
    if priors == "labels":
        weights = label_weights(strata, label_counts)
        return None if weights is None else weights / weights.mean()
    names = pd.Series(np.asarray(strata, dtype=object)).astype(str)
    used = names.value_counts()
    shares = dict.fromkeys(map(str, used.index), 1.0) if priors == "equal" else dict(priors)
    if differ := sorted(set(shares) ^ set(map(str, used.index))):
        raise ConfigError(
            f"[map] priors gives {', '.join(shares)}, and samples have {', '.join(used.index)}; "
            f"{differ[0]} is in one of them alone: correct priors."
        )
    weights = names.map({name: shares[str(name)] / count for name, count in used.items()})
    numbers = weights.to_numpy("float64")
    return _unless_equal(numbers / numbers.mean())


def count_weighted(
    target: Target,
    reference: Any,
    predictions: Floats,
    groups: npt.ArrayLike,
    *,
    levels: Sequence[str],
    weights: Floats | None,
) -> Sums:
    """Count a target's sums by group, each sample as often as its weight tells.

    Sums add up, so that those of samples of one weight are counted together and then multiplied.

    Parameters
    ----------
    reference, predictions, groups, levels
        As in `Target.count`.
    weights : ndarray, shape (sample,), float64, or None
        None counts each sample once.
    """
    if weights is None:
        return target.count(reference, predictions, groups, levels)
    group, numbers = pd.factorize(np.asarray(groups), sort=True)
    values, which = np.unique(weights, return_inverse=True)
    cells = which * len(numbers) + group
    counted = target.count(reference, predictions, cells, levels)
    filled = np.unique(cells)
    sums = np.zeros((len(numbers), *counted.shape[1:]))
    factors = values[filled // len(numbers)].reshape(-1, *[1] * (counted.ndim - 1))
    np.add.at(sums, filled % len(numbers), counted * factors)
    return sums


def _unless_equal(weights: Floats) -> Floats | None:
    return None if np.allclose(weights, weights[:1]) else weights
