from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest

from terraflow.errors import did_you_mean, error_place, first_line, nearest


@pytest.mark.parametrize(
    ("word", "expected"),
    [("trian", ["train"]), ("NDVJ", ["NDVI"]), ("ndvi", ["NDVI"]), ("xyz", []), ("", [])],
)
def test_nearest_lists_what_is_like_a_word_in_any_case(word: str, expected: list[str]) -> None:
    assert nearest(word, ["train", "map", "NDVI"]) == expected


def test_nearest_gives_three_at_most_the_most_alike_first() -> None:
    assert nearest("band", ["band1", "bandage", "bands", "band", "b"]) == ["band", "bands", "band1"]


def test_did_you_mean_ends_a_message_or_says_nothing() -> None:
    assert did_you_mean("prot", ["port", "host"]) == " (did you mean port?)"
    assert did_you_mean("xyz", ["port", "host"]) == ""


@pytest.mark.parametrize(
    ("text", "expected"),
    [("no season.\nmore", "no season"), ("\n  two", "two"), ("", ""), ("a.b", "a.b")],
)
def test_first_line_is_part_of_a_sentence(text: str, expected: str) -> None:
    assert first_line(ValueError(text)) == expected


def test_error_place_is_the_users_own_line_and_no_librarys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_place.py").write_text("import json\ndef f():\n    return json.loads('{')\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(json.JSONDecodeError) as caught:
        importlib.import_module("own_place").f()
    assert error_place(caught.value) == " (own_place.py, line 3)"


def test_error_place_of_a_line_that_is_no_python(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_syntax.py").write_text("x = 1\ndef f(:\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(SyntaxError) as caught:
        importlib.import_module("own_syntax")
    assert error_place(caught.value) == " (own_syntax.py, line 2)"


def test_error_place_that_never_was_raised_is_nothing() -> None:
    assert error_place(ValueError("x")) == ""
