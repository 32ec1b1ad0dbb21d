"""What tests of a project made elsewhere need: an environment in seconds, and a clean shell."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

__all__ = ["make_environment", "run"]

HIDDEN = ("TERRAFLOW_", "PYTHONPATH", "INIT_CWD", "AIRFLOW", "MLFLOW_", "AWS_", "VIRTUAL_ENV")


def make_environment(wheel: Path, folder: Path) -> Path:
    """Make an environment that holds the wheel, and lends all else from this one.

    A path in a .pth file lends the packages that lie there, but not what is installed editable
    there: .pth files are read in the environment's own folder only.

    Returns
    -------
    Path
        Its Python.
    """
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    python = folder / "bin" / "python"
    words = ["uv", "pip", "install", "--no-deps", "--offline", "--python", python]
    subprocess.run([sys.executable, "-m", *words, wheel], check=True)
    [site] = folder.glob("lib/python*/site-packages")
    lent = dict.fromkeys(sysconfig.get_path(name) for name in ("purelib", "platlib"))
    (site / "lent.pth").write_text("\n".join(lent))
    for script in Path(sys.executable).parent.iterdir():
        if script.is_file() and not script.is_symlink():
            first, _, rest = script.read_bytes().partition(b"\n")
            if first.startswith(b"#!") and b"/python" in first:
                own = folder / "bin" / script.name
                own.write_bytes(f"#!{python}\n".encode() + rest)
                own.chmod(0o755)
    return python


def run(folder: Path, *words: str | Path, **variables: str) -> str:
    """Run a command that must succeed, with nothing of this shell's; return what it printed."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(HIDDEN)}
    done = subprocess.run(
        words,
        cwd=folder,
        env=kept | variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout
