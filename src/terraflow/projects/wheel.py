"""Build the platform's wheel; needs nothing beyond the standard library, and uv or pip."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from terraflow.config import host_environment
from terraflow.errors import TerraFlowError

__all__ = ["build"]

#: All files of the wheel are of that time, the first that a zip can have.
EPOCH = "315532800"
#: Ways to build, without the folder for the wheel.
HERE = ["--no-build-isolation", "--offline", "--python", sys.executable]
UV = ["uv", "build", "--wheel", "--quiet", *HERE, "--out-dir"]
PIP = ["pip", "wheel", "--quiet", "--no-deps", "--wheel-dir"]


def build(repository: Path, target: Path) -> Path:
    """Build the wheel of a checkout; the same sources give the same bytes.

    With uv and setuptools where this Python has both, which needs no network; else with pip.

    Parameters
    ----------
    target : Path
        A folder, which is made.

    Returns
    -------
    Path
        The wheel.

    Raises
    ------
    TerraFlowError
        It can't be built.
    """
    with tempfile.TemporaryDirectory() as folder:
        # not in build/, out of which files that are gone from src/ would come into the wheel
        extra = Path(folder) / "extra.cfg"
        extra.write_text(f"[build]\nbuild_base = {folder}/build\n")
        words = UV if _has("uv", "setuptools") else PIP
        done = subprocess.run(
            [sys.executable, "-m", *words, f"{folder}/dist", str(repository)],
            cwd=repository,
            env=host_environment()
            | {"DIST_EXTRA_CONFIG": str(extra), "SOURCE_DATE_EPOCH": "315532800"},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise TerraFlowError(
                f"The wheel can't be built:\n{done.stderr.strip()}\n; install uv and setuptools, "
                "or let pip reach an index."
            )
        [built] = (Path(folder) / "dist").glob("terraflow_eo-*.whl")
        target.mkdir(parents=True, exist_ok=True)
        wheel = target / built.name
        wheel.write_bytes(built.read_bytes())
    return wheel


def _has(*modules: str) -> bool:
    code = f"import {', '.join(modules)}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    return done.returncode == 0
