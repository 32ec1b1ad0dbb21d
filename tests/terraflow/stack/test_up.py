"""Claim a checkout, wait for its services, stop and reset it: with real processes and locks."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness import wait_for
from http_server import HttpServer
from terraflow.errors import ServiceError, StorageError
from terraflow.lock import Lock
from terraflow.settings import Settings, load
from terraflow.stack import up
from terraflow.stack.services import SERVICES
from terraflow.stack.up import down, reset, wait_until_ready
from terraflow.state import ServiceState, read_state

ME = os.getpid()
Captured = pytest.CaptureFixture[str]
#: Holds a lock, with a service's state where it is told a manager.
HOLDER = """
import os, signal, sys, time
from pathlib import Path
from terraflow.lock import Lock
from terraflow.state import ServiceState
run_dir, name, manager, stubborn = Path(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4]
lock = Lock(run_dir / f"{name}.lock")
assert lock.acquire()
if manager:
    pid = os.getpid()
    ServiceState(name, "running", pid, pid, int(manager) or pid).write(run_dir)
if stubborn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("runs", flush=True)
time.sleep(60)
"""
Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(settings: Settings) -> Iterator[Start]:
    """Start a process that holds a lock: a service, or a setup (`manager=""`)."""
    started: list[subprocess.Popen[str]] = []

    def run(name: str, manager: str = "0", stubborn: str = "") -> subprocess.Popen[str]:
        words = [str(settings.run_dir), name, manager, stubborn]
        process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, *words], stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        assert process.stdout
        assert process.stdout.readline() == "runs\n"
        return process

    yield run
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def ended_pid() -> int:
    with subprocess.Popen(["true"]) as process:
        process.wait()
    return process.pid


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for no end longer than a moment."""
    monkeypatch.setattr(up, "STOP_S", 0.3)


# claim


def test_claim_free_checkout_keeps_its_lock_over_exec(settings: Settings) -> None:
    lock = up.claim(settings)
    assert os.get_inheritable(lock.fileno())
    assert lock.holder() == ME
    lock.release()


