"""How the services are: processes, memory, health, logs."""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO

import psutil

from terraflow.console import command, is_read, say, table
from terraflow.credentials import ADMIN, read_mlflow_token, read_secrets
from terraflow.disks.problems import little_room
from terraflow.errors import ConfigError, ServiceError
from terraflow.files import list_dir
from terraflow.settings import Settings
from terraflow.stack import minio
from terraflow.stack.model_server import MODEL_SERVER, ServedModel, model_server_url
from terraflow.stack.services import SERVICES, is_ready
from terraflow.state import SILENT, ServiceState, manager_pid, read_all

#: Within so many seconds a service is expected to answer after its start.
START_S = 300.0

__all__ = ["ServiceStatus", "memory_mb", "print_logs", "print_status", "status", "total_mb"]


@dataclass(frozen=True)
class ServiceStatus:
    """One row of `status`.

    Attributes
    ----------
    state : str
        ready, starting, not answering, waiting, restarting, failed or stopped.
    memory_mb : float
        Proportional set size of the service's processes; resident where the system does not tell
        the proportional one.
    reason : str
        Why it is not ready, where something tells.
    """

    service: str
    state: str
    pid: int | None
    memory_mb: float
    restarts: int
    url: str
    reason: str

    def cells(self) -> tuple[str, ...]:
        """Write it as a row of the table."""
        memory = f"{self.memory_mb:.0f}" if self.pid else "-"
        pid = str(self.pid or "-")
        return self.service, self.state, pid, memory, str(self.restarts), self.url


def status(settings: Settings) -> list[ServiceStatus]:
    """Look at every service: its processes, and whether it answers now."""
    states = read_all(settings.run_dir)
    used = [service for service in SERVICES.values() if service.has_use(settings)]
    with ThreadPoolExecutor(len(used)) as pool:  # a service that hangs keeps no other waiting
        answers = pool.map(lambda one: is_ready(one, settings, states.get(one.name)), used)
    rows = []
    for service, ready in zip(used, answers, strict=True):
        state = states.get(service.name)
        row = _row(service.name, state, ready, service.url(settings))
        if service.name == "minio" and row.state == "starting" and not minio.find():
            row = replace(row, reason=minio.last_word(settings.log_dir))
        rows.append(row)
    if (state := states.get(MODEL_SERVER)) and state.phase != "stopped":
        url = model_server_url(settings)
        row = _row(MODEL_SERVER, state, bool(url), url)
        served = ServedModel.read(settings)
        rows.append(replace(row, reason=row.reason or (served.news if served else "")))
    return rows


def _row(name: str, state: ServiceState | None, ready: bool, url: str) -> ServiceStatus:
    if not state or state.phase == "stopped":
        restarts, reason = (state.restarts, state.reason) if state else (0, "")
        return ServiceStatus(name, "stopped", None, 0.0, restarts, "", reason)
    phase, reason = str(state.phase), state.reason
    if state.phase == "running" and not ready and not reason and state.started_at < _late():
        told = time.strftime("%H:%M:%S", time.localtime(state.started_at))
        reason = f"{SILENT} since its start at {told}"
    if state.phase == "running":
        silent = reason.startswith(SILENT)
        phase = "ready" if ready else "not answering" if silent else "starting"
        reason = "" if ready and silent else reason
    memory = memory_mb(state.pid)
    return ServiceStatus(name, phase, state.pid, memory, state.restarts, url, reason)


def _late() -> float:
    """Tell since when, in seconds since the epoch, nothing is expected to be starting still."""
    return time.time() - START_S


def memory_mb(pid: int | None) -> float:
    """Proportional set size of a process and all below it; resident where that is not told."""
    total, members = 0, list[psutil.Process]()
    if not pid:
        return 0.0
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        members = [process, *process.children(recursive=True)]
    for member in members:
        with contextlib.suppress(psutil.Error):  # it has ended meanwhile; the others have not
            total += _pss(member.pid) or member.memory_info().rss
    return total / 2**20


def total_mb(settings: Settings) -> float:
    """Memory of all that runs here: the services, what they share, and what watches them."""
    managers = {manager_pid(settings.run_dir), manager_pid(settings.run_dir, MODEL_SERVER)}
    return sum(memory_mb(pid) for pid in managers)


def _pss(pid: int) -> int:
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    found = re.search(r"^Pss:\s+(\d+) kB", rollup, re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


def print_status(settings: Settings, *, as_json: bool, credentials: bool) -> None:
    """Print the state of every service, as a table or as JSON.

    Parameters
    ----------
    as_json : bool
        For programs.
    credentials : bool
        Print how to log in, too.

    Raises
    ------
    ConfigError
        There are no credentials yet.
    """
    rows = status(settings)
    secret = _credentials(settings) if credentials else {}
    if as_json:
        services = [asdict(row) for row in rows]
        document: dict[str, object] = {
            "store": settings.store,
            "memory_mb": total_mb(settings),
            "services": services,
        }
        say(json.dumps(document | ({"credentials": secret} if credentials else {}), indent=1))
        return
    table(
        ("service", "state", "pid", "MB", "restarts", "URL"),
        [row.cells() for row in rows],
    )
    say(f"Memory in all: {total_mb(settings):.0f} MB. State in {settings.var}.")
    for row in rows:
        if row.reason and row.state != "waiting":
            say(f"{row.service}: {row.reason}")
    if little := little_room(settings.folders):
        say(little)
    for name, value in secret.items():
        say(f"{name}: {value}")


def _credentials(settings: Settings) -> dict[str, str]:
    if not (settings.var / "secrets.json").exists():
        raise ConfigError(f"There are no credentials yet; `{command('setup')}` generates them.")
    secret = read_secrets(settings)
    return {
        "airflow user": ADMIN,
        "airflow password": secret["airflow_password"],
        "mlflow": f"{settings.mlflow_url}/?token={read_mlflow_token(settings)}",
        "jupyter": f"{settings.jupyter_url}/?token={secret['jupyter_token']}",
        "minio user": secret["minio_user"],
        "minio password": secret["minio_password"],
    }


def print_logs(settings: Settings, service: str = "", *, follow: bool = False) -> None:
    """Print the last lines of one log or of all, and what is added to them as long as it is read.

    Raises
    ------
    ServiceError
        There is no log of that name.
    """
    found = {path.stem: path for path in list_dir(settings.log_dir) if path.suffix == ".log"}
    wanted = {
        name: path
        for name, path in found.items()
        if not service or name == service or name.startswith(f"{service}-")
    }
    if not wanted:
        raise ServiceError(
            f"There is no log of {service or 'any service'} in {settings.log_dir}; choose among "
            f"{', '.join(found) or 'none: nothing was started yet'}."
        )
    files = {name: path.open(errors="replace") for name, path in wanted.items()}
    for name, file in files.items():
        for line in file.readlines()[-40:]:
            say(f"{name:<22}| {line.rstrip()}")
    while follow and is_read():
        for name, path in wanted.items():
            replaced = _is_replaced(files[name], path)
            for line in files[name].readlines():
                say(f"{name:<22}| {line.rstrip()}")
            if replaced:
                files[name].close()
                files[name] = path.open(errors="replace")
        time.sleep(0.5)


def _is_replaced(file: IO[str], path: Path) -> bool:
    """Tell whether the supervisor has begun another log in place of a long one."""
    with contextlib.suppress(FileNotFoundError):
        return not os.path.samestat(os.fstat(file.fileno()), path.stat())
    return False
