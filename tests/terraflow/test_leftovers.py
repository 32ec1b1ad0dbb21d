from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from terraflow.state import MARK, end_leftovers, is_same, started_at

#: A supervisor whose service starts a process in a session of its own; prints its id.
SUPERVISOR = """
import os, subprocess, time
from terraflow.process.supervise import _mark_children
_mark_children()
child = subprocess.Popen(["sleep", "60"], start_new_session=True)
print(child.pid, flush=True)
time.sleep(60)
"""


def start(var: Path) -> tuple[subprocess.Popen[str], psutil.Process]:
    supervisor = subprocess.Popen(
        [sys.executable, "-c", SUPERVISOR],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"TERRAFLOW_VAR": str(var)},
    )
    assert supervisor.stdout
    return supervisor, psutil.Process(int(supervisor.stdout.readline()))


def test_end_leftovers_of_a_killed_supervisor(tmp_path: Path) -> None:
    supervisor, worker = start(tmp_path)
    living, other = start(tmp_path)
    try:
        assert end_leftovers(tmp_path) == []
        supervisor.kill()
        supervisor.wait()
        assert worker.is_running()
        assert end_leftovers(tmp_path / "another") == []
        assert end_leftovers(tmp_path) == [worker.pid]
        assert not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE
        assert other.is_running()
    finally:
        for process in (supervisor, living):
            process.kill()
            process.wait()
        other.kill()


def test_end_leftovers_takes_a_process_id_that_was_given_again_for_another(tmp_path: Path) -> None:
    """The mark names this process, and a start that is not its own."""
    mark = {"TERRAFLOW_VAR": str(tmp_path), MARK: f"{os.getpid()}:{time.time() - 1e6}"}
    with subprocess.Popen(["sleep", "60"], env=mark) as left:
        assert end_leftovers(tmp_path) == [left.pid]


@pytest.mark.parametrize("pid", [0, -1, 2**22 - 1])
def test_is_same_of_no_process(pid: int) -> None:
    assert not is_same(pid, 0.0)
    assert not is_same(pid, time.time())


def test_is_same_process() -> None:
    assert is_same(os.getpid(), started_at(os.getpid()))
    assert is_same(os.getpid(), 0.0)
    assert not is_same(os.getpid(), time.time() - 3600)


def test_process_stays_the_same_when_the_clock_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    if sys.platform != "linux":
        pytest.skip("only Linux tells a start that does not go by the clock")
    started = started_at(os.getpid())
    with Path("/proc/stat").open() as file:
        booted = next(float(line.split()[1]) for line in file if line.startswith("btime"))
    monkeypatch.setattr(psutil, "boot_time", lambda: booted + 3600)
    monkeypatch.setattr("psutil._pslinux.boot_time", lambda: booted + 3600)
    assert abs(psutil.Process(os.getpid()).create_time() - booted - 3600 - started) < 1
    assert is_same(os.getpid(), started)
