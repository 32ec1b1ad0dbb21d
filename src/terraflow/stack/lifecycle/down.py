"""Stop the stack, and delete its state."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import psutil

from terraflow.console import command, say
from terraflow.errors import ServiceError, StorageError
from terraflow.lock import Lock
from terraflow.settings import Settings
from terraflow.stack.databases.addresses import socket_folder
from terraflow.state import ServiceState, end_leftovers, is_same, read_all, started_at

__all__ = ["down", "reset"]

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
        A process did not end even when killed.
    """
    lock = Lock(settings.run_dir / "up.lock")
    before = _running(settings)
    holder = lock.holder() if lock.is_held() else None  # still in its setup, or honcho
    managers = _managers(before) | ({holder: started_at(holder)} if holder else {})
    supervisors = {s.supervisor_pid: s.supervisor_started for s in before}
    helpers = _helpers(managers)
    _signal(managers or supervisors, signal.SIGTERM)
    _signal(managers | helpers | supervisors, signal.SIGCONT)  # which Ctrl+Z suspended
    if not _wait(settings, lock, STOP_S, alone_s=ALONE_S if before else STOP_S):
        say("It does not stop by itself, and is killed.")
        _signal(managers | helpers, signal.SIGKILL)
        # supervisors end their services when their manager is gone, unless they hang as well
        _signal(supervisors, signal.SIGCONT)
        if not _wait(settings, lock, KILL_S / 2):
            _signal(supervisors, signal.SIGKILL)
            if not _wait(settings, lock, KILL_S / 2):
                raise ServiceError(_left(settings, lock))
    end_leftovers(settings.var)
    (settings.run_dir / "settings.json").unlink(missing_ok=True)
    return bool(managers or supervisors)


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


def reset(settings: Settings, confirm: Callable[[str], bool]) -> bool:
    """Delete all state, after asking.

    Parameters
    ----------
    confirm : callable
        Gets what will be lost; returns whether to go on.

    Raises
    ------
    ServiceError
        The stack runs.
    StorageError
        The folder can't be deleted.
    """
    running = [s.service for s in read_all(settings.run_dir).values() if s.phase != "stopped"]
    locks = [Lock(settings.run_dir / name) for name in ("up.lock", "setup.lock")]
    if busy := running or [f"process {lock.holder()}" for lock in locks if lock.is_held()]:
        raise ServiceError(
            f"TerraFlow runs here ({', '.join(busy)}); stop it with `{command('down')}` first."
        )
    folders = [path for path in (settings.var, settings.artifacts) if path.exists()]
    if not folders:
        say("Nothing to delete.")
        return False
    far = ", and what lies in the S3 store" if settings.store == "s3" else ""
    sizes = ", ".join(f"{path} ({_size_mb(path):.0f} MB)" for path in folders)
    if not confirm(
        f"This deletes {sizes}: all runs and models, the data in the store, DAG runs, logs and "
        f"generated secrets. Configuration, code and notebooks stay{far}."
    ):
        return False
    try:
        for folder in folders:
            if folder.exists():  # it may lie in the one before
                shutil.rmtree(target := folder.resolve())
                if folder.is_symlink():  # to a larger disk: the link stays
                    target.mkdir(mode=0o700)
        shutil.rmtree(socket_folder(settings), ignore_errors=True)
    except OSError as error:
        why = f"{error.filename} can't be deleted: {error.strerror}"
        raise StorageError(f"{why}; delete it yourself.") from error
    return True


def _size_mb(folder: Path) -> float:
    return sum(p.lstat().st_size for p in folder.rglob("*") if p.is_file()) / 2**20
