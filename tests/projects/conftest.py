from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from terraflow.settings import Settings

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
Place = Callable[[str], Path]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """Copy a project to a folder of its own, with the Procfile of the platform."""

    def copy(name: str) -> Path:
        folder = tmp_path / "projects" / name
        shutil.copytree(HERE / name, folder, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "Procfile", folder)
        return folder

    return copy


@pytest.fixture
def enter(
    place: Place, tracked_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Place]:
    """Copy a project, and stand in it with its package on the path."""
    entered = []

    def go(name: str) -> Path:
        folder = place(name)
        entered.append(name)
        monkeypatch.delenv("TERRAFLOW_CONFIG_DIR")
        monkeypatch.syspath_prepend(folder / "src")
        monkeypatch.chdir(folder)
        return folder

    yield go
    for module in list(sys.modules):
        if module.partition(".")[0] in entered:
            del sys.modules[module]
