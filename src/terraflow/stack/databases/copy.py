"""Copy the databases from SQLite to PostgreSQL: whole and compared, or not at all."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from sqlalchemy import Connection, MetaData, Table, func, select, text
from sqlalchemy.exc import DBAPIError

from terraflow.console import say
from terraflow.errors import ServiceError, first_line
from terraflow.sections import Database
from terraflow.settings import Settings
from terraflow.stack.databases import addresses, postgres
from terraflow.stack.databases.addresses import PACKAGES, address
from terraflow.stack.databases.migrate import SqliteDatabase, migrate, run_migrations
from terraflow.stack.databases.rows import Rows
from terraflow.stack.databases.server import (
    PostgresqlDatabase,
    connect,
    draft,
    exists,
    make_draft,
    publish,
)

__all__ = ["copy_all", "copy_tables"]


def copy_all(settings: Settings, variables: Mapping[str, str]) -> None:
    """Copy both databases; the files stay as they are.

    All is written to drafts, which get their names at once when both are complete and compared.

    Parameters
    ----------
    settings : Settings
        With kind "postgresql".
    variables : mapping
        Environment of a process of the stack.

    Raises
    ------
    ServiceError
        A file is missing or damaged, PostgreSQL has such a database already, or what arrived
        differs from what was sent.
    """
    source = settings.model_copy(update={"database": Database()})
    files = {name: SqliteDatabase(name, source).file for name in PACKAGES}
    if missing := [str(path) for path in files.values() if not path.exists()]:
        raise ServiceError(
            f"There is no {' and no '.join(missing)}, so there is nothing to copy; set "
            "[database] kind, and start the stack."
        )
    for path in files.values():
        _check_sound(path)
    migrate(source, variables)
    postgres.prepare(settings)
    with postgres.running(settings, variables):
        if there := [name for name in PACKAGES if exists(settings, name)]:
            place = addresses.server(settings)
            way = "drop them" if settings.database.url else f"delete {addresses.folder(settings)}"
            raise ServiceError(
                f"{place} has databases named {' and '.join(there)} already, which the copy would "
                f"replace; if nothing in them is needed, {way}, and copy again."
            )
        for name in PACKAGES:
            make_draft(settings, name, empty=True)
        drafts = {name: address(settings, draft(name)) for name in PACKAGES}
        run_migrations(drafts, settings, variables)
        for name, path in files.items():
            began = time.monotonic()
            counts = copy_tables(path, settings, draft(name))
            say(
                f"{name}: {sum(counts.values())} rows of {len(counts)} tables copied and compared "
                f"({time.monotonic() - began:.1f} s)"
            )
        publish(settings, PACKAGES)
        for name in PACKAGES:
            PostgresqlDatabase(name, settings).note()


def copy_tables(path: Path, settings: Settings, name: str) -> dict[str, int]:
    """Replace all rows of a database by those of an SQLite file, in one transaction.

    Parameters
    ----------
    path : Path
        The file.
    name : str
        Database with the same tables.

    Returns
    -------
    dict
        Name of a table to its number of rows.

    Raises
    ------
    ServiceError
        Versions or tables differ, a value does not fit, or what arrived differs.
    """
    with closing(sqlite3.connect(path)) as source, connect(settings, name) as target:
        tables = MetaData()
        tables.reflect(target)
        _check_same_shape(path, source, target, tables)
        target.execute(text("SET LOCAL TimeZone = 'UTC'"))
        names = ", ".join(f'"{one.name}"' for one in tables.sorted_tables)
        target.execute(text(f"TRUNCATE {names}"))
        counts = {}
        for one in tables.sorted_tables:
            try:
                rows = Rows(one)
                sent, arrived = rows.send(source, target), rows.read(target)
            except (ValueError, sqlite3.DatabaseError, DBAPIError) as error:
                told = first_line(getattr(error, "orig", error))
                raise ServiceError(
                    f"Table {one.name} of {path} can't be copied: {told}; nothing was changed."
                ) from error
            if sent != arrived:
                raise ServiceError(
                    f"Table {one.name} of {path} arrived changed: {sent[0]} rows with hash "
                    f"{sent[1]:.12}, then {arrived[0]} with {arrived[1]:.12}; nothing was changed."
                )
            _set_sequences(target, one)
            counts[one.name] = sent[0]
    return counts


def _check_sound(path: Path) -> None:
    try:
        with closing(sqlite3.connect(path)) as connection:
            told = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
    except sqlite3.DatabaseError as error:
        told = str(error)
    if told != "ok":
        raise ServiceError(f"{path} is damaged ({first_line(told)}); restore a copy of it first.")


def _check_same_shape(
    path: Path, source: sqlite3.Connection, target: Connection, tables: MetaData
) -> None:
    version = "SELECT version_num FROM alembic_version"
    versions = source.execute(version).fetchone()[0], target.execute(text(version)).scalar_one()
    if versions[0] != versions[1]:
        raise ServiceError(
            f"{path} is at version {versions[0]}, PostgreSQL's database at {versions[1]}; both "
            "have to be made by the same installation."
        )
    listed = source.execute(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
    )
    names = {row[0] for row in listed}
    for one in tables.sorted_tables:
        found = {row[1] for row in source.execute(f'PRAGMA table_xinfo("{one.name}")')}
        if found != set(one.columns.keys()):
            odd = ", ".join(sorted(found ^ set(one.columns.keys())))
            raise ServiceError(
                f"Table {one.name} has other columns in {path} than in PostgreSQL ({odd}); start "
                "once with SQLite, so that it is migrated, and copy again."
            )
    for name in sorted(names - set(tables.tables)):
        say(f"{path}: table {name} is of no use to this version, and stays where it is")


def _set_sequences(target: Connection, one: Table) -> None:
    """Let new rows be numbered after those that were copied."""
    for found in one.primary_key.columns:
        numbers = func.pg_get_serial_sequence(f'"{one.name}"', found.name)
        if target.scalar(select(numbers)):  # serial or identity
            next_one = select(func.coalesce(func.max(found), 0) + 1).scalar_subquery()
            target.execute(select(func.setval(numbers, next_one, text("false"))))
