from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from simulate import copy_project


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
