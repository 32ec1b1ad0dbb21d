from __future__ import annotations

import time
from pathlib import Path

import pytest

from services import supervised
from terraflow.errors import ServiceError
from terraflow.lock import Lock
from terraflow.settings import Settings
from terraflow.stack import up
from terraflow.stack.services import SERVICES
from terraflow.stack.up import down, reset, wait_until_ready


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(up, "STOP_S", 1.5)
    monkeypatch.setattr(up, "START_S", 1.0)


def test_down_of_nothing_says_so(settings: Settings) -> None:
    assert not down(settings)


def test_down_ends_what_runs_and_forgets_its_settings(settings: Settings) -> None:
    settings.save()
    with supervised(settings.run_dir, "mlflow") as process:
        assert down(settings)
        assert process.wait(5) == 0
    assert not (settings.run_dir / "settings.json").exists()
    assert not down(settings)


def test_down_ends_the_model_server_too(settings: Settings) -> None:
    with supervised(settings.run_dir, "model-server") as process:
        assert down(settings)
        assert process.wait(5) == 0


def test_down_what_does_not_stop_is_named_with_its_process(settings: Settings) -> None:
    with (
        supervised(settings.run_dir, "mlflow", patience=20) as process,
        pytest.raises(ServiceError, match=rf"mlflow did not stop within 2 s; .* {process.pid}\."),
    ):
        down(settings)


def test_claim_free_checkout_is_taken(settings: Settings) -> None:
    lock = up._claim(settings)
    assert Lock(lock.path).is_held()
    lock.release()


def test_claim_running_stack_is_refused_with_its_process(settings: Settings) -> None:
    with (
        supervised(settings.run_dir, "mlflow") as process,
        pytest.raises(ServiceError, match=rf"already runs here \(pid {process.pid}, state in"),
    ):
        up._claim(settings)


def test_claim_waits_for_a_killed_stack_to_end(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(up, "_is_alive", lambda pid: False)
    with supervised(settings.run_dir, "mlflow", patience=0.5) as process:
        process.terminate()
        began = time.monotonic()
        up._claim(settings).release()
        assert time.monotonic() - began > 0.2


def test_wait_until_ready_stack_that_was_stopped_names_what_is_missing(settings: Settings) -> None:
    with pytest.raises(ServiceError, match="was stopped before mlflow answered"):
        wait_until_ready(settings, [SERVICES["mlflow"]], time.time(), alive=lambda: False)


def test_wait_until_ready_silence_ends_in_a_sentence(settings: Settings) -> None:
    with pytest.raises(ServiceError, match="mlflow did not answer within 1 s; see"):
        wait_until_ready(settings, [SERVICES["mlflow"]], time.time(), alive=lambda: True)


def test_wait_until_ready_failed_service_fails_those_that_need_it(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    services = [SERVICES["minio"], SERVICES["mlflow"]]
    with (
        supervised(settings.run_dir, "minio", phase="failed", reason="exited with code 1"),
        pytest.raises(ServiceError, match="minio, mlflow failed; the other services go on"),
    ):
        wait_until_ready(settings, services, time.time(), alive=lambda: True)
    said = capsys.readouterr().out
    assert "minio                  failed: exited with code 1" in said
    assert "mlflow                 failed: it needs minio" in said


def fill(settings: Settings) -> Path:
    path = settings.var / "mlflow" / "mlflow.db"
    path.parent.mkdir(parents=True)
    path.write_bytes(bytes(2 * 2**20))
    return path


def test_reset_tells_what_is_lost_and_deletes_only_after_a_yes(settings: Settings) -> None:
    path = fill(settings)
    asked: list[str] = []
    assert not reset(settings, lambda loss: bool(asked.append(loss)))
    assert path.exists()
    assert f"{settings.var} (2 MB)" in asked[0]
    assert "Configuration, code and notebooks stay" in asked[0]
    assert reset(settings, lambda loss: True)
    assert not settings.var.exists()


def test_reset_of_nothing_does_not_ask(settings: Settings) -> None:
    assert not reset(settings, lambda loss: pytest.fail("it asked"))


def test_reset_of_a_running_stack_is_refused(settings: Settings) -> None:
    path = fill(settings)
    with (
        supervised(settings.run_dir, "mlflow"),
        pytest.raises(ServiceError, match=r"TerraFlow runs here \(mlflow\); stop it with"),
    ):
        reset(settings, lambda loss: True)
    assert path.exists()


def test_reset_during_a_setup_is_refused(settings: Settings) -> None:
    fill(settings)
    lock = Lock(settings.run_dir / "setup.lock")
    assert lock.acquire()
    with pytest.raises(ServiceError, match=r"TerraFlow runs here \(process \d+\)"):
        reset(settings, lambda loss: True)
    lock.release()
