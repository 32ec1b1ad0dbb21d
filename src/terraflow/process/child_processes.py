"""Processes that end with the one that started them, and what those leave that were killed.

The kernel ends a service with its supervisor, and not what the service had started: Airflow's
workers, the kernels of notebooks. All of them carry the mark of their supervisor in their
environment, whatever session or parent they have by then.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Protocol

import psutil

from terraflow.state import is_same, started_at

__all__ = [
    "BecomeService",
    "Child",
    "Start",
    "adopt_orphans",
    "die_with_parent",
    "end_leftovers",
    "is_marked",
    "mark_children",
]

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
MARK = "TERRAFLOW_SUPERVISOR"
WAIT_S = 3.0


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


def mark_children() -> None:
    """Let whatever this process starts carry its process id and its start."""
    os.environ[MARK] = f"{os.getpid()}:{started_at(os.getpid())}"


def is_marked() -> bool:
    """Tell whether this process was started with its own mark, as one is that marked itself."""
    return os.environ.get(MARK, "").partition(":")[0] == str(os.getpid())


def end_leftovers(var: Path) -> list[int]:
    """Kill what supervisors that are gone have left in a state folder.

    Returns
    -------
    list of int
        The process ids.
    """
    left = list(_find(var))
    for process in left:
        with suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(left, WAIT_S)
    return [process.pid for process in left]


def _find(var: Path) -> Iterator[psutil.Process]:
    own = os.getuid()
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError, ValueError):
            if own not in (0, process.uids().real) or process.pid == os.getpid():
                continue
            variables = process.environ()
            if variables.get("TERRAFLOW_VAR") != str(var) or MARK not in variables:
                continue
            pid, _, started = variables[MARK].partition(":")
            if not is_same(int(pid), float(started)):
                yield process
