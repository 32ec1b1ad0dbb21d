"""A lock file that ends with its holder."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import IO

from terraflow.files import make_dir

__all__ = ["Lock"]


class Lock:
    """A lock that ends with the process that holds it, however that ends.

    Parameters
    ----------
    path : Path
        Its content is the holder's process id.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: IO[str] | None = None

    def acquire(self, *, inherit: bool = False) -> bool:
        """Take the lock if it is free.

        Parameters
        ----------
        inherit : bool
            Keep it over exec.
        """
        make_dir(self.path.parent)
        file = open(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600), "r+")  # noqa: SIM115
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return False
        os.set_inheritable(file.fileno(), inherit)
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        self._file = file
        return True

    def wait(self) -> None:
        """Take the lock as soon as it is free."""
        while not self.acquire():
            with self.path.open("r+") as file:
                fcntl.flock(file, fcntl.LOCK_SH)

    def release(self) -> None:
        """Give the lock back."""
        if self._file:
            self._file.close()
            self._file = None

    def is_held(self) -> bool:
        """Tell whether any process holds the lock."""
        try:
            with self.path.open("r+") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    def holder(self) -> int | None:
        """Process id written by the last holder."""
        try:
            return int(self.path.read_text())
        except (OSError, ValueError):
            return None
