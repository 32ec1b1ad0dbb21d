"""Classes as the values of a map."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from terraflow.eo.config.sections import Map
from terraflow.eo.targets.calibration import Calibration
from terraflow.eo.targets.classes.labels.codes import MOST, map_values
from terraflow.eo.targets.parts import Band, Floats
from terraflow.eo.targets.target import Target

__all__ = ["ClassValues"]


@dataclass(frozen=True)
class ClassValues(Target):
    """What a map holds of classes: the value of each, by its code or 1 to n, and the confidence.

    Attributes
    ----------
    recorded : tuple of int
        Values of the classes of a model, in the order of its levels; empty is 1 to n.
    """

    dtype: ClassVar[str] = "uint8"
    summary_format: ClassVar[str] = ".1%"
    recorded: tuple[int, ...] = ()

    def values(self, levels: Sequence[str]) -> list[int]:
        """Give each class its code, where all fit into a map, or 1 to n.

        A project's own encoding is not known here: it numbers from 1, as it always did.
        """
        own = any(
            getattr(type(self), name) is not getattr(ClassValues, name)
            for name in ("encode", "encode_sure", "encode_decided", "bands")
        )
        return list(range(1, len(levels) + 1)) if own else map_values(levels)

    def with_values(self, values: Sequence[int]) -> Self:
        """Give the classes the values in a map that a model recorded."""
        found = copy(self)  # a project's own may be made otherwise
        object.__setattr__(found, "recorded", tuple(values))
        return found

    def _values(self, levels: Sequence[str]) -> list[int]:
        return list(self.recorded) or list(range(1, len(levels) + 1))

    def encode(self, predictions: Floats) -> npt.NDArray[np.uint8]:
        """Give class and confidence of probabilities: uint8, shape (2, pixel)."""
        return self.encode_decided(predictions.argmax(axis=1), predictions.max(axis=1))

    def encode_sure(self, predictions: Floats, calibration: Calibration) -> npt.NDArray[np.uint8]:
        """Give class and confidence, which says how often such a class is right."""
        if type(self).encode is not ClassValues.encode:  # a project's own
            return self.encode(predictions)
        confidence = calibration.apply(predictions.max(axis=1))
        return self.encode_decided(predictions.argmax(axis=1), confidence)

    def encode_decided(
        self, number: npt.NDArray[np.int64], probability: npt.NDArray[np.floating]
    ) -> npt.NDArray[np.uint8]:
        """Encode the most probable class, from 0, and its probability, 0 to 1."""
        # 0 is nodata, so that a confidence that would round to it is 1
        confidence = np.rint(100 * probability).clip(1, 100)
        value = np.array(self.recorded)[number] if self.recorded else number + 1
        return np.stack([value, confidence]).astype("uint8")

    def bands(self, levels: Sequence[str], section: Map) -> list[Band]:
        """Describe class and confidence."""
        from terraflow.eo.targets.classes.colours import class_colours  # noqa: PLC0415 - matplotlib is slow

        colours, values = class_colours(levels, section.colours), self._values(levels)
        return [
            Band(
                "class",
                "Number of the class",
                names=dict(zip(values, levels, strict=True)),
                colours=dict(zip(values, colours, strict=True)),
            ),
            Band(
                "confidence",
                "Probability of the class in per cent",
                unit="%",
                tags={"UNIT": "per cent, probability of the class"},
            ),
        ]

    def summarise(self, values: npt.NDArray[Any], levels: Sequence[str]) -> dict[str, float]:
        """Give the share (0-1) of each class."""
        counts = np.bincount(values.ravel(), minlength=MOST + 1)[self._values(levels)]
        return {n: float(c / len(values)) for n, c in zip(levels, counts, strict=True)}
