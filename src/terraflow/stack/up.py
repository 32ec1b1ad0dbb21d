"""Bring the stack up and down, and tell how it is: honcho plus readiness."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import psutil

from terraflow import config
from terraflow.console import command, say, stop_on_sigterm, table
from terraflow.errors import ServiceError, StorageError, TerraFlowError
from terraflow.files import make_dir
from terraflow.lock import Lock
from terraflow.process import honcho_start
from terraflow.process.signals import held
from terraflow.settings import Settings, load, resolve_ports
from terraflow.stack import minio, setup
from terraflow.stack.databases.addresses import socket_folder
from terraflow.stack.environment import environment
from terraflow.stack.ports import check_ports
from terraflow.stack.services import MODEL_SERVER, Service, is_ready, select
from terraflow.stack.status import memory_mb, total_mb
from terraflow.state import manager_pid, read_all, read_state

__all__ = ["claim", "down", "reset", "up", "wait_until_ready"]

START_S = 300.0
STOP_S = 10.0
REMIND_S = 10.0


def up(assignments: Iterable[str] = (), *, only: Iterable[str] = (), detach: bool = False) -> int:
    """Start the services and wait until every one answers.

    In the foreground this process becomes honcho: Ctrl+C there stops everything.

    Returns
    -------
    int
        0 when all are ready; with `detach` only.

    Raises
    ------
    ConfigError
        A setting is wrong.
    ServiceError
        The stack already runs, a port is taken, or a service does not become ready.
    """
    began = time.time()
    stop_on_sigterm()
    setup.check_assignments(assignments := list(assignments))
    settings = load(assignments, running=False)
    make_dir(settings.run_dir)
    lock = claim(settings)
    settings = resolve_ports(settings)
    expected = settings.model_copy(update={"store": setup.expected_store(settings)})
    check_ports(settings, select(expected, only))
    settings = setup.decide_store(settings, wait=False)
    services = select(settings, only)
    setup.prepare(settings)
    settings.save()
    root = config.project_root()
    groups = dict.fromkeys(service.group for service in services)
    honcho_command = [sys.executable, "-m", honcho_start.__name__, str(root / "Procfile"), *groups]
    variables = environment(settings) | {"TERRAFLOW_ECHO": "0"}
    os.chdir(root)
    if not detach:
        _watch_in_child(settings, services, began)
        with held():
            os.execve(sys.executable, honcho_command, variables)  # the lock stays with honcho
    with (settings.log_dir / "honcho.log").open("w") as log, held():
        honcho = subprocess.Popen(
            honcho_command,
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            pass_fds=[lock.fileno()],
        )
    lock.hand_over(honcho.pid)
    try:
        wait_until_ready(settings, services, began, alive=lambda: honcho.poll() is None)
    except KeyboardInterrupt:
        say("Stopping what was started")
        honcho.terminate()
        honcho.wait(STOP_S)
        raise
    log_in = command("status", "--show-credentials")
    say(f"Stop it with `{command('down')}`; see credentials with `{log_in}`.")
    return 0


def claim(settings: Settings) -> Lock:
    """Take this checkout, after what a killed stack left has ended.

    Raises
    ------
    ServiceError
        The stack already runs.
    """
    lock = Lock(settings.run_dir / "up.lock")
    deadline = time.monotonic() + STOP_S
    while True:
        pid = manager_pid(settings.run_dir)
        if not pid and lock.acquire(inherit=True):
            return lock
        holder = pid or lock.holder()
        if (holder and _is_alive(holder)) or time.monotonic() > deadline:
            raise ServiceError(
                f"TerraFlow already runs here (pid {holder}, state in {settings.var}); see it with "
                f"`{command('status')}`, stop it with `{command('down')}`."
            )
        time.sleep(0.2)


def _is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _watch_in_child(settings: Settings, services: list[Service], began: float) -> None:
    """Print the progress from a forked child, while this process becomes honcho."""
    parent = os.getpid()
    if os.fork():
        return
    code = 0
    try:
        wait_until_ready(settings, services, began, alive=lambda: os.getppid() == parent)
        log_in = command("status", "--show-credentials")
        say(f"Press Ctrl+C to stop. `{log_in}` shows how to log in.")
    except TerraFlowError as error:
        say(str(error))
        code = 1
    except KeyboardInterrupt:
        pass
    finally:
        os._exit(code)


def wait_until_ready(
    settings: Settings, services: list[Service], began: float, *, alive: Callable[[], bool]
) -> None:
    """Print a line as each service becomes ready, then the table.

    Parameters
    ----------
    began : float
        Seconds since the epoch, from which the times count.
    alive : callable
        Tells whether the stack is still being started.

    Raises
    ------
    ServiceError
        Services failed, or did not answer within 300 seconds.
    """
    say(f"Starting {', '.join(service.name for service in services)}")
    took: dict[str, float] = {}
    failed: dict[str, str] = {}
    reminded = time.monotonic()
    deadline = reminded + START_S
    while len(took) + len(failed) < len(services):
        for service in services:
            if service.name in took or service.name in failed:
                continue
            state = read_state(settings.run_dir, service.name)
            cause = next((name for name in service.after if name in failed), None)
            if cause or (state and state.phase == "failed"):
                reason = f"it needs {cause}" if cause else state.reason  # type: ignore[union-attr]
                failed[service.name] = reason
                say(f"  {service.name:<22} failed: {reason}")
            elif is_ready(service, settings, state):
                seconds = took[service.name] = time.time() - began
                ready = f"  {service.name:<22} ready after {seconds:.1f} s  {service.url(settings)}"
                say(ready.rstrip())
        missing = [s.name for s in services if s.name not in took and s.name not in failed]
        if missing and not alive():
            raise ServiceError(
                f"The stack was stopped before {', '.join(missing)} answered; see "
                f"{settings.log_dir}, or `{command('logs', missing[0])}`."
            )
        building = "minio" in missing and not minio.find()
        if time.monotonic() > deadline and not building:
            raise ServiceError(
                f"{', '.join(missing)} did not answer within {START_S:.0f} s; see "
                f"`{command('logs', missing[0])}`."
            )
        if missing and time.monotonic() - reminded > REMIND_S:
            reminded = time.monotonic()
            doing = f" ({minio.last_word(settings.log_dir)})" if building else ""
            say(f"  still starting after {time.time() - began:.0f} s: {', '.join(missing)}{doing}")
        time.sleep(0.2)
    states = read_all(settings.run_dir)
    table(
        ("service", "seconds", "MB", "URL"),
        [
            (s.name, f"{took[s.name]:.1f}", f"{memory_mb(states[s.name].pid):.0f}", s.url(settings))
            for s in services
            if s.name in took
        ],
    )
    say(f"All of it: {time.time() - began:.1f} s, {total_mb(settings):.0f} MB.")
    if failed:
        raise ServiceError(f"{', '.join(failed)} failed; the other services go on.")


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
