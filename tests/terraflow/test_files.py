from __future__ import annotations

import errno
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from small_disks import small_disk
from terraflow.errors import ConfigError, StorageError
from terraflow.files import close_folder, expand_home, make_dir, write_private
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


@pytest.fixture
def open_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.parametrize("links", [True, False])
def test_write_private_once_leaves_what_another_process_wrote(
    links: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_source: str, _target: Path) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    if links:
        (tmp_path / "secret").write_text("theirs")
    else:
        monkeypatch.setattr(os, "link", refuse)
    write_private(tmp_path / "secret", "mine", once=True)
    assert (tmp_path / "secret").read_text() == ("theirs" if links else "mine")
    assert [path.name for path in tmp_path.glob("*secret*")] == ["secret"]


@pytest.mark.parametrize("times", [1, 2, 3])
def test_make_dir_whose_folders_are_deleted_meanwhile(
    times: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mkdir, deleted = Path.mkdir, []

    def delete_first(self: Path, *args: Any, **more: Any) -> None:
        if self.name == "inner" and len(deleted) < times:
            deleted.append(self)
            self.parent.rmdir()
        mkdir(self, *args, **more)

    monkeypatch.setattr(Path, "mkdir", delete_first)
    if times < 3:
        assert make_dir(tmp_path / "outer" / "inner").is_dir()
    else:
        with pytest.raises(StorageError, match="can't be written: No such file or directory"):
            make_dir(tmp_path / "outer" / "inner")


def test_make_dir_closes_those_above_that_it_makes_whatever_the_umask(
    tmp_path: Path, open_umask: None
) -> None:
    tmp_path.chmod(0o755)
    make_dir(tmp_path / "var" / "airflow" / "logs")
    made = [tmp_path / "var", tmp_path / "var" / "airflow", tmp_path / "var" / "airflow" / "logs"]
    assert {path.stat().st_mode & 0o777 for path in made} == {0o700}
    assert tmp_path.stat().st_mode & 0o777 == 0o755


def test_close_folder_leaves_nothing_to_others_but_what_is_to_stay(tmp_path: Path) -> None:
    for before, keep, after in ((0o777, 0, 0o700), (0o755, 0o011, 0o711), (0o500, 0, 0o500)):
        tmp_path.chmod(before)
        close_folder(tmp_path, keep)
        assert tmp_path.stat().st_mode & 0o777 == after
    tmp_path.chmod(0o700)


def test_keep_private_spares_files_where_the_user_said() -> None:
    program = """if True:
        import os, sys
        from pathlib import Path
        from terraflow.files import give_users_mode, keep_private
        os.umask(0o027)
        keep_private(); keep_private()
        for name in ("state", "output"):
            Path(sys.argv[1], name).touch()
        give_users_mode(Path(sys.argv[1], "output"))
    """
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-c", program, folder], check=True)
        modes = {path.name: path.stat().st_mode & 0o777 for path in Path(folder).iterdir()}
    assert modes == {"state": 0o600, "output": 0o640}


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


@pytest.mark.parametrize("path", ["", "  ", "a\0b"])
def test_expand_home_of_no_path_is_refused(path: str) -> None:
    with pytest.raises(ConfigError, match=r"^'.*' is no path; name a file or folder\.$"):
        expand_home(path)


def test_expand_home_writes_the_users_folder_out_and_refuses_nobodys() -> None:
    assert expand_home("~/maps") == Path.home() / "maps"
    with pytest.raises(ConfigError, match=r"^~no-such-user/a is in the home folder of nobody;"):
        expand_home("~no-such-user/a")


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
        assert not second.acquire()
    assert opened
    assert second.acquire()
    assert not Lock(tmp_path / "lock").acquire()
