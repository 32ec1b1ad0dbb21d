from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from terraflow.config import CONTROL_VARIABLES, project_root
from terraflow.credentials import read_mlflow_token
from terraflow.sections import Database
from terraflow.settings import Settings
from terraflow.stack.databases import postgres
from terraflow.stack.environment import environment
from terraflow.state import MARK


def with_store(settings: Settings, store: str) -> Settings:
    return settings.model_copy(update={"store": store})


def test_environment_holds_no_secret_but_mlflows_token_and_no_foreign_variable(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "sqlite:////elsewhere.db")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "somebody's")
    variables = environment(with_store(settings, "minio"))
    assert "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN" not in variables
    named = {key for key in variables if re.search("PASSWORD|SECRET|TOKEN", key)}
    assert {key: variables[key] for key in named} == {
        "MLFLOW_TRACKING_TOKEN": read_mlflow_token(settings),
        "TERRAFLOW_SERVING_TOKEN": "False",  # a switch
    }


def test_environment_with_s3_keeps_the_users_credentials(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "mine")
    assert environment(with_store(settings, "s3"))["AWS_PROFILE"] == "mine"


def test_environment_names_the_project_to_processes_in_other_folders(
    settings: Settings, tmp_path: Path
) -> None:
    code = (
        "from terraflow import config, settings; print(config.project_root(), settings.load().var)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment(settings),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [str(project_root()), str(settings.var)]


def test_environment_lets_no_service_wait_for_minio(settings: Settings) -> None:
    """It may still be being built, which takes minutes."""
    for store in ("local", "minio"):
        variables = environment(with_store(settings, store))
        assert not [key for key in variables if key.startswith("TERRAFLOW_AFTER_")]


@pytest.mark.skipif(not postgres.candidates(), reason="there is no postgres program")
def test_environment_lets_all_that_use_postgresql_wait_for_it_and_end_before_it(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPASSWORD", "of another server")
    assert environment(settings)["PGPASSWORD"]
    variables = environment(
        settings.model_copy(update={"database": Database(kind="postgresql")}),
    )
    waiting = {k for k, v in variables.items() if k.startswith("TERRAFLOW_AFTER_") and "PGSQL" in v}
    assert len(waiting) == 5
    assert variables["TERRAFLOW_STOP_POSTGRESQL"] == "SIGTERM SIGINT"
    assert "PGPASSWORD" not in variables


def test_environment_keeps_how_terraflow_was_started(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERRAFLOW_STARTED_BY", "make")
    assert environment(settings)["TERRAFLOW_STARTED_BY"] == "make"


def test_environment_holds_no_variable_that_settings_refuse(settings: Settings) -> None:
    """A task in a process of the stack reads the settings anew, by the same variables."""
    known = set(settings.to_environment())
    told = [name for name in environment(settings) if name.startswith("TERRAFLOW_")]
    assert len(told) > 20
    assert [
        n for n in [*told, MARK] if n not in known and not n.startswith(CONTROL_VARIABLES)
    ] == []
