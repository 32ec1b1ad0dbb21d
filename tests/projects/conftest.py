from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from simulate import SIMULATE

from harness import ROOT

HERE = Path(__file__).parent


def copy_project(name: str, folder: Path) -> Path:
    """Lay a project down as a user has it: its files, the Procfile, and its data."""
    root = folder / name
    shutil.copytree(HERE / name, root, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "Procfile", root)
    SIMULATE[name](root / "data")
    return root


@pytest.fixture
def enter_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Lay a project down and stand in it."""

    def enter(name: str) -> Path:
        root = copy_project(name, tmp_path)
        monkeypatch.chdir(root)
        monkeypatch.setenv("TERRAFLOW_CONFIG_DIR", str(root / "config"))
        monkeypatch.syspath_prepend(root / "src")
        return root

    return enter
