"""Where a task leaves the traceback of an error that is TerraFlow's own."""

from __future__ import annotations

from pathlib import Path

import pytest
from invoke.context import Context

from terraflow.tasks.task import task


@task(iterable=["set_"])
def broken(c: Context, set_: list[str]) -> None:
    """End with an error of TerraFlow's own."""
    raise ZeroDivisionError("by zero")


def fail(words: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        broken(Context(), set_=words)
    assert caught.value.code == 2


def test_traceback_lies_in_the_var_of_the_shell(tmp_path: Path) -> None:
    fail([])
    assert "by zero" in (tmp_path / "var" / "log" / "errors.log").read_text()


def test_traceback_lies_in_the_var_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TERRAFLOW_VAR")
    var = tmp_path / "of the file"
    (tmp_path / "config" / "terraflow.toml").write_text(f'var = "{var}"\n')
    fail([])
    assert "by zero" in (var / "log" / "errors.log").read_text()


def test_traceback_lies_in_the_var_of_the_command_line(tmp_path: Path) -> None:
    fail([f"var={tmp_path / 'of the line'}"])
    assert "by zero" in (tmp_path / "of the line" / "log" / "errors.log").read_text()


def test_traceback_lies_in_the_checkout_where_settings_are_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config" / "terraflow.toml").write_text("var = 3\n")
    monkeypatch.setattr("terraflow.tasks.task.project_root", lambda: tmp_path)
    fail([])
    assert "by zero" in (tmp_path / "var" / "log" / "errors.log").read_text()
