"""On SQLite, who reads and then writes fails at once where another has written in between."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from sqlalchemy import create_engine, event, text
from sqlalchemy.engine import Engine
from sqlalchemy.exc import OperationalError

from terraflow.orchestration.rest import backfill_runs


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "airflow.db"
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE runs (day)")
    return path


def write_runs(engine: Engine, path: Path) -> None:
    """As Airflow's command: each run in a savepoint, first read, then written."""
    with engine.begin() as connection:
        for day in (1, 2):
            with connection.begin_nested():
                connection.execute(text("SELECT * FROM runs")).all()
                with sqlite3.connect(path, timeout=0.01) as scheduler:
                    scheduler.execute("INSERT INTO runs VALUES (0)")
                connection.execute(text(f"INSERT INTO runs VALUES ({day})"))


def test_by_default_another_writer_makes_it_fail(database: Path) -> None:
    with pytest.raises(OperationalError, match="database is locked"):
        write_runs(create_engine(f"sqlite:///{database}"), database)


def test_backfill_runs_make_the_other_wait_and_write_all_or_nothing(database: Path) -> None:
    engine = create_engine(f"sqlite:///{database}")
    event.listen(engine, "connect", backfill_runs._prepare)
    event.listen(engine, "begin", backfill_runs._begin)
    with pytest.raises(
        sqlite3.OperationalError, match="locked"
    ):  # the scheduler, which tries again
        write_runs(engine, database)
    with sqlite3.connect(database) as connection:
        assert connection.execute("SELECT * FROM runs").fetchall() == []
