from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from field.bed import Bed
from harness import Stack


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.services)
            if item.path.stem != "test_bed":
                item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def field_stack(tmp_path_factory: pytest.TempPathFactory, migrated: Path) -> Iterator[Stack]:
    """A stack with local files as the store, of which MLflow alone runs."""
    one = Stack(tmp_path_factory.mktemp("field"), TERRAFLOW_STORE="local")
    one.take_databases(migrated)
    try:
        one.ok("up", "--detach", "--only", "mlflow")
        yield one
    finally:
        one.close()


@pytest.fixture
def bed(
    field_stack: Stack,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> Bed:
    """An empty folder of a user, and the commands of the project beside it."""
    for name, value in field_stack.environment.items():
        if name.startswith("TERRAFLOW_"):
            monkeypatch.setenv(name, value)
    return Bed(tmp_path, capfd)
