"""What became of the reference data: read, repaired, dropped and why, of each class."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from terraflow.eo.config.record import Record

__all__ = ["Accounting", "LabelAccount", "account_of"]

#: Most rows of a table that a user is shown; the report holds all.
ROWS = 20
NOTHING = "(no value)"


class LabelAccount(Record):
    """What became of the reference data; what was read is what was used and what was dropped.

    Attributes
    ----------
    unit : str
        What is counted: geometries, of which each part of several counts, or pixels of a raster.
    read, used, repaired : dict
        Class, or the name of the field of numbers, to how many.
    dropped : dict
        Reason to such a dict.
    contradicted : dict
        Class to how many of its pixels of the grid other labels contradict.
    contradicted_px : int
        Pixels of the grid whose labels contradict each other.
    remarks : list of str
        Sentences of what else a user must know.
    """

    unit: str = "geometries"
    read: dict[str, int] = {}
    used: dict[str, int] = {}
    repaired: dict[str, int] = {}
    dropped: dict[str, dict[str, int]] = {}
    contradicted: dict[str, int] = {}
    contradicted_px: int = 0
    remarks: list[str] = []

    @property
    def summary(self) -> str:
        """One line, or "" where nothing is known."""
        read, used = sum(self.read.values()), sum(self.used.values())
        if not read:
            return ""
        rest = "all used" if used == read else f"{used} used"
        repaired = sum(self.repaired.values())
        fixed = f", {repaired} repaired" if repaired else ""
        return f"Labels: {read} {self.unit} read, {rest}{fixed}."

    @property
    def told(self) -> list[str]:
        """Lines that a user must read who sees no table; none where all was used as it is."""
        clean = sum(self.read.values()) == sum(self.used.values()) and not self.repaired
        return [] if clean and not self.remarks else [self.summary, *self.remarks]

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Give header and rows, one of each class; none where all was used as it is."""
        columns: dict[str, Mapping[str, int]] = {"read": self.read}
        if any(self.repaired.values()):
            columns["repaired"] = self.repaired
        columns |= {reason: counts for reason, counts in self.dropped.items() if counts}
        if self.contradicted_px:
            columns["contradicted px"] = self.contradicted
        if len(columns) == 1:
            return [], []
        columns["used"] = self.used
        names = sorted(self.read, key=lambda name: (not self.used.get(name), *_by_number(name)))
        rows = [
            [name or NOTHING, *(str(counts.get(name, 0)) for counts in columns.values())]
            for name in names[:ROWS]
        ]
        if more := names[ROWS:]:
            sums = (sum(counts.get(name, 0) for name in more) for counts in columns.values())
            rows.append([f"{len(more)} more", *map(str, sums)])
        return [self.unit, *columns], rows


@dataclass
class Accounting:
    """Counts what becomes of labels, while they are made ready.

    Attributes
    ----------
    read : Counter
        Class to how many there are.
    dropped : dict
        Reason to such counts.
    """

    unit: str = "geometries"
    read: Counter[str] = field(default_factory=Counter)
    repaired: Counter[str] = field(default_factory=Counter)
    dropped: dict[str, Counter[str]] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)

    def drop(self, reason: str, names: pd.Series | Sequence[str]) -> None:
        """Count what is left out, by class."""
        if len(names):
            self.dropped.setdefault(reason, Counter()).update(Counter(names))

    def leave_out(self, reason: str, names: pd.Series | Sequence[str]) -> None:
        """Count what is read, and left out at once."""
        self.read.update(Counter(names))
        self.drop(reason, names)

    @property
    def reasons(self) -> str:
        """Write what was dropped, for a message: "3 lines, 2 no geometry"."""
        found = {reason: sum(counts.values()) for reason, counts in self.dropped.items()}
        return ", ".join(f"{number} {reason}" for reason, number in found.items())

    def close(self, **more: Any) -> LabelAccount:
        """Give what is kept; what was not dropped is used."""
        gone = sum(self.dropped.values(), Counter())
        return LabelAccount(
            unit=self.unit,
            read=dict(self.read),
            used={name: number - gone[name] for name, number in self.read.items()},
            repaired=dict(self.repaired),
            dropped={reason: dict(counts) for reason, counts in self.dropped.items()},
            remarks=self.remarks,
            **more,
        )


def account_of(labels: object) -> LabelAccount:
    """Give the account of a source of labels; a project's own may have none."""
    found = getattr(labels, "account", None)
    return found if isinstance(found, LabelAccount) else LabelAccount()


def _by_number(name: str) -> tuple[float, str]:
    """Sort codes as numbers, before names."""
    return (int(name), "") if name.isdecimal() else (math.inf, name)
