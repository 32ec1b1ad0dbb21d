"""Processes that stand for a stack: they hold its locks."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from terraflow.lock import Lock
from terraflow.settings import Settings

#: Holds a lock, with a service's state where it is told a manager.
HOLDER = """
import os, signal, subprocess, sys, time
from pathlib import Path
from terraflow.lock import Lock
from terraflow.state import ServiceState, started_at
run_dir, (name, manager, stubborn, helper) = Path(sys.argv[1]), sys.argv[2:]
lock = Lock(run_dir / f"{name}.lock")
assert lock.acquire()
if manager:
    pid = os.getpid()
    who = int(manager) or pid
    starts = started_at(pid), started_at(who)
    ServiceState(name, "running", pid, pid, who, 0, 0.0, "", *starts).write(run_dir)
if stubborn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if helper:
    subprocess.Popen(["sleep", "60"], pass_fds=[lock.fileno()])
print("runs", flush=True)
time.sleep(60)
"""
Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(settings: Settings) -> Iterator[Start]:
    """Start a process that holds a lock: a service, or a setup (`manager=""`)."""
    started: list[subprocess.Popen[str]] = []

    def run(
        name: str, manager: str = "0", stubborn: str = "", helper: str = ""
    ) -> subprocess.Popen[str]:
        words = [str(settings.run_dir), name, manager, stubborn, helper]
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
def left_over(settings: Settings, ended_pid: int) -> Iterator[subprocess.Popen[bytes]]:
    """Give a process that keeps the lock of a stack that was killed."""
    lock = Lock(settings.run_dir / "up.lock")
    assert lock.acquire()
    process = subprocess.Popen(["sleep", "60"], pass_fds=[lock.fileno()])
    lock.hand_over(ended_pid)
    yield process
    process.kill()
    process.wait()
