"""Bring the databases of Airflow and MLflow to the installed versions.

What is migrated is a copy, which then takes the database's place: a migration that fails or is
killed leaves the database as it was.
"""

from __future__ import annotations

import sqlite3
import subprocess
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Protocol

from terraflow.console import say
from terraflow.errors import ServiceError
from terraflow.files import write_private
from terraflow.process.child_processes import die_with_parent
from terraflow.settings import Settings
from terraflow.stack.databases import postgres
from terraflow.stack.databases.addresses import PACKAGES

__all__ = ["Database", "copy_database", "migrate", "run_migrations"]

MIGRATE_S = 1800.0


class Database(Protocol):
    """One database on its way to the installed version."""

    @property
    def name(self) -> str:
        """Of the program that has it."""

    def is_current(self) -> bool:
        """Tell whether it fits the installed version."""

    def make_draft(self) -> str:
        """Copy what there is; give the copy's address."""

    def publish(self) -> None:
        """Put the copy in the database's place."""


@dataclass(frozen=True)
class SqliteDatabase:
    """A file, with its stamp beside it."""

    name: str
    settings: Settings

    @property
    def file(self) -> Path:
        """The database in use."""
        return self.settings.var / self.name / f"{self.name}.db"

    @property
    def draft(self) -> Path:
        """The copy."""
        return self.file.with_suffix(".migrating")

    def is_current(self) -> bool:
        """Tell whether the file fits the installed version."""
        stamp = self.file.with_suffix(".version")
        known = self.file.exists() and stamp.exists()
        return known and stamp.read_text() == version(PACKAGES[self.name])

    def make_draft(self) -> str:
        """Copy the file, if there is one."""
        _delete(self.draft)
        if self.file.exists():
            copy_database(self.file, self.draft)
        return f"sqlite:///{self.draft}"

    def publish(self) -> None:
        """Rename the file."""
        _fold_journal(self.draft)
        self.draft.chmod(0o600)
        _delete(self.file, journals_only=True)
        self.draft.replace(self.file)
        write_private(self.file.with_suffix(".version"), version(PACKAGES[self.name]))


def migrate(settings: Settings, variables: Mapping[str, str]) -> None:
    """Bring both databases to the installed versions.

    Parameters
    ----------
    settings : Settings
        With its store decided and no port 0.
    variables : mapping
        Environment of a process of the stack.

    Raises
    ------
    ServiceError
        A migration failed; the database stays as it was.
    """
    wanted = [database for database in _databases(settings) if not database.is_current()]
    if not wanted:
        return
    with postgres.running(settings, variables):
        drafts = {database.name: database.make_draft() for database in wanted}
        run_migrations(drafts, settings, variables)
        for database in wanted:
            database.publish()


def _databases(settings: Settings) -> list[Database]:
    if settings.database.kind == "sqlite":
        return [SqliteDatabase(name, settings) for name in PACKAGES]
    from terraflow.stack.databases import server  # noqa: PLC0415 - it imports SQLAlchemy

    return [server.PostgresqlDatabase(name, settings) for name in PACKAGES]


def run_migrations(
    drafts: Mapping[str, str], settings: Settings, variables: Mapping[str, str]
) -> None:
    """Bring databases to the installed versions, beside each other.

    Parameters
    ----------
    drafts : mapping
        Name to address.

    Raises
    ------
    ServiceError
        A migration failed.
    """
    logs = {name: settings.log_dir / f"{name}-migration.log" for name in drafts}
    started: dict[str, subprocess.Popen[bytes]] = {}
    try:
        for name, draft in drafts.items():
            say(f"{PACKAGES[name]}: preparing its database (about 10 seconds)")
            started[name] = _start(name, draft, logs[name], variables)
        for name, process in started.items():
            if code := _wait(process, name, logs[name]):
                last = " | ".join(logs[name].read_text().strip().splitlines()[-3:])
                raise ServiceError(
                    f"Preparing {name}'s database failed with code {code}: {last}; see "
                    f"{logs[name]}."
                )
    finally:
        for process in started.values():
            if process.poll() is None:
                process.kill()
                process.wait()


def _wait(process: subprocess.Popen[bytes], name: str, log: Path) -> int:
    try:
        return process.wait(MIGRATE_S)
    except subprocess.TimeoutExpired as error:
        raise ServiceError(
            f"Preparing {name}'s database took more than {MIGRATE_S:.0f} s, and was stopped; the "
            f"database is as it was. See {log}, and repeat."
        ) from error


def _start(
    name: str, draft: str, log: Path, variables: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    commands = {
        "airflow": ["airflow", "db", "migrate"],
        "mlflow": ["mlflow", "db", "upgrade", draft],
    }
    conn_async = draft.replace("+psycopg2:", "+psycopg_async:").replace(
        "sqlite:", "sqlite+aiosqlite:"
    )
    airflow = {
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": draft,
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_ASYNC": conn_async,
    }
    with log.open("w") as output:
        return subprocess.Popen(
            commands[name],
            env={**variables, **airflow},
            stdout=output,
            stderr=subprocess.STDOUT,
            preexec_fn=die_with_parent,
        )


def copy_database(source: Path, target: Path) -> None:
    """Copy an SQLite database with what is still in its journal, as after a kill."""
    with closing(sqlite3.connect(source)) as old, closing(sqlite3.connect(target)) as new:
        old.backup(new)


def _fold_journal(database: Path) -> None:
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _delete(database: Path, *, journals_only: bool = False) -> None:
    for suffix in ("-wal", "-shm", "-journal", *([] if journals_only else [""])):
        database.with_name(database.name + suffix).unlink(missing_ok=True)
