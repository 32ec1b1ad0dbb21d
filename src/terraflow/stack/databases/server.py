"""What is done to whole databases of a PostgreSQL server: draft, publish, look for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from sqlalchemy import Connection, create_engine, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from terraflow.errors import ServiceError, first_line
from terraflow.files import write_private
from terraflow.settings import Settings
from terraflow.stack.databases import addresses
from terraflow.stack.databases.addresses import PACKAGES, address, folder

__all__ = ["PostgresqlDatabase", "connect", "draft", "exists", "make_draft", "publish"]


@dataclass(frozen=True)
class PostgresqlDatabase:
    """A database of a server; its stamp names the server too."""

    name: str
    settings: Settings

    @property
    def stamp(self) -> Path:
        """File of the version that the database fits."""
        return folder(self.settings) / f"{self.name}.version"

    def _expected(self) -> str:
        return f"{version(PACKAGES[self.name])} {address(self.settings, self.name)}"

    def is_current(self) -> bool:
        """Tell whether the database fits the installed version."""
        return self.stamp.exists() and self.stamp.read_text() == self._expected()

    def make_draft(self) -> str:
        """Copy the database, if there is one."""
        make_draft(self.settings, self.name)
        return address(self.settings, draft(self.name))

    def publish(self) -> None:
        """Rename the database."""
        publish(self.settings, [self.name])
        self.note()

    def note(self) -> None:
        """Write down that it fits the installed version."""
        write_private(self.stamp, self._expected())


def draft(name: str) -> str:
    """Name of the database that takes another's place once it is complete."""
    return f"{name}_draft"


def _former(name: str) -> str:
    return f"{name}_former"


def make_draft(settings: Settings, name: str, *, empty: bool = False) -> None:
    """Copy a database, if it is there; begin anew what was interrupted.

    Parameters
    ----------
    empty : bool
        Copy nothing.

    Raises
    ------
    ServiceError
        The server does not answer, or refuses, as where others still use the database.
    """
    with _autocommit(settings) as connection:
        for left in (draft(name), _former(name)):
            connection.execute(text(f'DROP DATABASE IF EXISTS "{left}"'))
        template = "" if empty or not _exists(connection, name) else f' TEMPLATE "{name}"'
        connection.execute(text(f'CREATE DATABASE "{draft(name)}"{template}'))


def publish(settings: Settings, names: Iterable[str]) -> None:
    """Put drafts in the place of their databases: all of them or, when interrupted, none.

    Raises
    ------
    ServiceError
        As `make_draft`.
    """
    names = list(names)
    with connect(settings, "postgres") as connection:
        for name in names:
            if _exists(connection, name):
                connection.execute(text(f'ALTER DATABASE "{name}" RENAME TO "{_former(name)}"'))
            connection.execute(text(f'ALTER DATABASE "{draft(name)}" RENAME TO "{name}"'))
    with _autocommit(settings) as connection:
        for name in names:
            connection.execute(text(f'DROP DATABASE IF EXISTS "{_former(name)}"'))


def exists(settings: Settings, name: str) -> bool:
    """Tell whether the server has a database.

    Raises
    ------
    ServiceError
        The server does not answer.
    """
    with connect(settings, "postgres") as connection:
        return _exists(connection, name)


@contextmanager
def connect(settings: Settings, name: str) -> Iterator[Connection]:
    """Open a transaction, committed where the block ends without an error.

    Raises
    ------
    ServiceError
        The server does not answer, or refuses a statement.
    """
    engine = create_engine(address(settings, name), poolclass=NullPool)
    with _told(settings), engine.begin() as connection:
        yield connection


@contextmanager
def _autocommit(settings: Settings) -> Iterator[Connection]:
    engine = create_engine(
        address(settings, "postgres"), poolclass=NullPool, isolation_level="AUTOCOMMIT"
    )
    with _told(settings), engine.connect() as connection:
        yield connection


@contextmanager
def _told(settings: Settings) -> Iterator[None]:
    try:
        yield
    except DBAPIError as error:
        hint = "check [database] url and ~/.pgpass" if settings.database.url else "see its log"
        raise ServiceError(
            f"{addresses.server(settings)} refused: {first_line(error.orig)}; {hint}."
        ) from error


def _exists(connection: Connection, name: str) -> bool:
    query = text("SELECT count(*) FROM pg_database WHERE datname = :name")
    return bool(connection.execute(query, {"name": name}).scalar_one())
