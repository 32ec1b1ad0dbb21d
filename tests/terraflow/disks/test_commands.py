"""Public commands on real small disks: one sentence, and with room made the same command works."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from harness import Stack
from small_disks import make_room, read_only, small_disk

FULL = r"The file system at (\S+) is full \(.* free.*\), on which .*; .* repeat the command\."


def told(output: str) -> str:
    """Return the sentence: progress bars and GDAL's own lines go before it."""
    return output.strip().splitlines()[-1]


def left_over(folder: Path) -> list[Path]:
    """List locks without a holder's number, and temporary files."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    empty = [path for path in files if path.suffix == ".lock" and not path.stat().st_size]
    return empty + [path for path in files if "tmp" in path.relative_to(folder).parts]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("size", "files"),
    # in the simulated area, in copies of images, in their item, in the samples; folders, files
    [
        *(pytest.param(size, 5000, marks=pytest.mark.exhaustive) for size in ("1m", "12m")),
        *(("18m", 5000), ("21m", 5000)),
        *(pytest.param("90m", files, marks=pytest.mark.exhaustive) for files in (3, 20)),
        ("90m", 60),
    ],
)
def test_preprocess_on_a_full_disk(size: str, files: int) -> None:
    with small_disk(size, files) as folder:
        stack = Stack(folder, TERRAFLOW_STORE="local")
        found = re.fullmatch(FULL, told(stack.fails("preprocess")))
        assert found
        assert found[1] == str(folder)
        assert left_over(folder) == []
        make_room(folder)
        stack.ok("preprocess")


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("size", "files"), [("64k", 5000), ("700k", 5000), ("2m", 5000), ("90m", 12), ("90m", 28)]
)
def test_setup_on_a_full_disk(size: str, files: int) -> None:
    with small_disk(size, files) as folder:
        stack = Stack(folder, TERRAFLOW_STORE="local")
        assert f"The file system at {folder} " in told(stack.fails("setup"))
        assert left_over(folder) == []
        make_room(folder)
        stack.ok("setup")


def test_commands_on_a_read_only_disk() -> None:
    with small_disk("10m") as folder:
        stack = Stack(folder, TERRAFLOW_STORE="local")
        read_only(folder)
        for task in ("preprocess", "setup", "up"):
            said = told(stack.fails(task))
            assert f"the file system at {folder} is read-only; set TERRAFLOW_VAR to a" in said
