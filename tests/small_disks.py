"""A real file system of a given size: a tmpfs, which root alone may mount."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

__all__ = ["ANOTHER_USER", "as_another_user", "make_room", "read_only", "small_disk"]

#: No account has it.
ANOTHER_USER = 54321


@contextmanager
def small_disk(size: str = "1m", files: int = 1000) -> Iterator[Path]:
    """Mount a file system of so many bytes and files; skip the test where nobody may."""
    if os.geteuid():
        pytest.skip("only root may mount a small file system")
    folder = Path(tempfile.mkdtemp(prefix="terraflow-disk-"))
    options = f"size={size},nr_inodes={files}"
    mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        folder.rmdir()
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
    try:
        folder.chmod(0o755)
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)
        folder.rmdir()


def make_room(folder: Path) -> None:
    """Give a small disk all the room that a test needs."""
    subprocess.run(["mount", "-o", "remount,size=500m,nr_inodes=50000", folder], check=True)


def read_only(folder: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", folder], check=True)


@contextmanager
def as_another_user() -> Iterator[None]:
    """Be a user who owns nothing, in this thread and with all its rights on files."""
    if os.geteuid():
        pytest.skip("only root may become another user")
    groups = os.getgroups()
    os.setgroups([])
    os.setegid(ANOTHER_USER)
    os.seteuid(ANOTHER_USER)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)
