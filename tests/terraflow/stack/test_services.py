from __future__ import annotations

import re
import shlex
import time
from pathlib import Path

import pytest

from terraflow import probes
from terraflow.errors import ConfigError
from terraflow.process import supervise
from terraflow.sections import Database
from terraflow.settings import Settings
from terraflow.stack.environment import environment
from terraflow.stack.services import (
    SERVICES,
    is_ready,
    select,
)
from terraflow.state import ServiceState

ROOT = Path(__file__).resolve().parents[3]
PROCFILE = {
    line.partition(":")[0]: line.partition(":")[2].strip()
    for line in (ROOT / "Procfile").read_text().splitlines()
}
#: Words of each service's command.
COMMANDS = {
    words[0]: words[1:]
    for line in PROCFILE.values()
    for words in supervise.split(shlex.split(line)[4:])
}


def with_store(settings: Settings, store: str) -> Settings:
    return settings.model_copy(update={"store": store})


def test_procfile_has_a_line_for_each_group_and_the_services_of_the_table() -> None:
    assert list(PROCFILE) == list(dict.fromkeys(s.group for s in SERVICES.values()))
    assert list(COMMANDS) == list(SERVICES)


@pytest.mark.parametrize("line", PROCFILE.values())
def test_procfile_line_runs_under_the_supervisor_with_known_names(
    line: str, settings: Settings
) -> None:
    assert shlex.split(line)[:4] == ["exec", "python", "-m", "terraflow.process.supervise"]
    variables = environment(with_store(settings, "minio"))
    known = {key.removeprefix("TERRAFLOW_").lower() for key in variables}
    known |= {"postgres", "postgres_sockets"}  # only where there is one
    assert set(re.findall(r"{(\w+)}", line)) <= known


def test_services_of_one_line_are_one_console_script() -> None:
    for line in PROCFILE.values():
        commands = supervise.split(shlex.split(line)[4:])
        assert len({words[1] for words in commands}) == 1


def test_select_adds_what_a_service_needs(settings: Settings) -> None:
    names = [s.name for s in select(with_store(settings, "minio"), ["mlflow"])]
    assert names == ["minio", "mlflow"]


def test_select_without_minio_store_has_no_minio(settings: Settings) -> None:
    assert "minio" not in [s.name for s in select(settings)]


def with_database(settings: Settings, **values: str) -> Settings:
    return settings.model_copy(update={"database": Database(**values)})  # type: ignore[arg-type]


def test_select_has_postgresql_only_where_the_stack_runs_it(settings: Settings) -> None:
    here = with_database(settings, kind="postgresql")
    elsewhere = with_database(settings, kind="postgresql", url="postgresql://me@db.example.org")
    assert "postgresql" not in [s.name for s in select(settings)]
    assert "postgresql" not in [s.name for s in select(elsewhere)]
    assert [s.name for s in select(here, ["mlflow"])] == ["postgresql", "mlflow"]
    assert select(here, ["airflow"])[0].name == "postgresql"


@pytest.mark.parametrize("name", ["minio", "postgresql"])
def test_select_of_nothing_but_what_has_no_use_is_refused(name: str, settings: Settings) -> None:
    with pytest.raises(ConfigError, match=f"--only {name} leaves nothing to start"):
        select(settings, [name])


def test_select_group_takes_all_its_services(settings: Settings) -> None:
    names = {s.name for s in select(settings, ["airflow"])}
    assert names == {n for n in SERVICES if n.startswith("airflow-")}


def test_select_one_of_airflow_takes_all_of_it(settings: Settings) -> None:
    assert select(settings, ["airflow-triggerer"]) == select(settings, ["airflow"])


def test_select_unknown_name_lists_the_known(settings: Settings) -> None:
    with pytest.raises(ConfigError, match=r"--only mlflwo names no service; .*minio, mlflow"):
        select(settings, ["mlflwo"])


@pytest.mark.parametrize(("age_s", "expected"), [(-5.0, True), (5.0, False)])
def test_is_ready_believes_no_heartbeat_from_before_the_start(
    age_s: float, expected: bool, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time()
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(now - age_s))
    health = {"scheduler": {"status": "healthy", "latest_scheduler_heartbeat": stamp}}
    monkeypatch.setattr(probes, "get_json", lambda _url: health)
    state = ServiceState("airflow-scheduler", "running", 1, 1, 1, started_at=now)
    assert is_ready(SERVICES["airflow-scheduler"], settings, state) is expected


def test_is_ready_service_in_its_pause_is_not_ready(settings: Settings) -> None:
    state = ServiceState("mlflow", "restarting", None, 1, 1)
    assert not is_ready(SERVICES["mlflow"], settings, state)
