from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import pydantic
import pytest

from terraflow.eo.config.record import Record


class Note(Record):
    """A record as a step would leave it."""

    uri: str
    places: list[tuple[float, float]] = []
    day: date | None = None
    folder: Path | None = None


def test_record_keys_of_a_newer_version_are_left_aside() -> None:
    read = Note.model_validate({"uri": "a", "later": {"b": 1}, "record_version": 7})
    assert read.to_dict() == {
        "record_version": 7,
        "uri": "a",
        "places": [],
        "day": None,
        "folder": None,
    }


def test_record_keys_that_an_older_version_lacked_take_their_defaults() -> None:
    assert Note.model_validate({"uri": "a"}) == Note(uri="a", places=[], day=None)


def test_record_missing_key_without_a_default_is_refused() -> None:
    with pytest.raises(pydantic.ValidationError, match="uri"):
        Note.model_validate({"places": []})


def test_record_wrong_type_is_refused() -> None:
    with pytest.raises(pydantic.ValidationError, match="places"):
        Note.model_validate({"uri": "a", "places": "everywhere"})


def test_record_does_not_change() -> None:
    note = Note(uri="a")
    with pytest.raises(pydantic.ValidationError, match="frozen"):
        note.uri = "b"  # type: ignore[misc]


def test_record_to_dict_is_plain_json_that_reads_back() -> None:
    note = Note(uri="a", places=[(1, 2)], day=date(2024, 5, 1), folder=Path("/b"))
    plain = note.to_dict()
    assert plain == {
        "record_version": 1,
        "uri": "a",
        "places": [[1.0, 2.0]],
        "day": "2024-05-01",
        "folder": "/b",
    }
    assert Note.model_validate(json.loads(json.dumps(plain))) == note


def test_record_tells_its_version() -> None:
    assert Note(uri="a").to_dict()["record_version"] == 1
