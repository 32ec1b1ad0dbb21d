"""Git, in a folder and nowhere else."""

from __future__ import annotations

import subprocess
from pathlib import Path

from terraflow import config

__all__ = ["git"]

#: By which git, when it runs a hook, tells of another repository than that of the folder.
ELSEWHERE = (
    *("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX"),
    *("GIT_COMMON_DIR", "GIT_OBJECT_DIRECTORY", "GIT_NAMESPACE"),
)


def git(folder: Path, *words: str) -> str:
    """Run git in a folder; return what it prints.

    Raises
    ------
    CalledProcessError
        It failed; `stderr` says why.
    OSError
        There is no git.
    """
    environment = {
        key: value for key, value in config.host_environment().items() if key not in ELSEWHERE
    }
    done = subprocess.run(
        ["git", *words], cwd=folder, env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout
