from __future__ import annotations

from pathlib import Path

import pytest

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
