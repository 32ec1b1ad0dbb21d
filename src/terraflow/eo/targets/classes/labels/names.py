"""Names of classes as people write them, made one where the same is meant."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from terraflow.eo.targets.classes.labels.codes import LEAST, MOST, are_codes, in_order
from terraflow.eo.targets.vectors.account import Accounting
from terraflow.errors import DataError

__all__ = ["MAX_CLASSES", "Named", "check_names", "name_classes"]

MAX_CLASSES = 255
NOT_LISTED = "not in [labels] classes"
#: Signs without a width that cling to copied text, and what a fixed-width field is filled with.
UNSEEN = dict.fromkeys(map(ord, "\u200b\u2060\ufeff\x00"))
WHOLE = re.compile(r"([+-]?\d+)\.0+")


@dataclass(frozen=True)
class Named:
    """What each label is called.

    Attributes
    ----------
    values : Series
        As the file has them, tidied; None is none.
    classes : Series
        The class; None is no label.
    """

    values: pd.Series
    classes: pd.Series


def tidy(value: object) -> str:
    """Write a value as the name of a class.

    Blanks of any kind at the ends go, those within become one, letters that are composed of several
    signs become one sign (Unicode NFC), and 2.0 is "2": a field of whole numbers with gaps is read
    as float.

    References
    ----------
    https://www.unicode.org/reports/tr15/
    """
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    text = unicodedata.normalize("NFC", str(value).translate(UNSEEN))
    return " ".join(text.split())


def name_classes(
    found: pd.Series, table: Mapping[str, str] | None, accounting: Accounting
) -> Named:
    """Give each value its class, by a table or by itself.

    Values that differ in case alone are one class, spelt as the commonest of them, unless the table
    lists each. A remark tells which were joined.

    Parameters
    ----------
    found : Series
        Values of any type; None, NaN and blanks are none.
    table : mapping or None
        Value to name of its class, as [labels] classes has it.
    """
    values = pd.Series([tidy(value) for value in found], index=found.index, dtype=object)
    values = values.where(found.notna() & (values != ""), None)
    if all(WHOLE.fullmatch(name) or name.isdecimal() for name in values.dropna()):
        values = values.map(_whole, na_action="ignore")  # texts of a table, which has 2.0 for 2
    counts = Counter(values.dropna())
    if table is None:
        listed, apart = {name: name for name in counts}, set[str]()
    else:
        keys = {tidy(key): tidy(name) for key, name in table.items()}
        listed = {key if key in counts else _whole(key): name for key, name in keys.items()}
        apart = set(listed)
    spelt: dict[str, str] = {}
    for name in sorted(listed, key=lambda name: (-counts[name], name)):
        spelt.setdefault(name.casefold(), name)
    taken = {name: name if name in apart else spelt.get(name.casefold()) for name in counts}
    for name, main in sorted(taken.items()):
        if main not in (name, None):
            accounting.remarks.append(
                f"{name!r} ({counts[name]}) is taken for {main!r}, from which it differs in case "
                "alone; list each in [labels] classes to keep them apart."
            )
    known = {name: listed[main] for name, main in taken.items() if main is not None}
    return Named(values, values.map(known, na_action="ignore").replace({"": None, np.nan: None}))


def check_names(names: list[str], uri: str) -> list[str]:
    """Sort names of classes, and see that a map has a value for each.

    Raises
    ------
    DataError
        There are too many, or they are codes that a byte does not hold beside 0, which is nodata.
    """
    names = in_order(names)  # each once
    if len(names) > MAX_CLASSES:
        raise DataError(
            f"{uri} has {len(names)} classes, more than {MAX_CLASSES}; is [labels] field "
            "the field of the class? Join classes by [labels] classes."
        )
    if are_codes(names) and (wrong := [n for n in names if not LEAST <= int(n) <= MOST]):
        table = ", ".join(f'"{name}" = "name of {name}"' for name in names[:12])
        more = ", ..." if len(names) > 12 else ""
        raise DataError(
            f"{uri} has the class code {wrong[0]}, which no map can hold: its values are {LEAST} "
            f"to {MOST}, and 0 is nodata; name the classes, as [labels] classes = "
            f"{{ {table}{more} }}, and leave out what is none."
        )
    return names


def _whole(name: str) -> str:
    """Write 2.0 as 2."""
    found = WHOLE.fullmatch(name)
    return found[1] if found else name
