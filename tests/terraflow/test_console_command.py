"""Hints name what the user types: make, pixi or invoke."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from terraflow.console import command

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def by_make(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERRAFLOW_STARTED_BY", "make")


@pytest.mark.usefixtures("by_make")
def test_command_by_make_puts_words_into_args() -> None:
    assert command("up") == "make up"
    assert command("status", "--show-credentials") == 'make status ARGS="--show-credentials"'
    assert command("serve", "--run-id", "ID") == 'make serve ARGS="--run-id ID"'


@pytest.mark.usefixtures("by_make")
@pytest.mark.parametrize("word", ["two words", "it's", "$HOME", 'a"b', "back`tick", "scenes/*.tif"])
def test_command_by_make_words_arrive_as_they_are(word: str, tmp_path: Path) -> None:
    show = f"{sys.executable} -c 'import sys; print(sys.argv[1:])'"
    (tmp_path / "Makefile").write_text(f"map:\n\t@{show.replace('$', '$$')} $(ARGS)\n")
    done = subprocess.run(
        ["bash", "-c", command("map", "--model", word)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == str(["--model", word])


def test_command_by_pixi_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIXI_PROJECT_ROOT", str(ROOT))
    monkeypatch.setenv("INIT_CWD", str(ROOT))
    assert command("up") == "pixi run up"
    assert command("status", "--show-credentials") == "pixi run status --show-credentials"


def test_command_in_a_pixi_shell_is_invoke(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIXI_PROJECT_ROOT", str(ROOT))
    assert command("up") == "invoke up"


def test_command_by_invoke_quotes_for_the_shell() -> None:
    assert shlex.split(command("map", "--items", "two words")) == [
        *("invoke", "map", "--items", "two words")
    ]


def test_makefile_tells_that_it_is_make() -> None:
    assert "\nexport TERRAFLOW_STARTED_BY := make\n" in (ROOT / "Makefile").read_text()
