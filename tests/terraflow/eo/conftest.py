from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from area import Area
from http_server import HttpServer
from terraflow.settings import Settings
from terraflow.storage import Storage


@pytest.fixture
def storage(settings: Settings) -> Storage:
    """Local files."""
    return Storage(settings)


@pytest.fixture
def area(tmp_path: Path) -> Area:
    return Area(tmp_path / "area")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[HttpServer]:
    """An HTTP server of the folder of `area`."""
    folder = tmp_path / "area"
    folder.mkdir(exist_ok=True)
    with HttpServer(folder) as server:
        yield server
