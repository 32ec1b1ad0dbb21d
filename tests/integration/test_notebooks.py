"""The notebooks, from top to bottom, against the running stack."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness import ROOT, Stack

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.fixture(scope="module")
def served(stack: Stack) -> Iterator[Stack]:
    """A champion of the simulated area, served."""
    stack.ok("train")
    stack.ok("serve", "--model", "models:/land-cover@champion", "--detach")
    yield stack
    stack.stop_model_server()


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs_and_shows_pictures(notebook: Path, served: Stack, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "jupyter", "execute", str(notebook),
         f"--output={tmp_path / notebook.name}"],
        cwd=notebook.parent, env=served.environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    cells = json.loads((tmp_path / notebook.name).read_text())["cells"]
    shown = [output.get("data", {}) for cell in cells for output in cell.get("outputs", [])]
    assert any("image/png" in data for data in shown)
