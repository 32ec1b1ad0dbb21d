"""uv, which finds versions of packages and makes environments."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

__all__ = ["run_uv", "uv_reason"]

TIMEOUT_S = 600


def run_uv(*words: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run uv from its cache alone, and where that has not all, with its index.

    Parameters
    ----------
    words : str
        Of the command.
    folder : Path, optional
        To run it in.
    """
    for offline in (["--offline"], []):
        command = [sys.executable, "-m", "uv", *words, *offline]
        try:
            done = subprocess.run(
                command,
                cwd=folder,
                capture_output=True,
                text=True,
                check=False,
                timeout=TIMEOUT_S,
                stdin=subprocess.DEVNULL,
            )
        except subprocess.TimeoutExpired:
            return subprocess.CompletedProcess(command, 1, "", f"no end in {TIMEOUT_S} s")
        if not done.returncode:
            break
    return done


def uv_reason(done: subprocess.CompletedProcess[str]) -> str:
    """Take the words of uv's error, without its marks, to be part of a sentence."""
    marks = " \N{MULTIPLICATION SIGN}╰─▶│├"
    lines = [line.strip(marks) for line in done.stderr.splitlines()]
    return " ".join(line for line in lines if line).removeprefix("error: ").rstrip(".")[:300]
