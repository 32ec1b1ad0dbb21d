"""A stand-in for the supervisor of a service: a real process with its lock and its state file."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness import wait_for
from terraflow.state import read_state

SUPERVISOR = """
import os, signal, sys, time
from pathlib import Path
from terraflow.lock import Lock
from terraflow.state import ServiceState
name, phase, reason, patience, run_dir = sys.argv[1:]
lock = Lock(Path(run_dir) / f"{name}.lock")
assert lock.acquire()
def write(phase, pid):
    mine = os.getpid()
    state = ServiceState(name, phase, pid, mine, mine, 2, time.time(), reason)
    state.write(Path(run_dir))
def stop(*_):
    time.sleep(float(patience))
    write("stopped", None)
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
write(phase, os.getpid() if phase == "running" else None)
time.sleep(60)
"""


@contextmanager
def supervised(
    run_dir: Path, name: str, *, phase: str = "running", reason: str = "", patience: float = 0
) -> Iterator[subprocess.Popen[bytes]]:
    """Let a process stand in for a service's supervisor; SIGTERM ends it after `patience` s."""
    words = [name, phase, reason, str(patience), str(run_dir)]
    process = subprocess.Popen([sys.executable, "-c", SUPERVISOR, *words])
    try:
        wait_for(lambda: (s := read_state(run_dir, name)) and s.phase == phase, 10)
        yield process
    finally:
        process.kill()
        process.wait()
