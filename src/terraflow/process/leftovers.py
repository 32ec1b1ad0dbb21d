"""End what a supervisor that was killed has left behind: its services, and all below them.

The kernel ends a service with its supervisor, and not what the service had started: Airflow's
workers, the kernels of notebooks. All of them carry the mark of their supervisor in their
environment, whatever session or parent they have by then.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil

__all__ = ["end_leftovers", "is_marked", "is_same", "mark_children", "started_at"]

MARK = "TERRAFLOW_SUPERVISOR"
#: Clocks may be set while a process runs; so soon no process id is given to another one.
TOLERANCE_S = 2.0
WAIT_S = 3.0


def started_at(pid: int) -> float:
    """Tell when a process was started, in seconds since the epoch; 0 where there is none."""
    with suppress(psutil.Error, ValueError):  # of a negative number
        process = psutil.Process(pid)
        if process.status() != psutil.STATUS_ZOMBIE:
            return float(process.create_time())
    return 0.0


def is_same(pid: int, started: float) -> bool:
    """Tell whether a process id is still that of the process that was started then.

    Of a start of 0, which a version before 0.2 has not recorded, any process is the one.
    """
    now = started_at(pid)
    return now > 0 and (not started or abs(now - started) < TOLERANCE_S)


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
