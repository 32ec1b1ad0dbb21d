"""State is its owner's alone, whatever the umask."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from airflow_api import Airflow
from harness import Stack


@pytest.fixture
def open_umask() -> Iterator[None]:
    """Let what is made be read and written by all, as far as nothing else says."""
    before = os.umask(0)
    yield
    os.umask(before)


def open_to_others(*folders: Path) -> list[str]:
    """List what a group or others may read, write or enter, with its mode."""
    found = []
    for folder in folders:
        for path in (folder, *folder.rglob("*")):
            if not path.is_symlink() and (mode := path.stat().st_mode & 0o077):
                found.append(f"{path} {mode:03o}")
    return found


@pytest.mark.slow
@pytest.mark.parametrize("store", ["minio", pytest.param("local", marks=pytest.mark.exhaustive)])
def test_nothing_of_a_stack_is_open_to_others_with_umask_000(
    store: str,
    minio_binary: Path,
    new_stack: Callable[..., Stack],
    tmp_path: Path,
    open_umask: None,
) -> None:
    stack = new_stack(TERRAFLOW_STORE=store)
    stack.shrink()
    for old in (stack.var, stack.var / "jupyter", stack.artifacts):  # of an older release
        old.mkdir(exist_ok=True)
        old.chmod(0o777)
    for made in (stack.var / "airflow", stack.var / "mlflow"):  # copied, by the fixture
        for path in made.iterdir():
            path.chmod(0o600)
    only = [] if store == "minio" else ["--only", "mlflow,jupyter"]
    stack.ok("up", "--detach", *only)
    by = []
    if store == "minio":
        Airflow.at_rest(stack)
        by = ["--airflow"]
    assert "Run " in stack.ok("train", *by, timeout=900)
    output = tmp_path / "map.tif"
    stack.ok("map", "--output", str(output))
    stack.ok("serve", "--model", "models:/land-cover@champion", "--detach")
    assert open_to_others(stack.var, stack.artifacts) == []
    assert output.stat().st_mode & 0o777 == 0o666  # as the user's umask has it
    stack.ok("down")
    assert open_to_others(stack.var, stack.artifacts) == []
