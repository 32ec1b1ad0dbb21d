"""Git, in a folder and nowhere else."""

from __future__ import annotations

import subprocess
from pathlib import Path

from terraflow.checkout.variables import shielded
from terraflow.config import host_environment

__all__ = ["git", "git_bytes"]


def git(folder: Path, *words: str) -> str:
    """Run git in a folder; return what it prints.

    Variables that name another repository than the folder's, as git's hooks have them, are dropped.

    Raises
    ------
    CalledProcessError
        It failed; `stderr` says why.
    OSError
        There is no git.
    """
    return git_bytes(folder, *words).decode(errors="replace")


def git_bytes(folder: Path, *words: str) -> bytes:
    """Run git in a folder; return what it prints, as of `git archive`.

    Raises
    ------
    CalledProcessError
        It failed; `stderr` says why.
    OSError
        There is no git.
    """
    done = subprocess.run(
        ["git", *words],
        cwd=folder,
        env=shielded(host_environment(), None),
        capture_output=True,
        check=False,
    )
    if done.returncode:
        raise subprocess.CalledProcessError(
            done.returncode, done.args, done.stdout, done.stderr.decode(errors="replace")
        )
    return done.stdout
