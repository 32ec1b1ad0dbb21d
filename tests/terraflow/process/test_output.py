from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from small_disks import small_disk
from terraflow.process import output
from terraflow.process.output import OldFiles, Output


def test_output_goes_to_the_log_and_labelled_to_the_terminal(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    one = Output(tmp_path / "one.log", echo=True, label="one: ")
    one.open()
    one.write(b"first\nsec")
    one.write(b"ond\nlast")
    one.end_line()
    one.close()
    assert (tmp_path / "one.log").read_bytes() == b"first\nsecond\nlast"
    assert capfdbinary.readouterr().out == b"one: first\none: second\none: last\n"


def test_output_without_echo_prints_nothing(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    one = Output(tmp_path / "one.log", echo=False)
    one.open()
    one.write(b"secret\n")
    one.end_line()
    assert capfdbinary.readouterr().out == b""


def test_output_keeps_the_last_lines_with_text(tmp_path: Path) -> None:
    one = Output(tmp_path / "one.log", echo=False)
    one.write(b"".join(b"line %d\n\n" % number for number in range(9)))
    assert list(one.last_lines) == [f"line {number}" for number in range(4, 9)]


def test_output_long_log_takes_the_place_of_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output, "MAX_LOG_BYTES", 10)
    one = Output(tmp_path / "one.log", echo=False)
    one.open()
    for text in (b"first of all\n", b"second of all\n", b"third\n"):
        one.write(text)
    assert (tmp_path / "one.log").read_bytes() == b"third\n"
    assert (tmp_path / "one.log.1").read_bytes() == b"second of all\n"


def test_output_goes_on_when_a_full_disk_has_room_again() -> None:
    with small_disk("64k") as folder:
        (folder / "rest").write_bytes(bytes(65_536))
        one = Output(folder / "one.log", echo=False)
        one.open()
        one.write(b"lost\n")
        (folder / "rest").unlink()
        one.write(b"kept\n")
        assert (folder / "one.log").read_bytes() == b"kept\n"
        assert one.last_lines == ["lost", "kept"]
        one.close()
        one.write(b"late\n")
        assert (folder / "one.log").read_bytes() == b"kept\n"


def test_output_without_a_file_more_is_opened_later() -> None:
    with small_disk("1m", files=3) as folder:
        (folder / "one").touch()
        (folder / "two").touch()
        one = Output(folder / "one.log", echo=False)
        one.open()
        one.write(b"lost\n")
        (folder / "two").unlink()
        one.write(b"kept\n")
        one.close()
        assert (folder / "one.log").read_bytes() == b"kept\n"


def aged(path: Path, days: float) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.suffix:
        path.mkdir(exist_ok=True)
    else:
        path.write_text("text")
    os.utime(path, (time.time() - days * 86400,) * 2)
    return path


def test_old_files_go_and_young_ones_stay(tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    old = aged(logs / "dag_id=a" / "run_id=1" / "attempt=1.log", 91)
    young = aged(logs / "dag_id=a" / "run_id=2" / "attempt=1.log", 89)
    empty, new = aged(logs / "dag_id=b", 91), aged(logs / "dag_id=c", 89)
    elsewhere = aged(tmp_path / "elsewhere" / "file.log", 1000)
    (logs / "latest").symlink_to(elsewhere.parent)
    OldFiles(logs, 90).step()
    assert not old.exists()
    assert not empty.exists()
    assert young.exists()
    assert new.exists()
    assert elsewhere.exists()
    assert logs.exists()


def test_old_files_are_looked_for_once_a_day_and_never_where_all_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = aged(tmp_path / "logs" / "one.log", 1000)
    OldFiles(tmp_path / "logs", 0).step()
    assert old.exists()
    files = OldFiles(tmp_path / "logs", 90)
    files.step()
    assert not old.exists()
    aged(old, 1000)
    files.step()
    assert old.exists()
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 90_000)
    files.step()
    assert not old.exists()


def test_old_files_of_a_folder_that_is_not_there_are_none(tmp_path: Path) -> None:
    OldFiles(tmp_path / "logs", 90).step()


def test_bound_output_begins_the_log_anew_and_leaves_other_outputs(tmp_path: Path) -> None:
    code = (
        "import os, sys\nfrom pathlib import Path\nfrom terraflow.process import output\n"
        "output.MAX_LOG_BYTES = 1000\n"
        "for n in range(100):\n"
        "    os.write(n % 2 + 1, b'%040d\\n' % n)\n"
        "    output.bound_output(Path(sys.argv[1]))\n"
    )
    log, other = tmp_path / "honcho.log", tmp_path / "other.log"
    for target in (log, other):
        with target.open("w") as file:
            command = [sys.executable, "-c", code, str(log)]
            subprocess.run(command, stdout=file, stderr=file, check=True)
    assert other.stat().st_size == 4100
    names = sorted(path.name for path in tmp_path.glob("honcho*"))
    assert names == ["honcho.log", "honcho.log.1"]
    assert max((tmp_path / name).stat().st_size for name in names) < 1100
    assert f"{99:040d}" in "".join((tmp_path / name).read_text() for name in names)
