from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import psutil
import pytest

from harness import wait_for
from services import supervised
from small_disks import as_another_user, small_disk
from terraflow.credentials import read_secrets
from terraflow.disks.problems import disk_errors
from terraflow.errors import ConfigError, DiskError, ServiceError
from terraflow.files import make_dir
from terraflow.serving.environments import find_environments
from terraflow.settings import Settings, load
from terraflow.stack.status import memory_mb, print_logs, print_status, status


@pytest.fixture
def mlflow(settings: Settings, free_tcp_port: int) -> Iterator[Settings]:
    """Settings with something at MLflow's port that answers /health, and nothing else."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/health" else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    port = server.server_address[1]
    yield load([f"mlflow.port={port}", f"jupyter.port={free_tcp_port}"])
    server.shutdown()
    server.server_close()


def rows(settings: Settings) -> dict[str, str]:
    return {row.service: row.state for row in status(settings)}


def test_status_of_a_stack_that_was_never_started_is_stopped(settings: Settings) -> None:
    assert set(rows(settings).values()) == {"stopped"}
    assert "minio" not in rows(settings)  # the store is local


def test_status_service_that_answers_is_ready_and_one_that_does_not_is_starting(
    mlflow: Settings,
) -> None:
    with supervised(mlflow.run_dir, "mlflow") as process, supervised(mlflow.run_dir, "jupyter"):
        found = {row.service: row for row in status(mlflow)}
        assert found["mlflow"].state == "ready"
        assert (found["mlflow"].pid, found["mlflow"].restarts) == (process.pid, 2)
        assert found["mlflow"].url == mlflow.mlflow_url
        assert found["mlflow"].memory_mb > 5
        assert found["jupyter"].state == "starting"
        assert found["airflow-api"].state == "stopped"


def test_status_tells_how_far_the_build_of_minio_is(
    settings: Settings,
    free_tcp_port: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("TERRAFLOW_STORE", "minio")
    monkeypatch.setattr("terraflow.stack.minio.find", lambda: None)
    settings.log_dir.mkdir(parents=True, exist_ok=True)
    (settings.log_dir / "minio.log").write_text("MinIO: 60 s, 9 modules fetched\n")
    with supervised(settings.run_dir, "minio"):
        own = load([f"minio.port={free_tcp_port}"], running=False)
        print_status(own, as_json=False, credentials=False)
    assert capsys.readouterr().out.endswith("\nminio: MinIO: 60 s, 9 modules fetched\n")


@pytest.mark.parametrize("phase", ["waiting", "restarting", "failed"])
def test_status_tells_what_the_supervisor_tells(phase: str, settings: Settings) -> None:
    with supervised(settings.run_dir, "mlflow", phase=phase, reason="exited with code 3"):
        [row] = [row for row in status(settings) if row.service == "mlflow"]
        assert (row.state, row.pid, row.reason) == (phase, None, "exited with code 3")


def test_status_killed_supervisor_means_stopped(settings: Settings) -> None:
    with supervised(settings.run_dir, "mlflow") as process:
        process.kill()
        process.wait()
        [row] = [row for row in status(settings) if row.service == "mlflow"]
        assert (row.state, row.reason) == ("stopped", "its supervisor is gone")


def test_memory_mb_counts_children_too() -> None:
    code = "import subprocess, sys; d = bytearray(60_000_000); print(1, flush=True); {}"
    child = code.format("import time; time.sleep(30)")
    parent = code.format(f"subprocess.run([sys.executable, '-c', {child!r}])")
    process = subprocess.Popen([sys.executable, "-c", parent])
    try:
        wait_for(lambda: memory_mb(process.pid) > 120, 20)
        assert memory_mb(process.pid) < 300
    finally:
        process.kill()
        process.wait()
    assert memory_mb(process.pid) == memory_mb(None) == 0


def test_print_status_as_json_is_read_by_programs(
    mlflow: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    with supervised(mlflow.run_dir, "mlflow"):
        print_status(mlflow, as_json=True, credentials=False)
    document = json.loads(capsys.readouterr().out)
    assert document["store"] == "local"
    assert "credentials" not in document
    assert {row["service"]: row["state"] for row in document["services"]}["mlflow"] == "ready"


def test_print_status_table_says_why_a_service_is_not_well(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    with supervised(settings.run_dir, "mlflow", phase="failed", reason="exited with code 3"):
        print_status(settings, as_json=False, credentials=False)
    said = capsys.readouterr().out
    assert said.splitlines()[0].split() == ["service", "state", "pid", "MB", "restarts", "URL"]
    assert "mlflow: exited with code 3" in said
    assert "password" not in said


@pytest.mark.parametrize("ask", [status, print_logs, find_environments])
def test_state_of_another_user_is_not_taken_for_none(
    ask: Callable[[Settings], object], settings: Settings
) -> None:
    with supervised(settings.run_dir, "mlflow"):
        make_dir(settings.log_dir)
        settings.var.chmod(0o700)
        with (
            as_another_user(),
            pytest.raises(DiskError, match=r"can't be used: Permission denied.* belongs to"),
            disk_errors(lambda: settings.folders),
        ):
            ask(settings)


def test_print_status_tells_of_a_disk_with_little_room(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    with small_disk() as folder:
        print_status(settings.model_copy(update={"var": folder}), as_json=False, credentials=False)
    assert re.search(
        rf"^The file system at {folder} has only \S+ \S+ free: make room\.$",
        capsys.readouterr().out,
        re.MULTILINE,
    )


def test_print_status_credentials_are_shown_when_asked_for_only(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ConfigError, match="There are no credentials yet"):
        print_status(settings, as_json=False, credentials=True)
    secret = read_secrets(settings)
    print_status(settings, as_json=False, credentials=True)
    assert f"airflow password: {secret['airflow_password']}" in capsys.readouterr().out
    print_status(settings, as_json=False, credentials=False)
    assert secret["airflow_password"] not in capsys.readouterr().out


def write_logs(settings: Settings) -> None:
    settings.log_dir.mkdir(parents=True)
    for name in ("airflow-api", "airflow-scheduler", "mlflow"):
        text = "".join(f"{name} {number}\n" for number in range(60))
        (settings.log_dir / f"{name}.log").write_text(text)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("mlflow", {"mlflow"}),
        ("airflow", {"airflow-api", "airflow-scheduler"}),
        ("", {"mlflow", "airflow-api", "airflow-scheduler"}),
    ],
)
def test_print_logs_gives_the_end_of_a_service_or_a_group(
    asked: str, expected: set[str], settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    write_logs(settings)
    print_logs(settings, asked)
    lines = capsys.readouterr().out.splitlines()
    assert {line.split()[0].rstrip("|") for line in lines} == expected
    assert len(lines) == 40 * len(expected)
    assert lines[-1].endswith(" 59")


def test_print_logs_unknown_service_lists_what_there_is(settings: Settings) -> None:
    with pytest.raises(ServiceError, match="none: nothing was started yet"):
        print_logs(settings, "mlflow")
    write_logs(settings)
    with pytest.raises(ServiceError, match="choose among airflow-api, airflow-scheduler, mlflow"):
        print_logs(settings, "postgres")


FOLLOW = """
import sys
from terraflow.settings import load
from terraflow.stack.status import print_logs
print_logs(load(), "mlflow", follow=True)
"""


def test_print_logs_follow_goes_on_as_they_grow(settings: Settings) -> None:
    write_logs(settings)
    process = subprocess.Popen(
        [sys.executable, "-c", FOLLOW], stdout=subprocess.PIPE, text=True, env=os.environ
    )
    assert process.stdout
    try:
        for _ in range(40):
            process.stdout.readline()
        time.sleep(0.2)
        with Path(settings.log_dir / "mlflow.log").open("a") as file:
            file.write("one more\n")
        assert process.stdout.readline().endswith("| one more\n")
    finally:
        process.kill()
        process.wait()


FAMILY = """
import subprocess, sys, time
short = subprocess.Popen(["sleep", "60"])
code = "import time; held = bytearray(b'x') * 100_000_000; time.sleep(60)"
long = subprocess.Popen([sys.executable, "-c", code])
print(short.pid, flush=True)
while long.poll() is None:
    short.poll()
    time.sleep(0.01)
"""


def test_memory_mb_counts_the_others_when_one_ends_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = [sys.executable, "-c", FAMILY]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        short = int(process.stdout.readline())
        wait_for(lambda: memory_mb(process.pid) > 100, 20)

        def ends(pid: int) -> int:
            if pid == short:
                os.kill(short, signal.SIGKILL)
                wait_for(lambda: not psutil.pid_exists(short), 10)
            return 0

        monkeypatch.setattr("terraflow.stack.status._pss", ends)
        assert memory_mb(process.pid) > 100
        assert not psutil.pid_exists(short)
    finally:
        for child in psutil.Process(process.pid).children():
            child.kill()
        process.wait()
