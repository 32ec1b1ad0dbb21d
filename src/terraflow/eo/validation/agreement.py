"""What several interpreters agree on."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
import pandas as pd

__all__ = ["Agreement", "agree", "agree_on_numbers", "cohens_kappa"]


@dataclass(frozen=True)
class Agreement:
    """What interpreters say together.

    Attributes
    ----------
    reference : Series
        Of each point by its id: what most interpreters say, or the mean of their numbers; missing
        where none says anything, or two names have equally many.
    interpreters : list of str
    kappa : dict
        "A, B" to Cohen's kappa over the points that both told; None where it is not defined.
        Nothing where they tell numbers.
    disagreements : DataFrame
        Points on which they differ: id as index, and what each interpreter says. Where these are
        numbers, those that differ most are the first.
    mean_absolute_difference : dict
        "A, B" to that of their numbers over the points that both told; None where there is none.
        Nothing where they tell names.
    """

    reference: pd.Series
    interpreters: list[str]
    kappa: dict[str, float | None]
    disagreements: pd.DataFrame
    mean_absolute_difference: dict[str, float | None] = field(default_factory=dict)


def agree(told: pd.DataFrame) -> Agreement:
    """Find what interpreters agree on.

    Parameters
    ----------
    told : DataFrame
        Columns id, interpreter and reference, one row for each point and interpreter.
    """
    table = told.pivot(index="id", columns="interpreter", values="reference").sort_index()
    names = [str(name) for name in table.columns]
    kappa = {f"{a}, {b}": cohens_kappa(table[a], table[b]) for a, b in combinations(names, 2)}
    reference = table.apply(_majority, axis=1).astype("object")
    return Agreement(reference, names, kappa, table[table.nunique(axis=1) > 1])


def agree_on_numbers(told: pd.DataFrame) -> Agreement:
    """Take the mean of what interpreters say, and tell how far each two of them are apart.

    Parameters
    ----------
    told : DataFrame
        Columns id, interpreter and reference (float64, NaN is none), one row for each point and
        interpreter.
    """
    table = told.pivot(index="id", columns="interpreter", values="reference").sort_index()
    names = [str(name) for name in table.columns]
    apart = {}
    for a, b in combinations(names, 2):
        difference = (table[a] - table[b]).abs().dropna()
        apart[f"{a}, {b}"] = float(difference.mean()) if len(difference) else None
    widest = (table.max(axis=1) - table.min(axis=1)).sort_values(ascending=False, kind="stable")
    differing = table.loc[widest.index[widest > 0]]
    return Agreement(table.mean(axis=1), names, {}, differing, apart)


def cohens_kappa(one: pd.Series, other: pd.Series) -> float | None:
    """Compute the agreement of two interpreters beyond chance, over what both told.

    Returns
    -------
    float or None
        1 is full agreement, 0 that of chance; None where both always say the same one value, or no
        point has both.

    References
    ----------
    Cohen 1960, doi:10.1177/001316446002000104.
    """
    both = one.notna() & other.notna()
    if not both.any():
        return None
    a, b = one[both], other[both]
    shares = (series.value_counts(normalize=True) for series in (a, b))
    by_chance = float(np.nansum(next(shares).mul(next(shares), fill_value=0)))
    if by_chance >= 1:
        return None
    return (float((a == b).mean()) - by_chance) / (1 - by_chance)


def _majority(row: pd.Series) -> str | None:
    counts = row.value_counts()
    if counts.empty or (counts == counts.iloc[0]).sum() > 1:
        return None
    return str(counts.index[0])
