"""The stack with PostgreSQL: moved there from SQLite, and made there."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import mlflow
import psutil
import pytest
from sqlalchemy import create_engine, text

from airflow_api import Airflow
from harness import PORTS, Stack, holders, interrupt, open_folder, run_id, wait_for
from terraflow.probes import answers
from terraflow.sections import Database
from terraflow.settings import Settings
from terraflow.stack.databases import postgres
from terraflow.stack.databases.addresses import address, probe, socket_folder

pytestmark = pytest.mark.slow
NewStack = Callable[..., Stack]


@pytest.fixture(scope="module", autouse=True)
def _program() -> None:
    if not postgres.candidates():
        pytest.skip("there is no postgres program, neither of the system nor of the extra")


@pytest.fixture
def new_stack() -> Iterator[NewStack]:
    """Make stacks that are not set up; whatever they leave is stopped."""
    made: list[Stack] = []
    with open_folder() as folder:

        def make(kind: str = "postgresql", **variables: str) -> Stack:
            here = {"TERRAFLOW_STORE": "local", "TERRAFLOW_DATABASE_KIND": kind}
            made.append(Stack(folder, **here, **variables))
            return made[-1]

        yield make
        for one in made:
            one.close()


def dag_runs(stack: Stack) -> dict[str, str]:
    """State of every run of the training's DAG by its id: other DAGs run when they have to."""
    url = stack.url("airflow")
    login = {"username": "admin", "password": stack.credentials()["airflow password"]}
    token = httpx.post(f"{url}/auth/token", json=login).json()["access_token"]
    answer = httpx.get(
        f"{url}/api/v2/dags/land_cover_training/dagRuns",
        headers={"Authorization": f"Bearer {token}"},
    )
    return {run["dag_run_id"]: run["state"] for run in answer.json()["dag_runs"]}


def server(stack: Stack) -> list[psutil.Process]:
    """Processes of PostgreSQL, the first one first: their environment is not theirs to read."""
    first = psutil.Process(stack.services()["postgresql"]["pid"])
    return [first, *first.children()]


@dataclass
class Moved:
    """A stack that was used with SQLite, and what it had there."""

    stack: Stack
    run: str
    metrics: dict[str, float]
    dags: dict[str, str]
    said: str


@pytest.fixture(scope="module")
def moved() -> Iterator[Moved]:
    with open_folder() as folder:
        stack = Stack(folder, TERRAFLOW_STORE="local")
        stack.shrink()
        try:
            stack.ok("up", "--detach", "--only", "mlflow,airflow")
            Airflow.at_rest(stack)
            assert "postgresql" not in stack.services()
            run = run_id(stack.ok("train", "--airflow"))
            stack.track()
            metrics, dags = mlflow.get_run(run).data.metrics, dag_runs(stack)
            said = stack.fails("database", "copy", "--to", "postgresql")
            assert "TerraFlow already runs here" in said
            stack.ok("down")
            kill_a_copy(stack)
            said = stack.ok("database", "copy", "--to", "postgresql")
            (stack.config / "local").mkdir()
            lines = said[said.index("[database]") : said.index("Then start")]
            (stack.config / "local" / "terraflow.toml").write_text(lines)
            stack.ok("up", "--detach")
            stack.track()
            yield Moved(stack, run, metrics, dags, said)
        finally:
            stack.close()


@pytest.fixture(autouse=True)
def tracked(request: pytest.FixtureRequest) -> None:
    """Let a test ask the moved stack's MLflow: each begins without the token of another."""
    if "moved" in request.fixturenames:
        request.getfixturevalue("moved").stack.track()


def kill_a_copy(stack: Stack) -> None:
    """Kill a copy, and its server with it, once Airflow's rows are there and MLflow's are not."""
    log = stack.var / "log" / "copy.log"
    copy = stack.start("database", "copy", "--to", "postgresql", log=log)
    wait_for(lambda: "airflow: " in log.read_text() and "rows of" in log.read_text())
    copy.kill()
    copy.wait()


def test_moved_stack_has_its_run_its_model_and_its_dag_run(moved: Moved) -> None:
    assert (moved.stack.var / "mlflow" / "mlflow.db").exists()
    run = mlflow.get_run(moved.run)
    assert run.info.status == "FINISHED"
    assert run.data.metrics == moved.metrics
    assert moved.metrics
    client = mlflow.MlflowClient()
    assert client.get_model_version_by_alias("land-cover", "champion").run_id == moved.run
    assert set(moved.dags.values()) == {"success"}
    assert dag_runs(moved.stack) == moved.dags
    assert "rows of" in moved.said


