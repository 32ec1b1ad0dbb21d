"""A real PostgreSQL server."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from harness import open_folder
from terraflow.sections import Database
from terraflow.settings import Settings
from terraflow.stack.databases import postgres
from terraflow.stack.databases.addresses import socket_folder
from terraflow.stack.environment import environment


def _settings() -> Iterator[Settings]:
    if not postgres.candidates():
        pytest.skip("there is no postgres program, neither of the system nor of the extra")
    with open_folder() as folder:
        settings = Settings(store="local", var=folder / "var", database=Database(kind="postgresql"))
        (settings.var / "log").mkdir(parents=True)
        yield settings
        shutil.rmtree(socket_folder(settings), ignore_errors=True)


@pytest.fixture
def new() -> Iterator[Settings]:
    """Settings of a server that is not made yet."""
    yield from _settings()


@pytest.fixture(scope="session")
def running() -> Iterator[Settings]:
    """Settings of a server that runs, one for all tests: take databases of your own."""
    for settings in _settings():
        postgres.prepare(settings)
        with postgres.running(settings, environment(settings)):
            yield settings
