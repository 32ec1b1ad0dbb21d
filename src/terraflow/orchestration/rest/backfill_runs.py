"""Airflow's command `backfill create` in one transaction: `python -m` with the command's words.

By itself the command writes each run in a transaction of its own that begins by reading. On SQLite
that fails as soon as another process of Airflow writes in between, and the scheduler does not
survive that the command then deletes the runs that it has made already.
"""

from __future__ import annotations

import sqlite3
import sys
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import Connection, Engine

__all__ = ["main"]

WAIT_S = 60.0


def main(arguments: list[str]) -> None:
    """Make the runs; exits as Airflow's command does."""
    event.listen(Engine, "connect", _prepare)
    event.listen(Engine, "begin", _begin)
    from airflow.__main__ import main as airflow

    sys.argv = ["airflow", "backfill", "create", *arguments]
    airflow()


def _prepare(connection: Any, _record: object) -> None:
    """Let SQLAlchemy begin transactions, not Python's driver, and wait for other writers."""
    if isinstance(connection, sqlite3.Connection):
        connection.isolation_level = None
        connection.execute(f"PRAGMA busy_timeout = {WAIT_S * 1000:.0f}")


def _begin(connection: Connection) -> None:
    """Take the right to write before the first read, so that nobody can write in between."""
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("BEGIN IMMEDIATE")


if __name__ == "__main__":
    main(sys.argv[1:])
