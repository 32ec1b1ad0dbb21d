"""Bring the databases of Airflow and MLflow to the installed versions."""

from __future__ import annotations

import sqlite3
import subprocess
from contextlib import closing
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from terraflow.console import say
from terraflow.errors import ServiceError
from terraflow.files import write_private
from terraflow.process.child_processes import die_with_parent
from terraflow.settings import Settings
from terraflow.stack.environment import environment

__all__ = ["copy_database", "migrate"]

PACKAGES = {"airflow": "apache-airflow", "mlflow": "mlflow"}


@dataclass(frozen=True)
class Migration:
    """One database on its way to the installed version.

    Attributes
    ----------
    name : str
        Of the service, the folder and the database.
    folder : Path
        Where the database lies.
    log : Path
        What the migration prints.
    """

    name: str
    folder: Path
    log: Path

    @property
    def database(self) -> Path:
        """The database in use."""
        return self.folder / f"{self.name}.db"

    @property
    def draft(self) -> Path:
        """The copy that is migrated, and takes the database's place when that is complete."""
        return self.folder / f"{self.name}.migrating"

    @property
    def stamp(self) -> Path:
        """File of the version that the database fits."""
        return self.folder / f"{self.name}.version"

    @property
    def installed(self) -> str:
        """Version of the installed package."""
        return version(PACKAGES[self.name])

    def is_done(self) -> bool:
        """Tell whether the database fits the installed version."""
        known = self.database.exists() and self.stamp.exists()
        return known and self.stamp.read_text() == self.installed

    def start(self, settings: Settings) -> subprocess.Popen[bytes]:
        """Start to migrate a copy."""
        _delete(self.draft)
        if self.database.exists():
            copy_database(self.database, self.draft)
        say(f"{PACKAGES[self.name]}: preparing its database (about 10 seconds)")
        draft = f"sqlite:///{self.draft}"
        commands = {
            "airflow": ["airflow", "db", "migrate"],
            "mlflow": ["mlflow", "db", "upgrade", draft],
        }
        with self.log.open("w") as output:
            return subprocess.Popen(
                commands[self.name],
                env=environment(settings) | {"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": draft},
                stdout=output,
                stderr=subprocess.STDOUT,
                preexec_fn=die_with_parent,
            )

    def finish(self, code: int) -> None:
        """Put the migrated copy in the database's place.

        Raises
        ------
        ServiceError
            The migration ended with another code than 0.
        """
        if code:
            last = " | ".join(self.log.read_text().strip().splitlines()[-3:])
            raise ServiceError(
                f"Preparing {self.name}'s database failed with code {code}: {last}; see {self.log}."
            )
        _fold_journal(self.draft)
        self.draft.chmod(0o600)
        _delete(self.database, journals_only=True)
        self.draft.replace(self.database)
        write_private(self.stamp, self.installed)


def migrate(settings: Settings) -> None:
    """Bring both databases to the installed versions, beside each other.

    Parameters
    ----------
    settings : Settings
        With its store decided and no port 0.

    Raises
    ------
    ServiceError
        A migration failed; the database stays as it was.
    """
    migrations = [
        Migration(name, settings.var / name, settings.log_dir / f"{name}-migration.log")
        for name in PACKAGES
    ]
    started = [(one, one.start(settings)) for one in migrations if not one.is_done()]
    try:
        for migration, process in started:
            migration.finish(process.wait())
    finally:
        for _, process in started:
            if process.poll() is None:
                process.kill()
                process.wait()


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
