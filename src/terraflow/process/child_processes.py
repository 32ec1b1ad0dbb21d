"""Processes that end with the one that started them."""

from __future__ import annotations

import ctypes
import signal
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import IO, Protocol

import psutil

from terraflow.state import MARK

__all__ = [
    "BecomeService",
    "Child",
    "Start",
    "adopt_orphans",
    "die_with_parent",
    "end_adopted",
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


def end_adopted(services: Iterable[int]) -> None:
    """Kill what this process has adopted and all below, but not its services.

    Nor what was started to go on by itself: a stack, or a model server, which somebody has started
    from a terminal of JupyterLab.
    """
    known = set(services)
    adopted = [child for child in psutil.Process().children() if child.pid not in known]
    adopted = [child for child in adopted if not _goes_on(child)]
    below = []
    for process in adopted:
        with suppress(psutil.Error):
            below += process.children(recursive=True)
    for process in adopted + below:
        with suppress(psutil.Error):
            process.kill()
            process.wait(timeout=1)


def _goes_on(process: psutil.Process) -> bool:
    """Tell whether a process has the stack's variables and no supervisor's mark."""
    with suppress(psutil.Error, OSError):
        variables = process.environ()
        return "TERRAFLOW_VAR" in variables and MARK not in variables
    return False
