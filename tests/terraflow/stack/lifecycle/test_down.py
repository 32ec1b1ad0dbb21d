"""Stop a stack: with real processes and locks."""

from __future__ import annotations

import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from terraflow.errors import ServiceError
from terraflow.lock import Lock
from terraflow.settings import Settings
from terraflow.stack.lifecycle import down as down_module
from terraflow.stack.lifecycle import work
from terraflow.stack.lifecycle.down import down
from terraflow.stack.lifecycle.reset import reset
from terraflow.state import read_state

Start = Callable[..., subprocess.Popen[str]]
Captured = pytest.CaptureFixture[str]


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for no end longer than a moment."""
    monkeypatch.setattr(down_module, "STOP_S", 0.3)
    monkeypatch.setattr(down_module, "KILL_S", 4)


def test_down_with_nothing_running_says_so(settings: Settings) -> None:
    assert not down(settings)


def test_down_waits_for_a_reset_and_does_not_end_it(settings: Settings, capsys: Captured) -> None:
    (settings.var / "deep").mkdir(parents=True)
    stopped: list[bool] = []

    def agree_slowly(_loss: str) -> bool:
        thread.start()
        thread.join(0.5)
        assert not stopped
        return True

    thread = threading.Thread(target=lambda: stopped.append(down(settings)))
    assert reset(settings, agree_slowly)
    thread.join(10)
    assert stopped == [False]  # nothing was left to stop
    assert "Waiting for the reset that process" in capsys.readouterr().out
    assert not settings.var.exists()


def test_down_gives_up_on_a_reset_that_hangs(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "RESET_S", 0.3)
    lock = Lock(settings.run_dir / work.WORK)
    assert lock.acquire()
    with pytest.raises(ServiceError, match=r"has not ended the reset within 0 s; see whether it"):
        down(settings)
    lock.release()


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


def test_down_in_a_copied_folder_leaves_the_running_stack_of_the_original(
    settings: Settings, start: Start, tmp_path: Path
) -> None:
    stack, setup = start("mlflow"), start("up", manager="")
    settings.save()
    copy = settings.model_copy(update={"var": tmp_path / "copy" / "var"})
    shutil.copytree(settings.var, copy.var)
    state = read_state(copy.run_dir, "mlflow")
    assert state
    assert state.phase == "stopped"
    assert not down(copy)
    assert reset(copy, lambda _: True)
    assert not copy.var.exists()
    assert (stack.poll(), setup.poll()) == (None, None)
    assert down(settings)


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
def test_down_kills_what_does_not_stop(settings: Settings, start: Start) -> None:
    stubborn = start("mlflow", stubborn="yes")
    settings.save()
    assert down(settings)
    assert stubborn.wait(10) == -9
    assert not (settings.run_dir / "settings.json").exists()


@pytest.mark.usefixtures("hasty")
def test_down_kills_a_setup_that_does_not_stop(settings: Settings, start: Start) -> None:
    setup = start("up", manager="", stubborn="yes")
    assert down(settings)
    assert setup.wait(10) == -9


@pytest.mark.usefixtures("hasty")
def test_down_kills_a_manager_that_was_suspended_and_does_not_stop(
    settings: Settings, start: Start
) -> None:
    honcho = start("up", manager="", stubborn="yes")
    honcho.send_signal(signal.SIGSTOP)
    service = start("mlflow", manager=str(honcho.pid), stubborn="yes")
    assert down(settings)
    assert (honcho.wait(10), service.wait(10)) == (-9, -9)


@pytest.mark.usefixtures("hasty")
def test_down_lets_what_ctrl_z_suspended_stop_by_itself(settings: Settings, start: Start) -> None:
    honcho = start("up", manager="")
    honcho.send_signal(signal.SIGSTOP)
    assert down(settings)
    assert honcho.wait(10) == -15


@pytest.mark.usefixtures("hasty")
def test_down_kills_helpers_of_a_manager_that_keep_its_lock(
    settings: Settings, start: Start
) -> None:
    honcho = start("up", manager="", helper="yes")
    assert down(settings)
    assert honcho.wait(10) == -15
    assert not Lock(settings.run_dir / "up.lock").is_held()


def test_down_does_not_wait_for_a_manager_whose_services_are_gone(
    settings: Settings, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(down_module, "ALONE_S", 0.3)
    honcho = start("up", manager="", stubborn="yes")
    service = start("mlflow", manager=str(honcho.pid))
    ended = threading.Timer(0.2, service.kill)
    ended.start()
    began = time.monotonic()
    assert down(settings)
    assert time.monotonic() - began < 5
    assert honcho.wait(10) == -9


def test_down_never_ends_a_process_that_got_the_id_of_a_manager(
    settings: Settings, start: Start
) -> None:
    with subprocess.Popen(["sleep", "60"]) as stranger:
        service = start("mlflow", manager=str(stranger.pid))
        state = read_state(settings.run_dir, "mlflow")
        assert state
        replace(state, manager_started=state.manager_started - 60).write(settings.run_dir)
        assert down(settings)
        assert service.wait(10) == -15
        assert stranger.poll() is None
        stranger.kill()


def test_down_leaves_the_settings_of_a_stack_that_was_started_meanwhile(
    settings: Settings, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without them no command finds the ports of the new one."""
    start("mlflow")
    started: list[Lock] = []

    def start_again(var: Path) -> None:
        started.append(Lock(settings.run_dir / "up.lock"))
        assert started[0].acquire()
        settings.save()

    monkeypatch.setattr(down_module, "end_leftovers", start_again)
    assert down(settings)
    assert (settings.run_dir / "settings.json").exists()


@pytest.mark.usefixtures("hasty")
def test_down_kills_services_that_a_setup_has_started_meanwhile(
    settings: Settings, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup = start("up", manager="", stubborn="yes")
    service: list[subprocess.Popen[str]] = []
    wait = down_module._wait

    def start_one(*words: Any, **more: Any) -> bool:
        if not service:
            service.append(start("mlflow", manager=str(setup.pid), stubborn="yes"))
        return wait(*words, **more)

    monkeypatch.setattr(down_module, "_wait", start_one)
    assert down(settings)
    assert (setup.wait(10), service[0].wait(10)) == (-9, -9)
