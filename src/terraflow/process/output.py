"""Where the output of a service goes: its log, and the terminal; no log grows without bound."""

from __future__ import annotations

import os
import sys
import time
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import IO

from terraflow.files import rotate

__all__ = ["OldFiles", "Output", "bound_output"]

MAX_LOG_BYTES = 10_000_000
DAY_S = 86400.0
LAST_LINES, MAX_LINE_BYTES = 5, 10_000


class Output:
    """The log of one service, and what the terminal shows of it.

    Parameters
    ----------
    path : Path
        The log.
    echo : bool
        Whether to print the service's output too.
    label : str
        Before each printed line, where services share a terminal.
    """

    def __init__(self, path: Path, *, echo: bool, label: str = "") -> None:
        self.path, self.echo = path, echo
        self._ended: deque[str] = deque(maxlen=LAST_LINES)
        self._begun = b""  # a line that is not yet ended: output comes in pieces of any size
        self._label, self._unfinished = label.encode(), b""
        self._log: IO[bytes] | None = None
        self._wanted = False

    def open(self) -> None:
        """Open the log; a long one becomes NAME.log.1 in place of the one before.

        Where it can't be written, as on a full disk, the service goes on without, and the log is
        opened as soon as it can be.
        """
        self.close()
        self._wanted = True
        with suppress(OSError):
            rotate(self.path, MAX_LOG_BYTES)
            self._log = self.path.open("ab", buffering=0)

    def close(self) -> None:
        """Close the log."""
        self._wanted = False
        if self._log:
            self._log.close()
            self._log = None

    def write(self, chunk: bytes) -> None:
        """Append to the log, and print."""
        *ended, begun = (self._begun + chunk).split(b"\n")
        self._begun = begun[-MAX_LINE_BYTES:]
        self._ended.extend(_text(line) for line in ended if line.strip())
        if self._wanted and not self._log:
            self.open()
        try:
            if self._log:
                self._log.write(chunk)
                if self._log.tell() > MAX_LOG_BYTES:
                    self.open()
        except OSError:  # a full disk must not end a service that could go on
            pass
        if self.echo:
            self.print(self._labelled(chunk))

    @property
    def last_lines(self) -> list[str]:
        """The last 5 lines with text, that which is not yet ended included."""
        begun = [_text(self._begun)] if self._begun.strip() else []
        return [*self._ended, *begun][-LAST_LINES:]

    def end_line(self) -> None:
        """Print the rest of an output that ended without a newline."""
        if self._unfinished:
            self.print(self._labelled(b"\n"))

    def print(self, chunk: bytes) -> None:
        """Print to the terminal as it is."""
        try:
            sys.stdout.buffer.write(chunk)
            sys.stdout.buffer.flush()
        except OSError:  # whoever read it is gone; `supervise` notices
            pass

    def _labelled(self, chunk: bytes) -> bytes:
        if not self._label:
            return chunk
        *lines, self._unfinished = (self._unfinished + chunk).split(b"\n")
        return b"".join(self._label + line + b"\n" for line in lines)


def bound_output(log: Path) -> None:
    """Let this process write to a new log where its own output is one that has become long."""
    with suppress(OSError):
        size = os.fstat(1).st_size
        if size <= MAX_LOG_BYTES or not os.path.samestat(os.fstat(1), log.stat()):
            return
        rotate(log, MAX_LOG_BYTES)
        anew = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        for stream in (1, 2):
            os.dup2(anew, stream)
        os.close(anew)


class OldFiles:
    """Files of a folder, and of those in it, that are removed after so many days.

    Parameters
    ----------
    folder : Path
    days : float
        0 keeps them all.
    """

    def __init__(self, folder: Path, days: float) -> None:
        self.folder, self.days = folder, days
        self._next = 0.0

    def step(self) -> None:
        """Remove them, once a day. A folder that is empty goes when it has been so for as long."""
        if not self.days or time.monotonic() < self._next:
            return
        self._next = time.monotonic() + DAY_S
        oldest = time.time() - self.days * DAY_S
        for folder, _, files in os.walk(self.folder, topdown=False):
            emptied = Path(folder) != self.folder and _changed(folder) < oldest
            for name in files:
                path = os.path.join(folder, name)
                if _changed(path) < oldest:
                    with suppress(OSError):
                        os.unlink(path)
            if emptied:
                with suppress(OSError):  # it is not empty
                    os.rmdir(folder)


def _changed(path: str) -> float:
    try:
        return os.lstat(path).st_mtime
    except OSError:
        return time.time()


def _text(line: bytes) -> str:
    return line.decode(errors="replace").rstrip("\r")
