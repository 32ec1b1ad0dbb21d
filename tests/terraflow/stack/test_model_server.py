"""What the model server serves, and where."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from terraflow import probes
from terraflow.settings import Settings
from terraflow.stack import model_server
from terraflow.stack.model_server import (
    ServedModel,
    Way,
    model_server_url,
    recorded_model_server,
)

SERVED = ServedModel(
    "m", "models:/m/1", "m", "1", "/f", way=Way("http://127.0.0.1:5002"), refused={"2": "why"}
)


def test_model_server_is_told_only_while_it_runs(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert recorded_model_server(settings) == ""
    SERVED.save(settings)
    assert recorded_model_server(settings) == ""  # left by one that was killed
    monkeypatch.setattr(model_server, "manager_pid", lambda _run_dir, _name: 1)
    assert recorded_model_server(settings) == "http://127.0.0.1:5002"


@pytest.mark.parametrize(("answers", "expected"), [(True, "http://127.0.0.1:5002"), (False, "")])
def test_model_server_url_is_one_that_answers(
    answers: bool, expected: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    SERVED.save(settings)
    monkeypatch.setattr(model_server, "manager_pid", lambda _run_dir, _name: 1)
    asked: list[str] = []
    monkeypatch.setattr(probes, "answers", lambda url: asked.append(url) or answers)
    assert model_server_url(settings) == expected
    assert asked == ["http://127.0.0.1:5002/health"]


def test_record_is_read_as_it_was_written(settings: Settings) -> None:
    assert ServedModel.read(settings) is None
    SERVED.save(settings)
    assert ServedModel.read(settings) == SERVED
    assert SERVED.news == "version 2 is refused: why"


@pytest.mark.parametrize("damage", ["", "[]", json.dumps({"name": "m"}), '{"way": 3}'])
def test_record_that_is_damaged_is_none(damage: str, settings: Settings) -> None:
    SERVED.save(settings)
    (settings.run_dir / "served.json").write_text(damage)
    assert ServedModel.read(settings) is None


def test_models_with_code_share_no_process(tmp_path: Path) -> None:
    plain = ServedModel("m", "u", "m", "1", str(tmp_path / "a"))
    with_code = ServedModel("m", "u", "m", "2", str(tmp_path / "b"))
    (tmp_path / "b" / "code").mkdir(parents=True)
    other = ServedModel("m", "u", "m", "3", str(tmp_path / "c"), python="/other/python")
    assert plain.shares_process_with(plain)
    assert not plain.shares_process_with(with_code)
    assert not with_code.shares_process_with(plain)
    assert not plain.shares_process_with(other)
