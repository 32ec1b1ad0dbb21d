"""Isolation for every test: no TERRAFLOW_* of the shell, state in a temporary folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from terraflow.settings import Settings, load

ROOT = Path(__file__).resolve().parents[1]
SLOVENIA = ROOT.parent / "shared" / "data" / "slovenia"


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Hide the shell's settings and the checkout's own config/local and var/."""
    for name in list(os.environ):
        if name.startswith(("TERRAFLOW_", "AWS_", "MLFLOW_", "AIRFLOW_")):
            monkeypatch.delenv(name)
    monkeypatch.delenv("INIT_CWD", raising=False)
    config = tmp_path / "config"
    config.mkdir()
    (config / "land_cover.toml").write_bytes((ROOT / "config" / "land_cover.toml").read_bytes())
    monkeypatch.setenv("TERRAFLOW_CONFIG_DIR", str(config))
    monkeypatch.setenv("TERRAFLOW_VAR", str(tmp_path / "var"))
    monkeypatch.setenv("TERRAFLOW_ARTIFACTS", str(tmp_path / "artifacts"))


@pytest.fixture
def config_dir(tmp_path: Path) -> Path:
    """Folder that is read instead of config/."""
    return tmp_path / "config"


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings with local files as the store."""
    monkeypatch.setenv("TERRAFLOW_STORE", "local")
    return load()


@pytest.fixture
def slovenia() -> Path:
    """Folder of the real catalogue."""
    if not SLOVENIA.exists():
        pytest.skip("../shared/data/slovenia is not there; it is not part of the repository")
    return SLOVENIA
