"""Every task of `invoke --list` is given nonsense: one sentence, exit 1, no traceback, soon."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import tasks
from invoke.collection import Collection
from invoke.tasks import Task

ROOT = Path(__file__).resolve().parents[3]
NAMES = sorted(Collection.from_module(tasks).tasks)
#: They act on the checkout or the platform alone, or say what is wrong in a table, as doctor.
WITHOUT_SETTINGS = {"bench", "doctor", "lint", "lock", "new", "test", "update", "version", "wheel"}
#: They read the project's own file, too.
STEPS = ["ingest", "preprocess", "train", "map", "report", "scenes", "monitor", "label-next"]
#: What all tasks have from one place is tried with a few of them, and with all on demand.
SOME = [
    name if number % 6 == 0 else pytest.param(name, marks=pytest.mark.exhaustive)
    for number, name in enumerate(NAMES)
]
VALUES = ["nonsense", "../../etc/passwd", "🌍 'x\n;", "-1", "9" * 30, "nan", "a" * 5000]
#: What a task needs before its settings matter.
WORDS = {
    "database": ["copy", "--to", "postgresql"],
    "deploy": ["nobody@127.0.0.1", "--model", "models:/m/1"],
    "export-model": ["model", "--model", "models:/m/1"],
    "gate": ["1"],
    "new": ["project", "--defaults"],
    "origin": ["map.tif"],
    "predict": ["rows.json"],
    "promote": ["1"],
    "reproduce": ["map.tif"],
    "reset": ["--yes"],
    "step": ["ingest"],
    "serve": ["--model", "models:/m/1"],
    "validate": ["draw", "--map", "map.tif"],
}


def told(*words: str, **variables: str) -> str:
    """Run a task on a project of its own, where it must fail; return its sentence."""
    done = subprocess.run(
        [sys.executable, "-m", "invoke", *words],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), **variables},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    said = done.stderr.strip()
    assert done.returncode == 1, (words, done.stdout, said)
    assert "Traceback" not in done.stdout + said, (words, said)
    assert 0 < len(said.splitlines()) <= 2, (words, said)
    return said


def arguments(name: str) -> list[str]:
    return [name, *WORDS.get(name, [])]


@pytest.mark.parametrize("name", SOME)
def test_words_and_options_that_there_are_not(name: str) -> None:
    for words in (["--nonsense"], ["-Z"], ["1", "2", "3", "🌍"]):
        said = told(*arguments(name), *words)
        assert "No idea what" in said or words[-1] in said, said


@pytest.mark.parametrize("name", SOME)
def test_folder_that_is_no_project(name: str, tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "nowhere"):
        said = told(*arguments(name), TERRAFLOW_ROOT=str(place))
        assert f"TERRAFLOW_ROOT is {place}, where there is no Procfile" in said


def values_of(name: str) -> list[tuple[str, str]]:
    """Give each option of a task that takes a value one piece of nonsense, another one each."""
    task: Task[object] = Collection.from_module(tasks)[name]
    taking = [one for one in task.get_arguments() if one.takes_value and not one.positional]
    flags = ["--" + str(one.name).strip("_").replace("_", "-") for one in taking]
    return [(flag, VALUES[number % len(VALUES)]) for number, flag in enumerate(flags)]


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", [name for name in NAMES if values_of(name) and name != "test"])
def test_values_that_an_option_can_not_have(name: str) -> None:
    for flag, value in values_of(name):
        told(*arguments(name), f"{flag}={value}")


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", sorted({*NAMES} - WITHOUT_SETTINGS))
def test_settings_that_are_wrong(name: str, tmp_path: Path) -> None:
    path = tmp_path / "config" / "terraflow.toml"
    for content in (b"[mlflow\nport", bytes(range(128, 256)), b"[mlflow]\nprot = 1\n"):
        path.write_bytes(content)
        assert "terraflow.toml" in told(*arguments(name))
    path.unlink()
    assert "TERRAFLOW_MLFLOW_PORT" in told(*arguments(name), TERRAFLOW_MLFLOW_PORT="x")
    said = told(*arguments(name), TERRAFLOW_CONFIG_DIR="/nowhere")
    assert "TERRAFLOW_CONFIG_DIR is /nowhere, no folder" in said


@pytest.mark.parametrize("name", ["database", "env", "logs", "reset", "setup", "status", "up"])
def test_state_folder_that_is_a_file(name: str, tmp_path: Path) -> None:
    (file := tmp_path / "file").write_text("")
    assert str(file) in told(*arguments(name), TERRAFLOW_VAR=str(file))


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", STEPS)
def test_project_file_that_is_wrong(name: str, tmp_path: Path) -> None:
    path = tmp_path / "config" / "land_cover.toml"
    for content in (b"[data\n", bytes(range(128, 256)), b"", b"[grid]\nresolutoin = 3\n"):
        path.write_bytes(content)
        assert "land_cover.toml" in told(*arguments(name))
