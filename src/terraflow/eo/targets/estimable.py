"""What a probability sample of a map tells of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import pandas as pd

from terraflow.eo.targets.area.design import Stratum
from terraflow.errors import DataError

__all__ = ["Estimable"]


class Estimable:
    """What a target expects of a sample, and estimates from it."""

    name: ClassVar[str]

    def spreads(
        self, scores: Mapping[str, float], strata: Mapping[str, Stratum]
    ) -> dict[str, float]:
        """Expect the standard deviation in each stratum of what a sample tells of its points.

        Parameters
        ----------
        scores : mapping
            Measures of the map's run.
        """
        del scores
        return dict.fromkeys(strata, 0.5)

    def estimate(
        self, sample: pd.DataFrame, strata: Mapping[str, Stratum], levels: Sequence[str]
    ) -> dict[str, Any]:
        """Estimate areas, or a mean, and accuracies of a map from a probability sample of it.

        Parameters
        ----------
        sample : DataFrame
            Columns stratum, mapped and reference, and cluster where points were drawn together.
        strata : mapping
            All strata of the map.
        levels : sequence of str
            Names of the map's values; none where they are numbers.

        Returns
        -------
        dict
            Plain values of JSON; "measures" are the numbers to log, each with its interval.

        Raises
        ------
        DataError
            The sample does not fit the map, or the target has no such estimates.
        """
        raise DataError(
            f"The target {self.name} estimates nothing from a sample of points; give it a method "
            "`estimate`, or take the map of another target."
        )
