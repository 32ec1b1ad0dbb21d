"""Bring the stack up and down, and tell how it is: honcho plus readiness."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import psutil

from terraflow import config, setup
from terraflow.console import say, table
from terraflow.errors import ServiceError, StorageError, TerraFlowError
from terraflow.files import make_dir
from terraflow.lock import Lock
from terraflow.services import MODEL_SERVER, SERVICES, Service, environment, is_ready, select
from terraflow.settings import Settings, load, resolve_ports
from terraflow.state import ServiceState, manager_pid, read_all, read_state

__all__ = ["ServiceStatus", "check_port", "check_ports", "down", "logs", "reset", "status", "up", "wait_until_ready"]

START_S = 300.0
STOP_S = 10.0
REMIND_S = 10.0


@dataclass(frozen=True)
class ServiceStatus:
    """One row of `status`.

    Attributes
    ----------
    state : str
        ready, starting, waiting, restarting, failed or stopped.
    memory_mb : float
        Proportional set size of the service's processes and of their supervisor; resident where
        the system does not tell the proportional one.
    """

    service: str
    state: str
    pid: int | None
    memory_mb: float
    restarts: int
    url: str
    reason: str


def up(assignments: Iterable[str] = (), *, only: Iterable[str] = (), detach: bool = False) -> int:
    """Start the services and wait until every one answers.

    In the foreground this process becomes honcho: Ctrl+C there stops everything.

    Returns
    -------
    int
        0 when all are ready; with `detach` only.

    Raises
    ------
    ServiceError
        The stack already runs, a port is taken, or a service does not become ready.
    """
    began = time.time()
    settings = load(assignments, running=False)
    make_dir(settings.run_dir)
    lock = _claim(settings)
    settings = resolve_ports(settings)
    check_ports(settings, select(settings.model_copy(update={"store": settings.store or "minio"}),
                                 only))
    settings = setup.decide_store(settings)
    services = select(settings, only)
    setup.prepare(settings)
    settings.save()
    command = [sys.executable, "-m", "honcho", "start", "-e", os.devnull,
               "-d", str(config.project_root()), "-f", str(config.project_root() / "Procfile"),
               *(service.name for service in services)]  # fmt: skip
    variables = environment(settings) | {"TERRAFLOW_ECHO": "0"}
    os.chdir(config.project_root())
    if not detach:
        _watch_in_child(settings, services, began)
        os.execve(sys.executable, command, variables)  # the lock stays with honcho
    lock.release()
    with (settings.log_dir / "honcho.log").open("w") as log:
        honcho = subprocess.Popen(
            command, env=variables, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            start_new_session=True,
        )  # fmt: skip
    try:
        wait_until_ready(settings, services, began, alive=lambda: honcho.poll() is None)
    except KeyboardInterrupt:
        say("Stopping what was started")
        honcho.terminate()
        honcho.wait(STOP_S)
        raise
    say("Stop it with `invoke down`; see credentials with `invoke status --show-credentials`.")
    return 0


def _claim(settings: Settings) -> Lock:
    """Take this checkout, after what a killed stack left has ended."""
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
                "`invoke status`, stop it with `invoke down`."
            )
        time.sleep(0.2)


def _is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def check_ports(settings: Settings, services: Iterable[Service]) -> None:
    """Raise `ServiceError` that names every taken port, its holder and how to change it."""
    problems = []
    for service in services:
        for key in service.ports:
            try:
                check_port(settings, key, service.name)
            except ServiceError as error:
                problems.append(str(error))
    if problems:
        raise ServiceError("\n".join(problems))


def check_port(settings: Settings, key: str, service: str) -> None:
    """Raise `ServiceError` if the port of a settings key, such as "mlflow.port", is taken."""
    port = dict(settings.ports())[key]
    if _is_taken(settings.host, port):
        section, name = key.split(".")
        raise ServiceError(
            f"Port {port} ({service}) is taken by {_holder(port)}; end that, or set "
            f"TERRAFLOW_{section.upper()}_{name.upper()} (0 means any free port), or {name} in "
            f"[{section}] of config/local/terraflow.toml."
        )


def _is_taken(host: str, port: int) -> bool:
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((host, port))
        except OSError:
            return True
    with socket.socket() as sock:
        sock.settimeout(0.5)
        return sock.connect_ex((host, port)) == 0


def _holder(port: int) -> str:
    with contextlib.suppress(psutil.Error):  # other users' sockets are hidden on some systems
        for connection in psutil.net_connections("tcp"):
            here = connection.laddr and connection.laddr.port == port
            if here and connection.status == psutil.CONN_LISTEN and connection.pid:
                process = psutil.Process(connection.pid)
                return f"process {connection.pid} ({' '.join(process.cmdline())[:80]})"
    return "a process of another user"


def _watch_in_child(settings: Settings, services: list[Service], began: float) -> None:
    """Print the progress from a forked child, while this process becomes honcho."""
    parent = os.getpid()
    if os.fork():
        return
    code = 0
    try:
        wait_until_ready(settings, services, began, alive=lambda: os.getppid() == parent)
        say("Press Ctrl+C to stop. `invoke status --show-credentials` shows how to log in.")
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
                took[service.name] = time.time() - began
                say(f"  {service.name:<22} ready after {took[service.name]:.1f} s")
        missing = [s.name for s in services if s.name not in took and s.name not in failed]
        if missing and not alive():
            raise ServiceError(
                f"The stack was stopped before {', '.join(missing)} answered; see "
                f"{settings.log_dir}, or `invoke logs {missing[0]}`."
            )
        if time.monotonic() > deadline:
            raise ServiceError(
                f"{', '.join(missing)} did not answer within {START_S:.0f} s; see "
                f"`invoke logs {missing[0]}`."
            )
        if missing and time.monotonic() - reminded > REMIND_S:
            reminded = time.monotonic()
            say(f"  still starting after {time.time() - began:.0f} s: {', '.join(missing)}")
        time.sleep(0.2)
    table(
        ("service", "seconds", "URL"),
        [(s.name, f"{took[s.name]:.1f}", s.url(settings)) for s in services if s.name in took],
    )
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


def status(settings: Settings) -> list[ServiceStatus]:
    """Look at every service: its processes, and whether it answers now."""
    states = read_all(settings.run_dir)
    rows = []
    for service in SERVICES.values():
        if service.name == "minio" and settings.store not in ("minio", None):
            continue
        state = states.get(service.name)
        ready = is_ready(service, settings, state)
        rows.append(_row(service.name, state, ready, service.url(settings)))
    if (state := states.get(MODEL_SERVER)) and state.phase != "stopped":
        from terraflow.serving import model_server_url  # noqa: PLC0415 - only where one runs

        url = model_server_url(settings)
        rows.append(_row(MODEL_SERVER, state, bool(url), url))
    return rows


def _row(name: str, state: ServiceState | None, ready: bool, url: str) -> ServiceStatus:
    if not state or state.phase == "stopped":
        return ServiceStatus(name, "stopped", None, 0.0, state.restarts if state else 0, "",
                             state.reason if state else "")  # fmt: skip
    phase = {"running": "ready" if ready else "starting"}.get(state.phase, state.phase)
    memory = _memory_mb(state.supervisor_pid)
    return ServiceStatus(name, phase, state.pid, memory, state.restarts, url, state.reason)


def _memory_mb(pid: int) -> float:
    total = 0
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        for member in [process, *process.children(recursive=True)]:
            total += _pss(member.pid) or member.memory_info().rss
    return total / 2**20


def _pss(pid: int) -> int:
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    found = re.search(r"^Pss:\s+(\d+) kB", rollup, re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


def logs(settings: Settings, service: str = "", *, follow: bool = False) -> None:
    """Print the last lines of one log or of all, and what is added to them.

    Raises
    ------
    ServiceError
        There is no log of that name.
    """
    found = {path.stem: path for path in sorted(settings.log_dir.glob("*.log"))}
    wanted = {n: p for n, p in found.items() if not service or n == service
              or n.startswith(f"{service}-")}  # fmt: skip
    if not wanted:
        raise ServiceError(
            f"There is no log of {service or 'any service'} in {settings.log_dir}; choose among "
            f"{', '.join(found) or 'none: nothing was started yet'}."
        )
    files = {name: path.open(errors="replace") for name, path in wanted.items()}
    for name, file in files.items():
        for line in file.readlines()[-40:]:
            say(f"{name:<22}| {line.rstrip()}")
    while follow:
        for name, file in files.items():
            for line in file.readlines():
                say(f"{name:<22}| {line.rstrip()}")
        time.sleep(0.5)


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
    if pid := manager_pid(settings.run_dir):
        raise ServiceError(f"TerraFlow runs (pid {pid}); stop it with `invoke down` first.")
    folders = [path for path in (settings.var, settings.artifacts) if path.exists()]
    if not folders:
        say("Nothing to delete.")
        return False
    sizes = ", ".join(f"{path} ({_size_mb(path):.0f} MB)" for path in folders)
    if not confirm(
        f"This deletes {sizes}: all runs and models, the data in the store, DAG runs, logs and "
        "generated secrets. Configuration, code and notebooks stay."
    ):
        return False
    try:
        for folder in folders:
            shutil.rmtree(folder)
    except OSError as error:
        raise StorageError(f"{error.filename} can't be deleted: {error.strerror}.") from error
    return True


def _size_mb(folder: Path) -> float:
    return sum(p.lstat().st_size for p in folder.rglob("*") if p.is_file()) / 2**20
