from __future__ import annotations

from pathlib import Path

import pytest

from area import Area
from terraflow.settings import Settings
from terraflow.storage import Storage


@pytest.fixture
def storage(settings: Settings) -> Storage:
    """Local files."""
    return Storage(settings)


@pytest.fixture
def area(tmp_path: Path) -> Area:
    return Area(tmp_path / "area")
