"""Processes that end with the one that started them."""

from __future__ import annotations

import ctypes
import signal
import sys
from collections.abc import Callable
from typing import IO, Protocol

__all__ = [
    "BecomeService",
    "Child",
    "Start",
    "adopt_orphans",
    "die_with_parent",
]

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36


class Child(Protocol):
    """What a supervisor needs of the process that it starts."""

    pid: int
    stdout: IO[bytes] | None

    def poll(self) -> int | None:
        """Return the exit code, or None while it runs."""

    def wait(self) -> int:
        """Wait for the end and return the exit code."""

    def send_signal(self, sig: int) -> None:
        """Send a signal, unless it has ended."""


class BecomeService(BaseException):
    """Leaves the supervisor's stack in a forked child, so that the service runs on a clean one."""

    def __init__(self, command: list[str]) -> None:
        super().__init__(command)
        self.command = command


#: Starts a command as a child of this process, its output on a pipe.
Start = Callable[[list[str]], Child]


def die_with_parent() -> None:
    """Ask the kernel to kill this process with its parent; for preexec_fn. Linux only."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def adopt_orphans() -> None:
    """Become the parent of grandchildren whose parent dies, so that they can be ended."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)
