from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from small_disks import small_disk
from terraflow.errors import StorageError
from terraflow.files import make_dir, write_private
from terraflow.lock import Lock


def test_write_private_is_for_the_owner_only(tmp_path: Path) -> None:
    write_private(tmp_path / "a" / "secret", "x")
    assert (tmp_path / "a" / "secret").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o700


def test_write_private_that_fails_keeps_the_old_file_and_leaves_nothing(tmp_path: Path) -> None:
    write_private(tmp_path / "file", "old")
    with pytest.raises(UnicodeEncodeError):
        write_private(tmp_path / "file", "\ud800")
    assert (tmp_path / "file").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir() if "file" in p.name] == ["file"]


def test_make_dir_under_a_file_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "var").write_text("")
    with pytest.raises(
        StorageError, match=r"run can't be written: Not a directory; .*TERRAFLOW_VAR"
    ):
        make_dir(tmp_path / "var" / "run")


def test_lock_is_held_once(tmp_path: Path) -> None:
    first, second = Lock(tmp_path / "lock"), Lock(tmp_path / "lock")
    assert first.acquire()
    assert not second.acquire()
    assert second.is_held()
    first.release()
    assert not second.is_held()
    assert second.acquire()


def test_lock_on_a_full_disk_leaves_no_empty_file() -> None:
    with small_disk("64k") as folder:
        (folder / "rest").write_bytes(bytes(65_536))
        lock = Lock(folder / "lock")
        with pytest.raises(OSError, match="No space left"):
            lock.acquire()
        assert [path.name for path in folder.iterdir()] == ["rest"]
        (folder / "rest").unlink()
        assert lock.acquire()
        assert lock.holder() == os.getpid()


def test_lock_that_was_removed_by_its_holder_is_not_held_twice(tmp_path: Path) -> None:
    first = Lock(tmp_path / "lock")
    assert first.acquire()
    real, opened = os.open, []

    def open_late(*arguments: Any, **options: Any) -> int:
        """Open what is removed right after."""
        handle = real(*arguments, **options)
        if not opened and arguments[0] == first.path:
            opened.append(handle)
            first.path.unlink()
            first.release()
        return handle

    second = Lock(tmp_path / "lock")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "open", open_late)
        assert second.acquire()
    assert opened
    assert not Lock(tmp_path / "lock").acquire()
