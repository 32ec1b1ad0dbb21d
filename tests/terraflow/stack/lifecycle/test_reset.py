"""Delete the state of a checkout: with real processes and locks."""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from terraflow.errors import ServiceError, StorageError
from terraflow.lock import Lock
from terraflow.settings import Settings
from terraflow.stack.lifecycle import reset as reset_module
from terraflow.stack.lifecycle.reset import reset
from terraflow.stack.lifecycle.work import working

Start = Callable[..., subprocess.Popen[str]]
Captured = pytest.CaptureFixture[str]


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


def test_reset_while_a_command_works_is_refused(kept: Settings) -> None:
    with (
        working(kept),
        working(kept),
        pytest.raises(ServiceError, match=r"A command works on .* \(process \d+\); wait for"),
    ):
        reset(kept, refuse)
    assert reset(kept, agree)


def test_work_waits_for_a_reset_and_begins_anew(kept: Settings, capsys: Captured) -> None:
    begun = threading.Event()

    def work() -> None:
        with working(kept):
            begun.set()

    def agree_slowly(_loss: str) -> bool:
        thread.start()
        assert not begun.wait(0.5)
        return True

    thread = threading.Thread(target=work)
    assert reset(kept, agree_slowly)
    assert begun.wait(5)
    thread.join()
    assert "Waiting for the reset that process" in capsys.readouterr().out
    assert [path.name for path in kept.var.rglob("*")] == ["run", "work.lock"]


def test_reset_deletes_all_else_before_the_locks(
    kept: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    rmtree = shutil.rmtree

    def look(path: Path, **more: bool) -> None:
        if path == kept.run_dir:
            assert not kept.artifacts.exists()
            assert [each.name for each in kept.var.iterdir()] == ["run"]
        rmtree(path, **more)

    monkeypatch.setattr(reset_module.shutil, "rmtree", look)
    assert reset(kept, agree)


@pytest.mark.parametrize("when", ["before the locks go", "after the locks went"])
def test_reset_leaves_what_is_begun_anew(
    when: str, kept: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    rmtree = shutil.rmtree

    def begin(path: Path, **more: bool) -> None:
        if path == kept.run_dir and when.startswith("before"):
            assert not Lock(kept.run_dir / "up.lock").acquire()
        rmtree(path, **more)
        if path == kept.run_dir and when.startswith("after"):
            assert Lock(kept.run_dir / "up.lock").acquire()

    monkeypatch.setattr(reset_module.shutil, "rmtree", begin)
    assert reset(kept, agree)
    assert (kept.run_dir / "up.lock").exists() == when.startswith("after")
    assert not (kept.var / "deep").exists()
