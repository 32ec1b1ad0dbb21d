"""Where the output of a service goes: its log, and the terminal."""

from __future__ import annotations

import sys
from collections import deque
from pathlib import Path
from typing import IO

__all__ = ["Output"]

MAX_LOG_BYTES = 10_000_000
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

    def open(self) -> None:
        """Open the log; a long one becomes NAME.log.1 in place of the one before.

        Raises
        ------
        OSError
            The file can't be written.
        """
        self.close()
        if self.path.exists() and self.path.stat().st_size > MAX_LOG_BYTES:
            self.path.replace(self.path.with_suffix(".log.1"))
        self._log = self.path.open("ab", buffering=0)

    def close(self) -> None:
        """Close the log."""
        if self._log:
            self._log.close()
            self._log = None

    def write(self, chunk: bytes) -> None:
        """Append to the log, and print."""
        *ended, begun = (self._begun + chunk).split(b"\n")
        self._begun = begun[-MAX_LINE_BYTES:]
        self._ended.extend(_text(line) for line in ended if line.strip())
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


def _text(line: bytes) -> str:
    return line.decode(errors="replace").rstrip("\r")
