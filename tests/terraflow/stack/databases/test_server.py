from __future__ import annotations

import pytest
from sqlalchemy import text

from terraflow.errors import ServiceError
from terraflow.settings import Settings
from terraflow.stack.databases.server import (
    PostgresqlDatabase,
    connect,
    draft,
    exists,
    make_draft,
    publish,
)


def execute(settings: Settings, name: str, statement: str) -> None:
    with connect(settings, name) as connection:
        connection.execute(text(statement))


def names(settings: Settings, database: str) -> list[str]:
    with connect(settings, database) as connection:
        return list(connection.execute(text("SELECT name FROM runs ORDER BY name")).scalars())


def make(settings: Settings, name: str) -> None:
    """Make a database with one run."""
    make_draft(settings, name)
    execute(settings, draft(name), "CREATE TABLE runs (name text)")
    execute(settings, draft(name), "INSERT INTO runs VALUES ('kept')")
    publish(settings, [name])


def test_draft_is_a_copy_that_takes_the_place_of_its_database(running: Settings) -> None:
    make(running, "one")
    make_draft(running, "one")
    execute(running, draft("one"), "INSERT INTO runs VALUES ('migrated')")
    assert names(running, "one") == ["kept"]
    publish(running, ["one"])
    assert names(running, "one") == ["kept", "migrated"]
    assert not exists(running, draft("one"))
    assert not exists(running, "one_former")


def test_draft_that_was_interrupted_is_begun_anew(running: Settings) -> None:
    make(running, "again")
    make_draft(running, "again")
    execute(running, draft("again"), "DROP TABLE runs")
    make_draft(running, "again")
    assert names(running, draft("again")) == ["kept"]


def test_publish_is_all_or_nothing(running: Settings) -> None:
    make(running, "both")
    make_draft(running, "both")
    with pytest.raises(ServiceError, match=r'database "lacking_draft" does not exist'):
        publish(running, ["both", "lacking"])
    assert names(running, "both") == ["kept"]
    assert exists(running, draft("both"))


def test_draft_of_a_database_in_use_is_refused_with_a_sentence(running: Settings) -> None:
    make(running, "busy")
    with (
        connect(running, "busy"),
        pytest.raises(ServiceError, match=r'refused: source database "busy" is being accessed'),
    ):
        make_draft(running, "busy")


def test_database_is_current_with_the_version_and_server_that_were_noted(
    running: Settings,
) -> None:
    database = PostgresqlDatabase("mlflow", running)
    assert not database.is_current()
    database.note()
    assert database.is_current()
    database.stamp.write_text(database.stamp.read_text().replace("/mlflow", "/other"))
    assert not database.is_current()
