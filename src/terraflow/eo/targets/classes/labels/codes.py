"""Class codes: names of classes that are numbers, which a map keeps as its values."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

__all__ = ["LEAST", "MOST", "are_codes", "in_order", "map_values"]

#: Values of a map of classes, a byte of which 0 is nodata.
LEAST, MOST = 1, 255
CODE = re.compile(r"[+-]?[0-9]+")


def are_codes(names: Iterable[str]) -> bool:
    """Tell whether all names are whole numbers, each another."""
    found = list(names)
    numbers = {int(name) for name in found if CODE.fullmatch(str(name))}
    return bool(found) and len(numbers) == len(found)


def in_order(names: Iterable[str]) -> list[str]:
    """Sort names of classes: codes as numbers, others as text."""
    found = set(names)
    return sorted(found, key=int) if are_codes(found) else sorted(found)


def map_values(names: Sequence[str]) -> list[int]:
    """Give each class its value in a map: its code, or else 1 to n.

    This is the only place that decides it; a model records what it was.

    Parameters
    ----------
    names : sequence of str
        As `in_order` gives them.
    """
    codes = [int(name) for name in names] if are_codes(names) else []
    fit = codes and min(codes) >= LEAST and max(codes) <= MOST
    return codes if fit else list(range(1, len(names) + 1))
