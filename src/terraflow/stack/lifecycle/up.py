"""Start the stack: settings, ports, setup, then honcho."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable

import psutil

from terraflow import config
from terraflow.console import command, say, stop_on_sigterm
from terraflow.disks.problems import disk_errors
from terraflow.errors import ServiceError, TerraFlowError
from terraflow.files import make_dir
from terraflow.lock import Lock
from terraflow.process import honcho_start
from terraflow.process.signals import held
from terraflow.settings import Settings, load, resolve_ports
from terraflow.stack import setup
from terraflow.stack.environment import environment
from terraflow.stack.lifecycle.readiness import wait_until_ready
from terraflow.stack.ports import check_ports
from terraflow.stack.services import Service, select
from terraflow.state import manager_pid

__all__ = ["claim", "up"]

STOP_S = 10.0


def up(
    assignments: Iterable[str] = (),
    *,
    only: Iterable[str] = (),
    detach: bool = False,
    when_ready: Callable[[Settings], None] = lambda _: None,
) -> int:
    """Start the services and wait until every one answers.

    In the foreground this process becomes honcho: Ctrl+C there stops everything.

    Parameters
    ----------
    when_ready : callable
        Done when no service is waited for any more.

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
        _watch_in_child(lock, settings, services, began, when_ready)
        with held():
            os.execve(sys.executable, honcho_command, variables)  # the lock stays with honcho
    honcho = None
    try:
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
        wait_until_ready(
            settings, services, began, alive=lambda: honcho.poll() is None, when_ready=when_ready
        )
    except KeyboardInterrupt:
        if honcho:
            _stop(honcho)
        raise
    log_in = command("status", "--show-credentials")
    say(f"Stop it with `{command('down')}`; see credentials with `{log_in}`.")
    return 0


def _stop(honcho: subprocess.Popen[bytes]) -> None:
    say("Stopping what was started")
    honcho.terminate()
    try:
        honcho.wait(STOP_S)
    except subprocess.TimeoutExpired:  # it hangs; supervisors end with it
        honcho.kill()


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


def _watch_in_child(
    lock: Lock,
    settings: Settings,
    services: list[Service],
    began: float,
    when_ready: Callable[[Settings], None],
) -> None:
    """Print the progress from a forked child, while this process becomes honcho."""
    parent = os.getpid()
    if os.fork():
        return
    lock.release()  # the lock is honcho's: it would be held as long as this process is suspended
    code = 0
    try:
        with disk_errors(lambda: settings.folders):
            wait_until_ready(
                settings,
                services,
                began,
                alive=lambda: os.getppid() == parent,
                when_ready=when_ready,
            )
        log_in = command("status", "--show-credentials")
        say(f"Press Ctrl+C to stop. `{log_in}` shows how to log in.")
    except TerraFlowError as error:
        say(str(error))
        code = 1
    except KeyboardInterrupt:
        pass
    finally:
        os._exit(code)