def test_all_services_are_ready_and_postgresql_listens_on_no_port(moved: Moved) -> None:
    services = moved.stack.services()
    assert {n: row for n, row in services.items() if row["state"] != "ready"} == {}
    assert services["postgresql"]["memory_mb"] > 5
    assert "ready to accept connections" in moved.stack.ok("logs", "postgresql")
    assert not [p for p in server(moved.stack) if p.net_connections("inet")]


@pytest.mark.exhaustive
def test_dag_runs_on_postgresql_and_its_run_is_stored(moved: Moved) -> None:
    run = run_id(moved.stack.ok("train", "--airflow"))
    assert mlflow.get_run(run).data.metrics.keys() == moved.metrics.keys()
    after = dag_runs(moved.stack)
    assert len(after) == len(moved.dags) + 1
    assert set(after.values()) == {"success"}


def test_copy_over_databases_that_are_there_is_refused(moved: Moved) -> None:
    said = moved.stack.fails("database", "copy", "--to", "postgresql")
    assert "TerraFlow already runs here" in said
    assert "write --to postgresql" in moved.stack.fails("database", "copy", "--to", "sqlite")
    assert "database move is not known" in moved.stack.fails("database", "move")


def test_password_is_in_no_log_argument_environment_or_open_file(moved: Moved) -> None:
    var = moved.stack.var
    password = (var / "postgresql" / "pgpass").read_text().strip().split(":")[-1]
    assert len(password) >= 40
    assert holders(var, password) == {var / "postgresql" / "pgpass"}
    assert (var / "postgresql" / "pgpass").stat().st_mode & 0o777 == 0o600
    seen = 0
    for process in {*moved.stack.processes(), *server(moved.stack)}:
        with suppress(psutil.NoSuchProcess):  # some are short
            shown = " ".join([*process.cmdline(), *process.environ().values()])
            assert password not in shown, process.cmdline()
            seen += 1
    assert seen > 10


@pytest.mark.exhaustive
def test_postgresql_killed_is_restarted_and_the_others_go_on_with_nothing_lost(
    moved: Moved,
) -> None:
    stack = moved.stack
    mlflow.set_experiment("killed")
    with mlflow.start_run() as run:
        mlflow.log_metric("before", 1)
    before, children = stack.services(), server(stack)
    os.kill(before["postgresql"]["pid"], signal.SIGKILL)

    def back() -> bool:
        rows = stack.services()
        again = rows["postgresql"]["pid"] not in (None, before["postgresql"]["pid"])
        return again and {row["state"] for row in rows.values()} == {"ready"}

    wait_for(back, 90)
    assert not [child for child in children if child.is_running()]
    assert stack.services()["postgresql"]["restarts"] == 1
    assert mlflow.get_run(run.info.run_id).data.metrics == {"before": 1}
    with mlflow.start_run(run_id=run.info.run_id):
        mlflow.log_metric("after", 2)
    time.sleep(5)  # Airflow notices late what it has lost
    wait_for(lambda: {row["state"] for row in stack.services().values()} == {"ready"}, 60)
    assert run_id(stack.ok("train", "--airflow"))


def test_down_stops_in_order_and_leaves_no_process(moved: Moved) -> None:
    stack, processes = moved.stack, server(moved.stack)
    stack.ok("down")  # which fails if something has not stopped within 10 s
    stack.wait_until_gone(1)
    assert not [process for process in processes if process.is_running()]
    log = (stack.var / "log" / "postgresql.log").read_text()
    assert log.rstrip().endswith("database system is shut down")
    said = stack.fails("database", "copy", "--to", "postgresql")
    assert "has databases named airflow and mlflow already" in said
    assert f"delete {stack.var / 'postgresql'}, and copy again" in said
    stack.ok("up", "--detach", "--only", "mlflow")
    assert set(stack.services()) >= {"postgresql", "mlflow"}
    stack.track()
    assert mlflow.get_run(moved.run).data.metrics == moved.metrics


