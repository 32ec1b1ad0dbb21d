from __future__ import annotations

import pytest

from terraflow.credentials import read_secrets
from terraflow.errors import ConfigError
from terraflow.settings import Settings


def test_read_secrets_are_generated_once(settings: Settings) -> None:
    first = read_secrets(settings)
    assert read_secrets(settings) == first
    assert all(len(value) >= 12 for value in first.values())


def test_read_secrets_damaged_file_is_told(settings: Settings) -> None:
    read_secrets(settings)
    (settings.var / "secrets.json").write_text("{")
    with pytest.raises(ConfigError, match=r"secrets\.json is not valid JSON"):
        read_secrets(settings)
