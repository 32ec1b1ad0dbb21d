"""Stop and reset a checkout: with real processes and locks."""

from __future__ import annotations

import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from terraflow.errors import ServiceError, StorageError
from terraflow.lock import Lock
from terraflow.settings import Settings
from terraflow.stack.lifecycle import down as down_module
from terraflow.stack.lifecycle.down import down, reset
from terraflow.state import read_state

Start = Callable[..., subprocess.Popen[str]]
Captured = pytest.CaptureFixture[str]


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for no end longer than a moment."""
    monkeypatch.setattr(down_module, "STOP_S", 0.3)
    monkeypatch.setattr(down_module, "KILL_S", 4)


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
