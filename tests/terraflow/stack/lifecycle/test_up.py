"""Claim a checkout: with real processes and locks."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable

import pytest

from harness import wait_for
from terraflow.errors import ServiceError
from terraflow.lock import Lock
from terraflow.settings import Settings
from terraflow.stack.lifecycle import up

ME = os.getpid()
Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for no end longer than a moment."""
    monkeypatch.setattr(up, "STOP_S", 0.3)


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
