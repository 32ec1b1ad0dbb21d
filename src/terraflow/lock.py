"""A lock file that ends with its holder."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO

from terraflow.errors import ServiceError
from terraflow.files import make_dir

__all__ = ["Lock"]

POLL_S = 0.1
INSTALL_S = 3600.0


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

    def acquire(self, *, inherit: bool = False, shared: bool = False) -> bool:
        """Take the lock if it is free.

        Parameters
        ----------
        inherit : bool
            Keep it over exec.
        shared : bool
            Let others share it; it is free for them as long as nobody has it alone.

        Returns
        -------
        bool
            Whether it is held now.

        Raises
        ------
        StorageError
            Its folder can't be written.
        OSError
            The file can't be written; it is removed again, unless others may share it.
        """
        make_dir(self.path.parent)
        file = open(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600), "r+")  # noqa: SIM115
        try:
            fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return False
        if not self._has_name(file):  # deleted meanwhile: another process would lock a new file
            file.close()
            return False
        os.set_inheritable(file.fileno(), inherit)
        self._file = file
        try:
            self._note(os.getpid())
        except OSError:  # of a full disk
            if not shared:  # others may hold the same file
                self.path.unlink(missing_ok=True)
            self._file = None
            with suppress(OSError):  # what is not written yet is tried again
                file.close()
            raise
        return True

    def _has_name(self, file: IO[str]) -> bool:
        with suppress(FileNotFoundError):
            return os.path.samestat(os.fstat(file.fileno()), self.path.stat())
        return False

    def wait(
        self,
        what: str,
        seconds: float,
        tell: Callable[[str], None] = lambda _: None,
        *,
        shared: bool = False,
    ) -> None:
        """Take the lock as soon as it is free.

        Parameters
        ----------
        what : str
            What its holder does, as "the setup".
        seconds : float
            For how long to wait at most.
        tell : callable
            Gets a sentence, where there is something to wait for.
        shared : bool
            As of `acquire`.

        Raises
        ------
        ServiceError
            It was not free in time.
        StorageError
            Its folder can't be written.
        """
        self._wait_until(lambda: self.acquire(shared=shared), what, seconds, tell)

    def wait_until_free(self, what: str, seconds: float, tell: Callable[[str], None]) -> None:
        """Wait until nobody holds the lock alone, and make no file for that.

        Parameters are those of `wait`.

        Raises
        ------
        ServiceError
            It was not free in time.
        """
        self._wait_until(lambda: not self.is_held(), what, seconds, tell)

    def _wait_until(
        self, done: Callable[[], bool], what: str, seconds: float, tell: Callable[[str], None]
    ) -> None:
        deadline, told = time.monotonic() + seconds, False
        while not done():
            if time.monotonic() > deadline:
                raise ServiceError(
                    f"Process {self.holder()} has not ended {what} within {seconds:.0f} s; see "
                    "whether it hangs, and end it if so, then repeat."
                )
            if not told:
                told = True
                tell(f"Waiting for {what} that process {self.holder()} is running")
            time.sleep(POLL_S)

    def fileno(self) -> int:
        """Return the descriptor of the held lock, for a child that is to keep it."""
        assert self._file, "the lock is not held"  # noqa: S101 - a mistake of ours
        return self._file.fileno()

    def hand_over(self, pid: int) -> None:
        """Leave the lock to a child that was given its descriptor."""
        self._note(pid)
        self.release()

    def _note(self, pid: int) -> None:
        assert self._file, "the lock is not held"  # noqa: S101 - a mistake of ours
        self._file.seek(0)
        self._file.truncate()
        self._file.write(str(pid))
        self._file.flush()

    def release(self) -> None:
        """Give the lock back."""
        if self._file:
            self._file.close()
            self._file = None

    def is_held(self) -> bool:
        """Tell whether any process holds the lock alone."""
        try:
            with self.path.open("r+") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    def is_there(self) -> bool:
        """Tell whether the held lock still has its name, which goes with a deleted folder."""
        assert self._file, "the lock is not held"  # noqa: S101 - a mistake of ours
        return self._has_name(self._file)

    def holder(self) -> int | None:
        """Process id written by the last holder."""
        try:
            return int(self.path.read_text())
        except (OSError, ValueError):
            return None


def main(arguments: list[str]) -> int:
    """Run `FILE COMMAND...` while holding the lock: `make` installs under it."""
    from terraflow.console import say  # noqa: PLC0415 - a supervisor needs it never

    lock = Lock(Path(arguments[0]).absolute())
    try:
        lock.wait("the installation", INSTALL_S, say)
        return subprocess.call(arguments[1:])
    except ServiceError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    from terraflow.console import keep_streams

    keep_streams()
    sys.exit(main(sys.argv[1:]))
