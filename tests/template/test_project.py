"""A new project as its user has it: made by the task, in an environment with its wheel."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest

from lent import make_environment, run

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
@pytest.mark.services
@pytest.mark.parametrize(
    ("task", "store"),
    [
        ("example", "minio"),
        pytest.param("mask", "local", marks=pytest.mark.exhaustive),
        pytest.param("stubs", "local", marks=pytest.mark.exhaustive),
    ],
)
def test_new_project_passes_its_own_tests_starts_trains_and_stops(
    task: str, store: str, tmp_path: Path
) -> None:
    folder = tmp_path / "flood"
    words = (sys.executable, "-m", "invoke", "new", folder, "--defaults")
    answers = {"project_name": "Flood map", "task": task, "store": store}
    said = run(ROOT, *words, *(w for k, v in answers.items() for w in ("--data", f"{k}={v}")))
    assert f"Made {folder}" in said
    assert run(folder, "git", "status", "--porcelain") == ""
    assert "Start the project" in run(folder, "git", "log", "--oneline")
    [wheel] = (folder / "vendor").glob("*.whl")
    assert f"./vendor/{wheel.name}" in (folder / "requirements.lock").read_text()
    python = make_environment(wheel, tmp_path / "environment")
    path = f"{python.parent}{os.pathsep}{os.environ['PATH']}"
    here = {"PYTHONPATH": str(folder / "src"), "PATH": path}
    said = run(folder, python, "-m", "pytest", "-q", **here)
    assert " passed" in said
    assert not re.search(r"\b(failed|skipped|error)\b", said), said