@pytest.mark.exhaustive
def test_up_killed_during_the_migration_leaves_no_half_database(
    new_stack: NewStack, tmp_path: Path
) -> None:
    stack = new_stack()
    up = stack.start("up", "--only", "mlflow", log=tmp_path / "up.log")
    wait_for((stack.var / "log" / "mlflow-migration.log").exists)
    time.sleep(2)  # in the midst of it
    os.kill(up.pid, signal.SIGKILL)
    up.wait()
    assert not (stack.var / "postgresql" / "mlflow.version").exists()
    stack.ok("up", "--detach", "--only", "mlflow")
    stack.track()
    mlflow.set_experiment("sound")
    with mlflow.start_run() as run:
        mlflow.log_metric("sound", 1)
    folder = socket_folder(Settings(var=stack.var))
    assert folder.exists()
    # another version of MLflow was installed: the database is migrated as a copy
    stack.ok("down")
    stamp = stack.var / "postgresql" / "mlflow.version"
    noted = stamp.read_text()
    stamp.write_text("3.0.0")
    assert "mlflow: preparing its database" in stack.ok("setup")
    assert stamp.read_text() == noted
    assert "preparing" not in stack.ok("setup")
    stack.ok("up", "--detach", "--only", "mlflow")
    stack.track()
    assert mlflow.get_run(run.info.run_id).data.metrics == {"sound": 1}
    stack.ok("down")
    stack.ok("reset", "--yes")
    assert not stack.var.exists()
    assert not folder.exists()


def free_ports() -> dict[str, str]:
    held = [socket.create_server(("127.0.0.1", 0)) for _ in PORTS]
    ports = {
        f"TERRAFLOW_{name}": str(sock.getsockname()[1])
        for name, sock in zip(PORTS, held, strict=True)
    }
    for sock in held:
        sock.close()
    return ports


@pytest.mark.exhaustive
@pytest.mark.parametrize("kind", ["postgresql", "sqlite"])
def test_honcho_start_runs_postgresql_where_it_has_a_use(
    kind: str, new_stack: NewStack, tmp_path: Path
) -> None:
    stack = new_stack(kind, **free_ports())
    log = tmp_path / "honcho.log"
    lines = ["postgresql", "mlflow"]
    honcho = stack.start("start", *lines, log=log, command="honcho")
    wanted = {"mlflow"} | ({"postgresql"} if kind == "postgresql" else set())

    def ready() -> bool:
        rows: dict[str, Any] = stack.services()
        return {name for name, row in rows.items() if row["state"] == "ready"} == wanted

    wait_for(ready, 120)
    assert ("not needed: " in log.read_text()) is (kind == "sqlite")
    assert ("postgresql" in stack.services()) is (kind == "postgresql")
    interrupt(honcho)
    honcho.wait(10)
    stack.wait_until_gone(5)


@pytest.fixture
def elsewhere() -> Iterator[tuple[str, Path]]:
    """URL of a server of its own that listens on a port, and the file of its password."""
    with open_folder() as folder:
        own = Settings(var=folder / "var", database=Database(kind="postgresql"))
        postgres.prepare(own)
        port = free_ports()["TERRAFLOW_MLFLOW_PORT"]
        state = own.var / "postgresql"
        launcher = [sys.executable, "-m", "terraflow.process.postgres_server"]
        words = ["-D", str(state / "data"), "-k", str(socket_folder(own))]
        listen = ["-c", "listen_addresses=127.0.0.1", "-c", f"port={port}"]
        process = subprocess.Popen([*launcher, str(postgres.find(own)), *words, *listen])
        try:
            wait_for(lambda: answers(probe(own).replace("5432", port)))
            yield f"postgresql://terraflow@127.0.0.1:{port}", state / "pgpass"
        finally:
            process.send_signal(signal.SIGINT)
            process.wait()
            socket_folder(own).rmdir()


@pytest.mark.exhaustive
def test_server_elsewhere_serves_with_the_password_of_the_users_own_file(
    elsewhere: tuple[str, Path], new_stack: NewStack
) -> None:
    url, passwords = elsewhere
    stack = new_stack(TERRAFLOW_DATABASE_URL=url, PGPASSFILE="/nowhere")
    assert f"{url} refused: " in stack.fails("setup")
    stack.environment["PGPASSFILE"] = str(passwords)
    stack.ok("up", "--detach", "--only", "mlflow")
    assert set(stack.services()) & {"postgresql"} == set()
    assert not (stack.var / "postgresql").exists()
    stack.track()
    mlflow.set_experiment("far")
    with mlflow.start_run() as run:
        mlflow.log_metric("far", 1)
    stack.ok("down")
    own = Settings(var=stack.var, database=Database(kind="postgresql", url=url))
    engine = create_engine(f"{address(own, 'mlflow')}?passfile={passwords}")
    with engine.connect() as connection:
        found = connection.execute(text("SELECT run_uuid, key FROM metrics")).all()
    engine.dispose()
    assert [tuple(row) for row in found] == [(run.info.run_id, "far")]
    assert not holders(stack.var, passwords.read_text().strip().split(":")[-1])
