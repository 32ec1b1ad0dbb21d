"""What holds while all services run: readiness, closed doors, restarts."""

from __future__ import annotations

import json
import os
import re
import signal
import time
import urllib.request
from contextlib import suppress
from pathlib import Path

import boto3
import httpx
import mlflow
import psutil
import pytest
from botocore.exceptions import ClientError

from harness import Stack, holders, wait_for
from terraflow.stack.services import SERVICES

#: With SQLite, PostgreSQL is neither started nor shown.
HERE = [name for name in SERVICES if name != "postgresql"]


def test_up_all_services_are_ready_with_their_memory(stack: Stack) -> None:
    services = stack.services()
    assert set(services) == set(HERE)
    assert {row["state"] for row in services.values()} == {"ready"}
    assert all(row["memory_mb"] > 5 for row in services.values())


def test_mlflow_is_one_process_and_airflow_is_forked_from_one(stack: Stack) -> None:
    services = stack.services()
    assert not psutil.Process(services["mlflow"]["pid"]).children()
    components = [name for name in services if name.startswith("airflow-")]
    parents = {psutil.Process(services[name]["pid"]).ppid() for name in components}
    assert len(components) == 4
    assert len(parents) == 1
    for name in components:
        assert (stack.var / "log" / f"{name}.log").stat().st_size > 0


def test_status_total_has_more_than_the_services_own_memory(stack: Stack) -> None:
    document = json.loads(stack.ok("status", "--json"))
    assert document["memory_mb"] > sum(row["memory_mb"] for row in document["services"])


def test_up_twice_tells_the_pid(stack: Stack) -> None:
    said = stack.fails("up", "--detach")
    pid = int(said.split("(pid ")[1].split(",")[0])
    assert "honcho" in " ".join(psutil.Process(pid).cmdline())


def test_reset_while_running_is_refused(stack: Stack) -> None:
    assert "stop it with `invoke down` first" in stack.fails("reset", "--yes")
    assert stack.var.exists()


def test_logs_of_one_service_and_of_none(stack: Stack) -> None:
    assert re.search(r"^mlflow +\| .*GET /health", stack.ok("logs", "mlflow"), re.MULTILINE)
    assert "There is no log of nothing" in stack.fails("logs", "nothing")


def test_sockets_all_listen_on_loopback(stack: Stack) -> None:
    minio = stack.settings()["minio"]["port"]
    listening = set()
    for process in stack.processes():
        try:
            for connection in process.net_connections("inet"):
                if connection.status == psutil.CONN_LISTEN:
                    listening.add((connection.laddr.ip, connection.laddr.port))
        except psutil.NoSuchProcess:
            continue
    # MinIO adds the other name of the loopback interface by itself
    assert {ip for ip, _ in listening - {("::1", minio)}} == {"127.0.0.1"}
    assert len(listening) >= 5


def test_secrets_are_private_and_in_no_log_argument_or_environment(stack: Stack) -> None:
    values = json.loads((stack.var / "secrets.json").read_text())
    token = (stack.var / "mlflow_token").read_text().split()[-1]
    hidden = [*values.values(), token]
    buckets = stack.var / "minio" / "data"
    found = {path for path in holders(stack.var, *hidden) if not path.is_relative_to(buckets)}
    assert stack.var / "secrets.json" in found
    assert not [path for path in found if path.stat().st_mode & 0o077]
    assert not [path for path in found if path.suffix == ".log" or "logs" in path.parts]
    seen = 0
    for process in stack.processes():
        with suppress(psutil.NoSuchProcess):  # some are short
            variables = process.environ()
            assert variables.pop("MLFLOW_TRACKING_TOKEN", token) == token
            shown = " ".join([*process.cmdline(), *variables.values()])
            assert not any(value in shown for value in hidden), process.cmdline()
            seen += 1
    assert seen > 10


def test_secrets_differ_between_stacks(stack: Stack, migrated: Path, tmp_path: Path) -> None:
    other = Stack(tmp_path, TERRAFLOW_STORE="local")
    other.take_databases(migrated)
    other.ok("setup")
    first = json.loads((stack.var / "secrets.json").read_text())
    second = json.loads((other.var / "secrets.json").read_text())
    assert not set(first.values()) & set(second.values())


def test_airflow_refuses_without_login_and_lets_admin_in(stack: Stack) -> None:
    url = stack.url("airflow")
    assert httpx.get(f"{url}/api/v2/dags").status_code == 401
    login = {"username": "admin", "password": stack.credentials()["airflow password"]}
    assert httpx.post(f"{url}/auth/token", json=login | {"password": "x"}).status_code == 401
    token = httpx.post(f"{url}/auth/token", json=login).json()["access_token"]
    answer = httpx.get(f"{url}/api/v2/dags", headers={"Authorization": f"Bearer {token}"})
    assert "land_cover_training" in {dag["dag_id"] for dag in answer.json()["dags"]}