def test_claim_while_the_stack_runs_names_it_and_what_to_do(
    settings: Settings, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERRAFLOW_STARTED_BY", "make")
    honcho = start("mlflow")
    with pytest.raises(ServiceError) as caught:
        up.claim(settings)
    assert str(caught.value) == (
        f"TerraFlow already runs here (pid {honcho.pid}, state in {settings.var}); see it with "
        "`make status`, stop it with `make down`."
    )
    assert not Lock(settings.run_dir / "up.lock").is_held()


def test_claim_while_another_is_in_its_setup_names_it(settings: Settings, start: Start) -> None:
    setup = start("up", manager="")
    with pytest.raises(ServiceError, match=f"already runs here \\(pid {setup.pid}, "):
        up.claim(settings)


def test_claim_beside_a_model_server_is_granted(settings: Settings, start: Start) -> None:
    start("model-server")
    up.claim(settings).release()


@pytest.fixture
def left_over(settings: Settings, ended_pid: int) -> Iterator[subprocess.Popen[bytes]]:
    """Give a process that keeps the lock of a stack that was killed."""
    lock = Lock(settings.run_dir / "up.lock")
    assert lock.acquire()
    process = subprocess.Popen(["sleep", "60"], pass_fds=[lock.fileno()])
    lock.hand_over(ended_pid)
    yield process
    process.kill()
    process.wait()


def test_claim_waits_for_what_a_killed_stack_left(
    settings: Settings, left_over: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    sleep = time.sleep
    monkeypatch.setattr(time, "sleep", lambda s: (left_over.kill(), sleep(s)))
    lock = up.claim(settings)
    assert lock.holder() == ME
    lock.release()


@pytest.mark.usefixtures("hasty", "left_over")
def test_claim_waits_not_for_ever(settings: Settings, ended_pid: int) -> None:
    with pytest.raises(ServiceError, match=f"already runs here \\(pid {ended_pid}, "):
        up.claim(settings)


def test_is_alive_neither_a_zombie_nor_one_that_is_gone(ended_pid: int) -> None:
    zombie = subprocess.Popen(["true"])
    wait_for(lambda: not up._is_alive(zombie.pid), 10)
    zombie.wait()
    assert up._is_alive(ME)
    assert not up._is_alive(ended_pid)


# wait_until_ready


@pytest.fixture
def server(tmp_path: Path) -> Iterator[HttpServer]:
    """Answers for MLflow."""
    folder = tmp_path / "answers"
    folder.mkdir()
    (folder / "health").write_text("ok")
    with HttpServer(folder) as running:
        yield running


@pytest.fixture
def answering(settings: Settings, server: HttpServer) -> Settings:
    return load([f"mlflow.port={server.url.rpartition(':')[2]}"])


@pytest.fixture
def supervised(settings: Settings) -> Iterator[Callable[..., None]]:
    """Write the state of a service whose supervisor is this process."""
    held: dict[str, Lock] = {}

    def write(service: str, phase: str, reason: str = "") -> None:
        if service not in held:
            held[service] = Lock(settings.run_dir / f"{service}.lock")
            assert held[service].acquire()
        state = ServiceState(service, phase, ME, ME, ME, reason=reason)  # type: ignore[arg-type]
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
    monkeypatch.setattr(up, "REMIND_S", 0.1)
    monkeypatch.setattr(up, "START_S", 0.1)  # a build may take longer than a start
    monkeypatch.setattr(up.minio, "find", lambda: None)
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
    assert up.START_S == 300
    monkeypatch.setattr(up, "START_S", 0)
    with pytest.raises(ServiceError, match=r"^mlflow did not answer within 0 s; see `invoke logs"):
        wait(answering, "mlflow")


def test_wait_until_ready_long_start_is_reminded_of(
    answering: Settings, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.setattr(up, "START_S", 0.3)
    monkeypatch.setattr(up, "REMIND_S", 0)
    with pytest.raises(ServiceError, match="did not answer"):
        wait(answering, "mlflow")
    assert "  still starting after 2 s: mlflow\n" in capsys.readouterr().out


# down


def test_down_with_nothing_running_says_so(settings: Settings) -> None:
    assert not down(settings)


def test_down_stops_the_stack_and_the_model_server(settings: Settings, start: Start) -> None:
    stack, model_server = start("mlflow"), start("model-server")
    settings.save()
    assert down(settings)
    assert (stack.wait(10), model_server.wait(10)) == (-15, -15)
    state = read_state(settings.run_dir, "mlflow")
    assert state
    assert state.phase == "stopped"
    assert not (settings.run_dir / "settings.json").exists()


def test_down_stops_supervisors_whose_manager_is_gone(
    settings: Settings, start: Start, ended_pid: int
) -> None:
    orphan = start("mlflow", manager=str(ended_pid))
    assert down(settings)
    assert orphan.wait(10) == -15


def test_down_during_setup_stops_it(settings: Settings, start: Start) -> None:
    setup = start("up", manager="")
    assert down(settings)
    assert setup.wait(10) == -15


def test_down_setup_whose_process_is_gone_is_waited_for(
    settings: Settings, left_over: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    sleep = time.sleep
    monkeypatch.setattr(time, "sleep", lambda s: (left_over.kill(), sleep(s)))
    assert down(settings)


@pytest.mark.usefixtures("hasty")
def test_down_service_that_does_not_stop_is_told(settings: Settings, start: Start) -> None:
    stubborn = start("mlflow", stubborn="yes")
    settings.save()
    told = f"^mlflow did not stop within 0 s; end process {stubborn.pid}\\.$"
    with pytest.raises(ServiceError, match=told):
        down(settings)
    assert (settings.run_dir / "settings.json").exists()  # it runs still


@pytest.mark.usefixtures("hasty")
def test_down_setup_that_does_not_stop_is_told(settings: Settings, start: Start) -> None:
    setup = start("up", manager="", stubborn="yes")
    told = f"^The setup did not stop within 0 s; end process {setup.pid}\\.$"
    with pytest.raises(ServiceError, match=told):
        down(settings)


# reset


def refuse(_loss: str) -> bool:
    pytest.fail("asked")


def agree(_loss: str) -> bool:
    return True


@pytest.fixture
def kept(settings: Settings) -> Settings:
    """Settings of a checkout that has 2 MB of state and 1 MB of artifacts."""
    for folder, size in ((settings.var, 2), (settings.artifacts, 1)):
        (folder / "deep").mkdir(parents=True)
        (folder / "deep" / "file").write_bytes(bytes(size << 20))
    return settings


def test_reset_with_no_state_asks_nothing(settings: Settings, capsys: Captured) -> None:
    assert not reset(settings, refuse)
    assert capsys.readouterr().out == "Nothing to delete.\n"


def test_reset_says_what_is_lost_and_deletes(kept: Settings) -> None:
    asked: list[str] = []
    assert reset(kept, lambda loss: not asked.append(loss))  # type: ignore[func-returns-value]
    assert asked[0].startswith(
        f"This deletes {kept.var} (2 MB), {kept.artifacts} (1 MB): all runs and models"
    )
    assert asked[0].endswith("notebooks stay.")
    assert not kept.var.exists()
    assert not kept.artifacts.exists()


def test_reset_that_is_declined_deletes_nothing(kept: Settings) -> None:
    assert not reset(kept, lambda _loss: False)
    assert (kept.var / "deep" / "file").exists()


def test_reset_says_that_an_s3_store_stays(kept: Settings) -> None:
    asked: list[str] = []
    s3 = kept.model_copy(update={"store": "s3"})
    assert not reset(s3, lambda loss: bool(asked.append(loss)))  # type: ignore[func-returns-value]
    assert asked[0].endswith("stay, and what lies in the S3 store.")


def test_reset_while_services_run_is_refused(kept: Settings, start: Start) -> None:
    start("mlflow")
    with pytest.raises(ServiceError, match=r"runs here \(mlflow\); stop it with `invoke down`"):
        reset(kept, refuse)


@pytest.mark.parametrize("lock", ["up", "setup"])
def test_reset_during_a_setup_is_refused(lock: str, kept: Settings, start: Start) -> None:
    setup = start(lock, manager="")
    with pytest.raises(ServiceError, match=f"runs here \\(process {setup.pid}\\)"):
        reset(kept, refuse)


def test_reset_folder_that_can_not_be_deleted_is_a_sentence(settings: Settings) -> None:
    settings.artifacts.write_text("a file")
    with pytest.raises(
        StorageError, match=r"artifacts can't be deleted: Not a directory; delete it yourself\."
    ):
        reset(settings, agree)


def test_reset_artifacts_inside_the_state_go_with_it(kept: Settings) -> None:
    inside = kept.model_copy(update={"artifacts": kept.var / "deep"})
    assert reset(inside, agree)
    assert not kept.var.exists()


def test_reset_link_to_another_disk_stays_and_its_content_goes(
    settings: Settings, tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    (disk / "file").write_text("")
    settings.var.symlink_to(disk)
    assert reset(settings, agree)
    assert settings.var.is_symlink()
    assert list(disk.iterdir()) == []
    assert disk.stat().st_mode & 0o777 == 0o700
