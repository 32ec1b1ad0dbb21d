"""What runs: one small file per service in var/run, written by its supervisor, read by all.

And what a supervisor that was killed has left. The kernel ends a service with its supervisor, and
not what the service had started: Airflow's workers, the kernels of notebooks. All of them carry
the mark of their supervisor in their environment, whatever session or parent they have by then.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import psutil

from terraflow.files import list_dir, write_private
from terraflow.lock import Lock

__all__ = [
    "MARK",
    "SILENT",
    "ServiceState",
    "end_adopted",
    "end_leftovers",
    "is_same",
    "manager_pid",
    "read_all",
    "read_state",
    "started_at",
]

#: Clocks may be set while a process runs; so soon no process id is given to another one.
TOLERANCE_S = 2.0
#: Of the start in /proc/PID/stat behind the name: the 22nd of all (proc(5)).
_START_FIELD = 19
#: Variable with process id and start of the supervisor that a process belongs to.
MARK = "TERRAFLOW_SUPERVISOR"
KILLED_S = 3.0
#: How the reason of a service begins that runs and does not answer.
SILENT = "has not answered"
Phase = Literal["waiting", "running", "restarting", "failed", "stopped"]


def started_at(pid: int) -> float:
    """Tell when a process was started; 0 where there is none.

    Returns
    -------
    float
        On Linux in seconds since the machine was started, elsewhere since the epoch. psutil adds
        the time of the machine's start, which moves when the clock is set: then each process would
        seem to be another one.
    """
    with suppress(psutil.Error, OSError, ValueError):  # of a negative number
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return 0.0
        if sys.platform != "linux":
            return float(process.create_time())
        ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[_START_FIELD]
        return int(ticks) / os.sysconf("SC_CLK_TCK")
    return 0.0


def is_same(pid: int, started: float) -> bool:
    """Tell whether a process id is still that of the process that was started then.

    Of a start of 0, which a version before 0.2 has not recorded, any process is the one.
    """
    now = started_at(pid)
    return now > 0 and (not started or abs(now - started) < TOLERANCE_S)


@dataclass(frozen=True)
class ServiceState:
    """State of one service, as its supervisor sees it.

    Attributes
    ----------
    pid : int or None
        Process of the service itself, while there is one.
    supervisor_pid, manager_pid : int
        Process that restarts the service; process that started all supervisors (honcho).
    supervisor_started, manager_started : float
        When these were started, as `started_at` tells: a process id may be given again.
    restarts : int
        Since the stack was started.
    started_at : float
        Seconds since the epoch, of the present phase.
    reason : str
        Why the service is not running.
    """

    service: str
    phase: Phase
    pid: int | None
    supervisor_pid: int
    manager_pid: int
    restarts: int = 0
    started_at: float = 0.0
    reason: str = ""
    supervisor_started: float = 0.0
    manager_started: float = 0.0

    def write(self, run_dir: Path) -> None:
        """Replace the service's file.

        Raises
        ------
        StorageError
            It can't be written.
        """
        write_private(run_dir / f"{self.service}.json", json.dumps(asdict(self)))


def read_state(run_dir: Path, service: str) -> ServiceState | None:
    """Read the state of a service; None where none was.

    It is "stopped" where its supervisor is gone, and "restarting" where it has ended itself.
    """
    try:
        state = ServiceState(**json.loads((run_dir / f"{service}.json").read_text()))
    except (OSError, ValueError, TypeError):
        return None
    if state.phase != "stopped" and not Lock(run_dir / f"{service}.lock").is_held():
        return replace(state, phase="stopped", pid=None, reason="its supervisor is gone")
    if state.pid and not psutil.pid_exists(state.pid):  # which on a full disk nobody could write
        reason = f"its process {state.pid} has ended, and its supervisor has not said why yet"
        return replace(state, phase="restarting", pid=None, reason=reason)
    return state


def read_all(run_dir: Path) -> dict[str, ServiceState]:
    """Read the states of all services that were ever started here.

    Raises
    ------
    PermissionError
        The folder is another user's.
    """
    names = [path.stem for path in list_dir(run_dir) if path.suffix == ".lock"]
    states = {name: read_state(run_dir, name) for name in names}
    return {name: state for name, state in states.items() if state}


def manager_pid(run_dir: Path, service: str | None = None) -> int | None:
    """Process id of the honcho whose services run here, or None.

    Parameters
    ----------
    service : str, optional
        Look at this service only; else at all but the model server, which is started on its own.
    """
    states = read_all(run_dir)
    for name, state in states.items():
        wanted = name == service if service else name != "model-server"
        if wanted and state.phase != "stopped" and psutil.pid_exists(state.manager_pid):
            return state.manager_pid
    return None


def end_leftovers(var: Path) -> list[int]:
    """Kill what supervisors that are gone have left in a state folder.

    Returns
    -------
    list of int
        The process ids.
    """
    left = list(_find_leftovers(var))
    for process in left:
        with suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(left, KILLED_S)
    return [process.pid for process in left]


def _find_leftovers(var: Path) -> Iterator[psutil.Process]:
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
