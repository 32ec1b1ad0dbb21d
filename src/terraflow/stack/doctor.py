"""Check what the stack needs; behind every failure stands its remedy."""

from __future__ import annotations

import shutil
import sqlite3
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

from terraflow import config
from terraflow.checkout.packages import remedy, unmet
from terraflow.console import command, say
from terraflow.errors import ServiceError, TerraFlowError
from terraflow.files import make_dir
from terraflow.settings import Settings
from terraflow.stack import minio
from terraflow.stack.databases import postgres
from terraflow.stack.ports import check_port
from terraflow.stack.services import SERVICES
from terraflow.state import manager_pid

__all__ = ["Check", "check_all", "report"]

PYTHONS = ((3, 11), (3, 14))
DISK_GB, MEMORY_GB = 5.0, 3.0


@dataclass(frozen=True)
class Check:
    """One line of the report; a failure has a remedy."""

    name: str
    ok: bool
    found: str
    remedy: str = ""


def report(load: Callable[[], Settings]) -> int:
    """Print all checks; return 1 if one failed."""
    checks = check_all(load)
    for check in checks:
        say(f"{'ok    ' if check.ok else 'FAILED'}  {check.name}: {check.found}")
        if not check.ok:
            say(f"        {check.remedy}")
    return int(any(not check.ok for check in checks))


def check_all(load: Callable[[], Settings]) -> list[Check]:
    """Run every check.

    Parameters
    ----------
    load : callable
        Returns the settings, or raises `ConfigError`.
    """
    checks = [check_python(sys.version_info[:2]), _check_packages()]
    try:
        settings = load()
    except TerraFlowError as error:
        return [*checks, Check("configuration", False, "invalid", str(error))]
    checks.append(Check("configuration", True, "valid"))
    checks.append(check_dependencies(config.project_root()))
    return [
        *checks,
        check_writable(settings.var),
        check_disk(settings.var),
        check_memory(psutil.virtual_memory().available / 2**30),
        check_minio(settings),
        check_database(settings),
        *_check_ports(settings),
    ]


def check_python(found: tuple[int, int]) -> Check:
    """Check the interpreter's version."""
    return Check(
        "Python",
        PYTHONS[0] <= found < PYTHONS[1],
        f"{found[0]}.{found[1]}",
        "Install Python 3.11, 3.12 or 3.13, remove .venv and name it: make up PYTHON=python3.12.",
    )


def check_writable(folder: Path) -> Check:
    """Check that state can be written."""
    try:
        make_dir(folder)
    except TerraFlowError as error:
        return Check("write access", False, str(folder), str(error))
    return Check("write access", True, str(folder))


def check_disk(folder: Path) -> Check:
    """Check the free space where the state is."""
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free / 2**30
    remedy = f"Free at least {DISK_GB:.0f} GB, or set TERRAFLOW_VAR to a folder of a larger disk."
    return Check("disk", free >= DISK_GB, f"{free:.1f} GB free at {folder}", remedy)


def check_memory(available_gb: float) -> Check:
    """Check the available memory."""
    fewer = command("up", "--only", "mlflow,jupyter")
    return Check(
        "memory",
        available_gb >= MEMORY_GB,
        f"{available_gb:.1f} GB available",
        f"Close programs until {MEMORY_GB:.0f} GB are available, or start fewer services: {fewer}.",
    )


def check_minio(settings: Settings) -> Check:
    """Check for MinIO's binary, or for Go to build it; needless with another store."""
    if settings.store not in ("minio", None):
        return Check("MinIO", True, f'not needed: store = "{settings.store}"')
    if binary := minio.find():
        return Check("MinIO", True, str(binary))
    if minio.can_build():
        return Check("MinIO", True, "not there yet; the first start builds it with Go")
    remedy = f'{minio.REMEDIES[:1].upper()}{minio.REMEDIES[1:]}; or set store = "local".'
    return Check("MinIO", False, "no binary, and no Go to build it", remedy)


def check_database(settings: Settings) -> Check:
    """Tell which SQLite is linked and when to leave it; or see that PostgreSQL is there."""
    if settings.database.kind == "sqlite":
        copying = command("database", "copy", "--to", "postgresql")
        found = (
            f"SQLite {sqlite3.sqlite_version}; before 3.51.3 it can, rarely, damage a database in "
            "WAL mode that several processes write to; where many tasks or machines write, change "
            f"to PostgreSQL by `{copying}`"
        )
        return Check("database", True, found)
    try:
        postgres.check_drivers()
        if settings.database.is_here:
            return Check("database", True, f"PostgreSQL at {postgres.find(settings)}")
        from terraflow.stack.databases import server  # noqa: PLC0415 - it imports SQLAlchemy

        server.exists(settings, "postgres")
    except TerraFlowError as error:
        return Check("database", False, "no PostgreSQL", str(error))
    return Check("database", True, f"{settings.database.url} answers")


def _check_packages() -> Check:
    try:
        found = ", ".join(f"{p} {version(p)}" for p in ("apache-airflow", "mlflow", "jupyterlab"))
    except PackageNotFoundError as error:
        remedy = "Install them again: rm -r .venv && make up, or pixi run up."
        return Check("packages", False, f"{error.name} is missing", remedy)
    return Check("packages", True, found)


def check_dependencies(root: Path) -> Check:
    """Check that what pyproject.toml asks for is installed."""
    if missing := unmet(root):
        return Check("dependencies", False, f"lacking {', '.join(missing)}", remedy())
    return Check("dependencies", True, f"all that pyproject.toml asks for, in {sys.prefix}")


def _check_ports(settings: Settings) -> list[Check]:
    if pid := manager_pid(settings.run_dir):
        return [Check("ports", True, f"in use by this stack (pid {pid})")]
    checks = []
    for service in SERVICES.values():
        for key in service.ports:
            port = dict(settings.ports())[key]
            try:
                check_port(settings, key, service.name)
                checks.append(Check(f"port {port}", True, f"free for {service.name}"))
            except ServiceError as error:
                checks.append(Check(f"port {port}", False, f"taken ({service.name})", str(error)))
    return checks
