"""The least memory that a model of some parameters takes, whatever it learns from."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from terraflow.eo.features.limits.size import check_memory

__all__ = ["check_size"]

#: Of a weight in training: itself, its gradient and the two moments of Adam, in float32.
WEIGHT_BYTES = 4 * 4
#: Of a tree, in whatever library: one of three nodes takes 1.6 kB in scikit-learn.
TREE_BYTES = 500


def check_size(parameters: Mapping[str, Any]) -> None:
    """See before any work that a model need not be too large for this machine.

    Parameters
    ----------
    parameters : mapping
        Of any model; those of members, as member__n_estimators, count as well.

    Raises
    ------
    DataError
        It would be.
    """
    for key, value in parameters.items():
        name = key.rpartition("__")[2]
        size = _network_bytes(value) if name == "hidden_layer_sizes" else 0
        if name == "n_estimators" and isinstance(value, int):
            size = value * TREE_BYTES
        check_memory(
            size,
            f"A model with [model.parameters] {key} = {value}",
            "set less",
        )


def _network_bytes(widths: Any) -> int:
    """Of a network between one feature and one output, at least."""
    sides = widths if isinstance(widths, list | tuple) else [widths]
    counts = [side for side in sides if isinstance(side, int)]  # others scikit-learn refuses
    return WEIGHT_BYTES * sum(a * b for a, b in pairwise([1, *counts, 1]))
