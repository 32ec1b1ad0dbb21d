"""Stop the stack, and delete its state."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

from terraflow.console import command, say
from terraflow.errors import ServiceError, StorageError
from terraflow.lock import Lock
from terraflow.settings import Settings
from terraflow.stack.databases.addresses import socket_folder
from terraflow.stack.model_server import MODEL_SERVER
from terraflow.state import manager_pid, read_all

__all__ = ["down", "reset"]

STOP_S = 10.0


def down(settings: Settings) -> bool:
    """Stop the stack and the model server.

    Returns
    -------
    bool
        Whether there was anything to stop.

    Raises
    ------
    ServiceError
        A process did not stop within 10 seconds even after SIGKILL.
    """
    managers = {manager_pid(settings.run_dir), manager_pid(settings.run_dir, MODEL_SERVER)}
    lock = Lock(settings.run_dir / "up.lock")
    if lock.is_held():  # still in its setup
        managers.add(lock.holder())
    pids = {pid for pid in managers if pid}
    states = read_all(settings.run_dir).values()
    pids |= {s.supervisor_pid for s in states if s.phase != "stopped"} if not pids else set()
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP_S
    while time.monotonic() < deadline:
        running = [s for s in read_all(settings.run_dir).values() if s.phase != "stopped"]
        if not running and not lock.is_held():
            (settings.run_dir / "settings.json").unlink(missing_ok=True)
            return bool(pids)
        time.sleep(0.1)
    raise ServiceError(
        f"{', '.join(s.service for s in running) or 'The setup'} did not stop within {STOP_S:.0f} "
        f"s; end process {', '.join(str(s.supervisor_pid) for s in running) or lock.holder()}."
    )


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
