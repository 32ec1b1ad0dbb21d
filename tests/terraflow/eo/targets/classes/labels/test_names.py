from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from terraflow.eo.targets.classes.labels.names import name_classes
from terraflow.eo.targets.vectors.account import Accounting


def classes(found: list[object], table: dict[str, str] | None = None) -> list[str | None]:
    return list(name_classes(pd.Series(found, dtype=object), table, Accounting()).classes)


@pytest.mark.parametrize(
    "name",
    [
        "broad leaved",
        "broad leaved ",
        " broad leaved",
        "broad\u00a0leaved",
        "broad leaved\u00a0",
        "\tbroad leaved\r\n",
        "broad  leaved",
        "broad \t leaved",
        "broad leaved\x00\x00",
        "\ufeffbroad leaved",
        "broad leaved\u200b",
        "\u2003broad\u3000leaved",
    ],
)
def test_blanks_of_any_kind_make_no_class(name: str) -> None:
    assert classes([name]) == ["broad leaved"]
    assert classes([name], {"broad leaved": "wood"}) == ["wood"]
    assert classes(["broad leaved"], {name: "wood"}) == ["wood"]
    assert classes(["x"], {"x": name}) == ["broad leaved"]


def test_letters_are_the_same_however_they_are_composed() -> None:
    composed, parts = "for\u00eat", "fore\u0302t"
    assert classes([composed, parts]) == [composed, composed]
    assert classes([composed, parts], {parts: "a"}) == ["a", "a"]


@pytest.mark.parametrize("empty", [None, np.nan, "", "  ", "\u00a0", pd.NA])
def test_no_name_is_no_class(empty: object) -> None:
    assert classes(["a", empty]) == ["a", None]


def test_case_alone_makes_no_class_and_is_told() -> None:
    accounting = Accounting()
    found = pd.Series(["forest", "Forest", "forest", "FOREST", "Stra\u00dfe"])
    named = name_classes(found, None, accounting)
    assert list(named.classes) == ["forest"] * 4 + ["Stra\u00dfe"]
    assert len(accounting.remarks) == 2
    assert accounting.remarks[0].startswith("'FOREST' (1) is taken for 'forest', from which it")


def test_case_that_is_listed_is_kept_apart() -> None:
    assert classes(["q", "Q"], {"q": "rock", "Q": "sand"}) == ["rock", "sand"]
    assert classes(["q", "Q"], {"q": "q", "Q": "Q"}) == ["q", "Q"]
    assert classes(["Forest", "x"], {"forest": "wood"}) == ["wood", None]


@pytest.mark.parametrize("values", [[2, 4], [2.0, 4.0], ["2", "4"], ["2.0", "4.0"], [" 2", "4 "]])
def test_numbers_are_written_alike(values: list[object]) -> None:
    assert classes(values) == ["2", "4"]
    for table in ({"2": "a", "4": "b"}, {"2.0": "a", "4.0": "b"}):
        assert classes(values, table) == ["a", "b"]


def test_chapters_are_no_numbers() -> None:
    assert classes(["2.0", "2.1"]) == ["2.0", "2.1"]
    assert classes(["2.0", "2.1"], {"2.0": "a", "2.1": "b"}) == ["a", "b"]


def test_a_class_without_a_name_is_left_out() -> None:
    assert classes(["a", "b"], {"a": "a", "b": ""}) == ["a", None]
