from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO

import pytest

from harness import wait_for
from terraflow.errors import ServiceError
from terraflow.lock import Lock, main

HOLD = """
import sys, time
from pathlib import Path
from terraflow.lock import Lock
lock = Lock(Path(sys.argv[1]))
assert lock.acquire()
print("held", flush=True)
time.sleep(60)
"""


def hold(path: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    assert process.stdout.readline() == "held\n"
    return process


def test_acquire_twice_only_the_first_has_it(tmp_path: Path) -> None:
    first, second = Lock(tmp_path / "a.lock"), Lock(tmp_path / "a.lock")
    assert first.acquire()
    assert not second.acquire()
    assert second.is_held()
    first.release()
    assert not second.is_held()
    assert second.acquire()
    second.release()


def test_lock_ends_with_a_killed_holder_whose_number_it_keeps(tmp_path: Path) -> None:
    lock = Lock(tmp_path / "a.lock")
    process = hold(lock.path)
    assert not lock.acquire()
    assert lock.holder() == process.pid
    process.kill()
    process.wait()
    assert lock.holder() == process.pid
    assert lock.acquire()
    lock.release()


def test_wait_takes_it_as_soon_as_it_is_free(tmp_path: Path) -> None:
    first, second = Lock(tmp_path / "a.lock"), Lock(tmp_path / "a.lock")
    assert first.acquire()
    told: list[str] = []
    waiting = threading.Thread(target=second.wait, args=("the setup", 60.0, told.append))
    waiting.start()
    time.sleep(0.3)
    assert waiting.is_alive()
    assert told == [f"Waiting for the setup that process {os.getpid()} is running"]
    first.release()
    waiting.join(5)
    assert not waiting.is_alive()
    second.release()


def test_wait_for_a_holder_that_hangs_ends_with_a_sentence(tmp_path: Path) -> None:
    process = hold(tmp_path / "a.lock")
    try:
        wanted = f"Process {process.pid} has not ended the setup within 0 s; see whether it hangs"
        with pytest.raises(ServiceError, match=wanted):
            Lock(tmp_path / "a.lock").wait("the setup", 0.3)
    finally:
        process.kill()
        process.wait()


def test_acquire_a_file_that_is_deleted_at_that_moment_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its holder would have a file that has no name, beside the holder of a new one."""
    flock = fcntl.flock

    def delete_first(file: IO[str], flags: int) -> None:
        (tmp_path / "a.lock").unlink()
        flock(file, flags)

    monkeypatch.setattr(fcntl, "flock", delete_first)
    assert not Lock(tmp_path / "a.lock").acquire()
    monkeypatch.undo()
    assert Lock(tmp_path / "a.lock").acquire()


def test_shared_lock_is_of_several_and_of_none_alone(tmp_path: Path) -> None:
    one, two, alone = (Lock(tmp_path / "a.lock") for _ in range(3))
    assert one.acquire(shared=True)
    assert two.acquire(shared=True)
    assert not alone.acquire()
    one.release()
    assert not alone.acquire()
    two.release()
    assert alone.acquire()
    assert not one.acquire(shared=True)
    alone.release()


@pytest.mark.parametrize("shared", [True, False])
def test_lock_that_a_full_disk_refuses_goes_unless_others_may_share_it(
    shared: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_lock: Lock, _pid: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "a.lock"
    first = Lock(path)
    assert not shared or first.acquire(shared=True)
    with monkeypatch.context() as patch:
        patch.setattr(Lock, "_note", fail)
        with pytest.raises(OSError, match="No space"):
            Lock(path).acquire(shared=shared)
    assert path.exists() == shared
    assert Lock(path).acquire() != shared


def test_hand_over_leaves_it_to_a_child_that_has_the_descriptor(tmp_path: Path) -> None:
    lock = Lock(tmp_path / "a.lock")
    assert lock.acquire()
    child = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(60)"], pass_fds=[lock.fileno()]
    )
    try:
        lock.hand_over(child.pid)
        assert lock.is_held()
        assert lock.holder() == child.pid
    finally:
        child.kill()
        child.wait()
    wait_for(lambda: not lock.is_held(), 5)


@pytest.mark.parametrize("content", ["", "nobody"])
def test_holder_of_a_file_without_a_number_is_unknown(content: str, tmp_path: Path) -> None:
    (tmp_path / "a.lock").write_text(content)
    assert Lock(tmp_path / "a.lock").holder() is None
    assert Lock(tmp_path / "none.lock").holder() is None
    assert not Lock(tmp_path / "none.lock").is_held()


def test_main_gives_the_commands_exit_code(tmp_path: Path) -> None:
    code = [sys.executable, "-c", "import sys; sys.exit(3)"]
    assert main([str(tmp_path / "a.lock"), *code]) == 3


def test_main_waits_and_says_for_whom(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    process = hold(tmp_path / "a.lock")
    threading.Timer(0.5, process.kill).start()
    assert main([str(tmp_path / "a.lock"), sys.executable, "-c", "pass"]) == 0
    process.wait()
    wanted = f"Waiting for the installation that process {process.pid} is running"
    assert wanted in capfd.readouterr().out