def test_jupyter_refuses_without_token_and_lets_it_in(stack: Stack) -> None:
    url, token = stack.url("jupyter"), stack.credentials()["jupyter"].split("token=")[1]
    assert httpx.get(f"{url}/api/contents").status_code == 403
    answer = httpx.get(f"{url}/api/contents", headers={"Authorization": f"token {token}"})
    assert "welcome.ipynb" in [entry["name"] for entry in answer.json()["content"]]
    path = "lab/api/settings/@jupyterlab/apputils-extension:notification"
    answer = httpx.get(f"{url}/{path}", headers={"Authorization": f"token {token}"})
    assert answer.json()["schema"]["properties"]["fetchNews"]["default"] == "false"


def test_mlflow_refuses_without_token_and_lets_the_link_in(stack: Stack) -> None:
    url = stack.url("mlflow")
    assert httpx.get(url).status_code == 401
    assert httpx.get(f"{url}/api/2.0/mlflow/experiments/get?experiment_id=0").status_code == 401
    with httpx.Client(follow_redirects=True) as browser:
        assert browser.get(stack.credentials()["mlflow"]).status_code == 200
        answer = browser.get(f"{url}/api/2.0/mlflow/experiments/get?experiment_id=0")
        assert answer.json()["experiment"]["experiment_id"] == "0"


def s3_client(stack: Stack, password: str | None = None):  # type: ignore[no-untyped-def]
    shown = stack.credentials()
    return boto3.client(
        "s3",
        endpoint_url=stack.url("minio"),
        region_name="us-east-1",
        aws_access_key_id=shown["minio user"],
        aws_secret_access_key=password or shown["minio password"],
    )


def test_minio_refuses_without_credentials_and_has_both_buckets(stack: Stack) -> None:
    assert httpx.get(stack.url("minio") + "/eo-data").status_code == 403
    with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
        s3_client(stack, "x" * 12).list_buckets()
    names = {bucket["Name"] for bucket in s3_client(stack).list_buckets()["Buckets"]}
    assert names >= {"mlflow", "eo-data"}


def test_minio_console_answers(stack: Stack) -> None:
    port = stack.settings()["minio"]["console_port"]
    assert "<html" in httpx.get(f"http://127.0.0.1:{port}/login").text.lower()


@pytest.mark.parametrize(
    "path", ["/", "/api/2.0/mlflow/experiments/get?experiment_id=0", "/ajax-api/2.0/mlflow/x"]
)
def test_mlflow_refuses_a_foreign_host_name(path: str, stack: Stack) -> None:
    url = stack.url("mlflow") + path
    header = (stack.var / "mlflow_token").read_text().partition(": ")[2].strip()
    headers = {"Host": "evil.example", "Authorization": header}
    request = urllib.request.Request(url, headers=headers)
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request)
    assert caught.value.code == 403


@pytest.mark.parametrize("service", HERE)
def test_service_killed_is_restarted_with_nothing_lost(service: str, stack: Stack) -> None:
    stack.track()
    mlflow.set_experiment("killed")
    with mlflow.start_run() as run:
        mlflow.log_text("kept", "note.txt")
    before = stack.services()
    os.kill(before[service]["pid"], signal.SIGKILL)

    def back() -> bool:
        row = stack.services()[service]
        return row["pid"] not in (None, before[service]["pid"]) and row["state"] == "ready"

    wait_for(back, 90)
    services = stack.services()
    assert services[service]["restarts"] == before[service]["restarts"] + 1
    others = [name for name in services if name != service]
    assert {name: services[name]["pid"] for name in others} == {
        name: before[name]["pid"] for name in others
    }
    # each answers, if late: the restart keeps the cores busy
    wait_for(lambda: {row["state"] for row in stack.services().values()} == {"ready"}, 30)
    assert mlflow.artifacts.load_text(f"{run.info.artifact_uri}/note.txt") == "kept"
    assert mlflow.get_run(run.info.run_id).info.status == "FINISHED"


def test_idle_stack_rests(stack: Stack) -> None:
    """A loop that spins takes a core; this is no speed test, and a DAG's tasks may be at work."""
    time.sleep(5)
    services = [
        p for p in stack.processes() if not " ".join(p.cmdline()).startswith("airflow work")
    ]

    def seconds() -> dict[str, float]:
        found = {}
        for process in services:
            with suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                found[f"{process.pid} {process.name()}"] = times.user + times.system
        return found

    before = seconds()
    time.sleep(10)
    shares = {name: (after - before[name]) / 10 for name, after in seconds().items()}
    assert sum(shares.values()) < 1.0, shares
