"""Stop the stack."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterable, Mapping

import psutil

from terraflow.console import say
from terraflow.errors import ServiceError
from terraflow.lock import Lock
from terraflow.settings import Settings
from terraflow.stack.lifecycle.work import wait_for_reset
from terraflow.state import ServiceState, end_leftovers, is_same, read_all, started_at

__all__ = ["down"]

#: How long what runs may take to stop by itself, and after it was killed.
STOP_S, KILL_S = 10.0, 10.0
#: How long a manager may go on whose services have all stopped.
ALONE_S = 2.0


def down(settings: Settings) -> bool:
    """Stop the stack and the model server.

    What does not stop by itself is killed, by process id and start: a manager or a supervisor that
    hangs or was suspended, and then what they leave behind.

    Returns
    -------
    bool
        Whether there was anything to stop.

    Raises
    ------
    ServiceError
        A process did not end even when killed, or a reset does not end.
    """
    wait_for_reset(settings)  # which holds the lock of the stack as well
    lock = Lock(settings.run_dir / "up.lock")
    before = _running(settings)
    managers, supervisors = _processes(before, lock)
    helpers = _helpers(managers)
    _signal(managers or supervisors, signal.SIGTERM)
    _signal(managers | helpers | supervisors, signal.SIGCONT)  # which Ctrl+Z suspended
    if not _wait(settings, lock, STOP_S, alone_s=ALONE_S if before else STOP_S):
        say("It does not stop by itself, and is killed.")
        # what was in its setup at the first look may have started services since
        later, more = _processes(_running(settings), lock)
        managers, supervisors = managers | later, supervisors | more
        _signal(managers | helpers | _helpers(later), signal.SIGKILL)
        # supervisors end their services when their manager is gone, unless they hang as well
        _signal(supervisors, signal.SIGCONT)
        if not _wait(settings, lock, KILL_S / 2):
            _signal(supervisors, signal.SIGKILL)
            if not _wait(settings, lock, KILL_S / 2):
                raise ServiceError(_left(settings, lock))
    end_leftovers(settings.var)
    _forget_settings(settings, lock)
    return bool(managers or supervisors)


def _forget_settings(settings: Settings, lock: Lock) -> None:
    """Remove the ports of the stack that ended, unless it has been started again meanwhile."""
    saved = settings.run_dir / "settings.json"
    if saved.exists() and lock.acquire():
        saved.unlink(missing_ok=True)
        lock.release()


def _processes(
    states: Iterable[ServiceState], lock: Lock
) -> tuple[dict[int, float], dict[int, float]]:
    """Process ids and starts of managers, and of supervisors."""
    states = list(states)
    holder = lock.holder() if lock.is_held() else None  # still in its setup, or honcho
    managers = _managers(states) | ({holder: started_at(holder)} if holder else {})
    return managers, {s.supervisor_pid: s.supervisor_started for s in states}


def _running(settings: Settings) -> list[ServiceState]:
    return [s for s in read_all(settings.run_dir).values() if s.phase != "stopped"]


def _managers(states: Iterable[ServiceState]) -> dict[int, float]:
    """Process ids of what started these services, where it still runs, and their starts."""
    found = {s.manager_pid: s.manager_started for s in states}
    return {pid: started for pid, started in found.items() if is_same(pid, started)}


def _helpers(managers: Iterable[int]) -> dict[int, float]:
    """Process ids of what honcho runs between itself and each supervisor, and their starts."""
    found: dict[int, float] = {}
    for pid in managers:
        with contextlib.suppress(psutil.Error):
            found |= {p.pid: started_at(p.pid) for p in psutil.Process(pid).children()}
    return found


def _signal(processes: Mapping[int, float], number: signal.Signals) -> None:
    for pid, started in processes.items():
        if is_same(pid, started):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)


def _wait(settings: Settings, lock: Lock, seconds: float, *, alone_s: float = KILL_S) -> bool:
    """Wait until nothing runs and nobody holds the lock of the stack."""
    deadline = time.monotonic() + seconds
    alone_until = deadline
    while time.monotonic() < min(deadline, alone_until):
        if _running(settings):
            alone_until = deadline
        elif not lock.is_held():
            return True
        else:
            alone_until = min(alone_until, time.monotonic() + alone_s)
        time.sleep(0.1)
    return False


def _left(settings: Settings, lock: Lock) -> str:
    running = _running(settings)
    names = ", ".join(s.service for s in running) or "The setup"
    pids = ", ".join(str(s.supervisor_pid) for s in running) or str(lock.holder())
    return f"{names} did not end, though killed; end process {pids} as its owner, or as root."
