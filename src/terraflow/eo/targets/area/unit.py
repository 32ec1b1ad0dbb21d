"""The unit in which areas are shown to a reader, one for all of a table."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["AreaUnit"]

M2_PER_HA = 10_000
#: Below, an area would be shown as 0.0.
SHOWN = 0.05


@dataclass(frozen=True)
class AreaUnit:
    """A unit.

    Attributes
    ----------
    name : str
    m2 : int
        Its size.
    """

    name: str
    m2: int

    @classmethod
    def of(cls, areas_m2: Iterable[float]) -> AreaUnit:
        """Take hectares, unless all areas are smaller than one: then m2.

        Examples
        --------
        >>> AreaUnit.of([5.4, 12.2]).name, AreaUnit.of([5.4, 20_000]).name
        ('m2', 'ha')
        """
        return cls("ha", M2_PER_HA) if max(areas_m2, default=0) >= M2_PER_HA else cls("m2", 1)

    def write(self, area_m2: float) -> str:
        """Write an area with a decimal, or with two digits where that would be 0.

        Examples
        --------
        >>> [AreaUnit("ha", 10_000).write(area) for area in (12_345_600, 54, 0)]
        ['1,234.6', '0.0054', '0.0']
        """
        size = area_m2 / self.m2
        return f"{size:.2g}" if 0 < abs(size) < SHOWN else f"{size:,.1f}"
