"""Wait for services: with real locks, and a server that answers."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from http_server import HttpServer
from terraflow.errors import ServiceError
from terraflow.lock import Lock
from terraflow.settings import Settings, load
from terraflow.stack.lifecycle import readiness
from terraflow.stack.lifecycle.readiness import wait_until_ready
from terraflow.stack.services import SERVICES
from terraflow.state import ServiceState

ME = os.getpid()
Captured = pytest.CaptureFixture[str]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[HttpServer]:
    """Answers for MLflow."""
    folder = tmp_path / "answers"
    folder.mkdir()
    (folder / "health").write_text("ok")
    with HttpServer(folder) as running:
        yield running


@pytest.fixture
def answering(settings: Settings, server: HttpServer, free_tcp_port: int) -> Settings:
    return load([f"mlflow.port={server.url.rpartition(':')[2]}", f"minio.port={free_tcp_port}"])


@pytest.fixture
def supervised(settings: Settings) -> Iterator[Callable[..., None]]:
    """Write the state of a service whose supervisor is this process."""
    held: dict[str, Lock] = {}

    def write(service: str, phase: str, reason: str = "", pid: int | None = None) -> None:
        if service not in held:
            held[service] = Lock(settings.run_dir / f"{service}.lock")
            assert held[service].acquire()
        state = ServiceState(service, phase, pid, ME, ME, reason=reason)  # type: ignore[arg-type]
        state.write(settings.run_dir)

    yield write
    for lock in held.values():
        lock.release()


def wait(settings: Settings, *names: str, alive: bool = True) -> None:
    services = [SERVICES[name] for name in names]
    wait_until_ready(settings, services, time.time() - 2, alive=lambda: alive)


def test_wait_until_ready_tells_each_and_all(
    answering: Settings, supervised: Callable[..., None], capsys: Captured
) -> None:
    supervised("mlflow", "running")
    wait(answering, "mlflow", alive=False)  # nothing is missing
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Starting mlflow"
    assert lines[1].startswith(f"  {'mlflow':<22} ready after 2.")
    assert lines[2].split() == ["service", "seconds", "MB", "URL"]
    assert lines[3].split()[::3] == ["mlflow", answering.mlflow_url]
    assert lines[4].startswith("All of it: 2.")


def test_wait_until_ready_failed_services_take_along_what_needs_them(
    answering: Settings, supervised: Callable[..., None], capsys: Captured
) -> None:
    supervised("postgresql", "failed", "It ended with code 1.")
    supervised("mlflow", "waiting")
    supervised("jupyter", "failed", "no port")
    told = r"^postgresql, mlflow, jupyter failed; the other services"
    with pytest.raises(ServiceError, match=told):
        wait(answering, "postgresql", "mlflow", "jupyter")
    printed = capsys.readouterr().out
    assert f"  {'postgresql':<22} failed: It ended with code 1.\n" in printed
    assert f"  {'mlflow':<22} failed: it needs postgresql\n" in printed


def test_wait_until_ready_tells_how_far_the_build_of_minio_is(
    answering: Settings,
    supervised: Callable[..., None],
    capsys: Captured,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(readiness, "REMIND_S", 0.1)
    monkeypatch.setattr(readiness, "START_S", 0.1)  # a build may take longer than a start
    monkeypatch.setattr(readiness.minio, "find", lambda: None)
    supervised("minio", "running")
    answering.log_dir.mkdir(parents=True, exist_ok=True)
    (answering.log_dir / "minio.log").write_text("MinIO: 60 s, 9 modules fetched\n")
    until = time.monotonic() + 1
    services = [SERVICES["minio"]]
    with pytest.raises(ServiceError, match="stopped before minio answered"):
        wait_until_ready(answering, services, time.time(), alive=lambda: time.monotonic() < until)
    assert "minio (MinIO: 60 s, 9 modules fetched)\n" in capsys.readouterr().out


def test_wait_until_ready_one_failed_still_shows_the_others(
    answering: Settings, supervised: Callable[..., None], capsys: Captured
) -> None:
    supervised("mlflow", "running")
    supervised("jupyter", "failed", "no port")
    with pytest.raises(ServiceError, match=r"^jupyter failed; the other services go on\."):
        wait(answering, "mlflow", "jupyter")
    assert answering.mlflow_url in capsys.readouterr().out


def test_wait_until_ready_stack_that_was_stopped_is_told(answering: Settings) -> None:
    with pytest.raises(ServiceError) as caught:
        wait(answering, "mlflow", "jupyter", alive=False)
    assert str(caught.value) == (
        f"The stack was stopped before mlflow, jupyter answered; see {answering.log_dir}, or "
        "`invoke logs mlflow`."
    )


def test_wait_until_ready_no_answer_in_time_is_told(
    answering: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert readiness.START_S == 300
    monkeypatch.setattr(readiness, "START_S", 0)
    with pytest.raises(ServiceError, match=r"^mlflow did not answer within 0 s; see `invoke logs"):
        wait(answering, "mlflow")


def test_wait_until_ready_long_start_is_reminded_of(
    answering: Settings, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.setattr(readiness, "START_S", 0.3)
    monkeypatch.setattr(readiness, "REMIND_S", 0)
    with pytest.raises(ServiceError, match="did not answer"):
        wait(answering, "mlflow")
    assert "  still starting after 2 s: mlflow\n" in capsys.readouterr().out


# wait_for


def test_wait_for_what_is_being_started(
    answering: Settings, supervised: Callable[..., None], capsys: Captured, server: HttpServer
) -> None:
    health = server.folder / "health"
    health.rename(server.folder / "later")
    supervised("mlflow", "waiting")

    def become_ready() -> None:
        supervised("mlflow", "running")
        time.sleep(0.3)
        (server.folder / "later").rename(health)

    timer = threading.Timer(0.3, become_ready)
    timer.start()
    began = time.monotonic()
    readiness.wait_for(answering, ["minio", "mlflow"])
    timer.join()
    assert time.monotonic() - began >= 0.6
    assert capsys.readouterr().out == "Waiting for mlflow\n"


def test_wait_for_what_nobody_started_is_left_to_who_needs_it(
    answering: Settings, supervised: Callable[..., None], capsys: Captured
) -> None:
    supervised("jupyter", "stopped")
    readiness.wait_for(answering, ["mlflow", "jupyter"])
    assert capsys.readouterr().out == ""


def test_wait_for_what_failed_is_told(answering: Settings, supervised: Callable[..., None]) -> None:
    supervised("mlflow", "failed", "It ended with code 1.")
    with pytest.raises(ServiceError, match=r"^mlflow failed: It ended with code 1\.; see `invoke"):
        readiness.wait_for(answering, ["mlflow"])


@pytest.mark.parametrize("built", [True, False])
def test_wait_for_ends_unless_minio_is_being_built(
    built: bool,
    free_tcp_port: int,
    supervised: Callable[..., None],
    capsys: Captured,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(readiness, "START_S", 0.2)
    monkeypatch.setattr(readiness, "REMIND_S", 0.1)
    began = time.monotonic()
    found = lambda: Path() if built or time.monotonic() > began + 1 else None  # noqa: E731
    monkeypatch.setattr(readiness.minio, "find", found)
    supervised("minio", "running")
    monkeypatch.setenv("TERRAFLOW_STORE", "minio")
    settings = load([f"minio.port={free_tcp_port}"], running=False)
    settings.log_dir.mkdir(parents=True, exist_ok=True)
    (settings.log_dir / "minio.log").write_text("MinIO: 60 s, 9 modules fetched\n")
    with pytest.raises(ServiceError, match=r"^minio did not answer within 0 s; see"):
        readiness.wait_for(settings, ["minio"])
    assert (time.monotonic() - began > 1) != built
    told = capsys.readouterr().out
    assert ("Waiting for minio (MinIO: 60 s, 9 modules fetched)\n" in told) != built


def test_watched_tells_of_a_service_that_falls_silent_and_answers_again(
    answering: Settings,
    server: HttpServer,
    supervised: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: Captured,
) -> None:
    monkeypatch.setattr(readiness, "LOOK_S", 0.05)
    monkeypatch.setattr(readiness, "SILENT_S", 0.2)
    folder = server.folder
    supervised("mlflow", "running", pid=ME)
    printed = ""

    def wait_until(text: str) -> None:
        nonlocal printed
        deadline = time.monotonic() + 10
        while text not in printed:
            assert time.monotonic() < deadline, printed
            time.sleep(0.05)
            printed += capsys.readouterr().out

    with readiness.watched(answering, ["mlflow", "minio"]):
        time.sleep(0.5)
        assert capsys.readouterr().out == ""
        (folder / "health").rename(folder / "away")
        wait_until("mlflow has not answered for 0 s; this waits for it. See `invoke status`.")
        (folder / "away").rename(folder / "health")
        wait_until("mlflow answers again.")
    assert printed.count("has not answered") == 1  # minio was not started here
