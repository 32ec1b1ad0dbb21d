from __future__ import annotations

from pathlib import Path

from terraflow.sections import Database
from terraflow.settings import Settings, load
from terraflow.stack.databases.addresses import address, folder, probe, socket_folder


def with_url(settings: Settings, url: str | None = None) -> Settings:
    return settings.model_copy(update={"database": Database(kind="postgresql", url=url)})


def test_address_of_sqlite_is_a_file(settings: Settings) -> None:
    assert address(settings, "mlflow") == f"sqlite:///{settings.var}/mlflow/mlflow.db"


def test_address_of_the_stacks_server_names_a_file_that_holds_the_password(
    settings: Settings,
) -> None:
    told = address(with_url(settings), "airflow", "psycopg_async")
    assert told.startswith("postgresql+psycopg_async://terraflow@/airflow?host=/tmp/terraflow-")
    assert told.endswith(f"&passfile={settings.var}/postgresql/pgpass")


def test_address_of_a_server_elsewhere_keeps_its_query(settings: Settings) -> None:
    elsewhere = with_url(settings, "postgresql://me@db:5433?sslmode=require")
    assert address(elsewhere, "mlflow") == (
        "postgresql+psycopg2://me@db:5433/mlflow?sslmode=require"
    )
    assert folder(elsewhere) != folder(with_url(settings))


def test_socket_of_a_deep_folder_fits_into_what_a_socket_may_have(tmp_path: Path) -> None:
    deep = load([f"var={tmp_path / ('x' * 200)}", "database.kind=postgresql"])
    path = probe(deep).removeprefix("postgresql://")
    assert path.startswith(str(socket_folder(deep)))
    assert len(path) <= 100
    assert socket_folder(deep) != socket_folder(load())
