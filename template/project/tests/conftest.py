"""Isolation: no test touches var/ of this checkout, nor the shell's settings."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

# Airflow reads it once, when it is imported
AIRFLOW_HOME = tempfile.TemporaryDirectory(prefix="airflow-")
os.environ["AIRFLOW_HOME"] = AIRFLOW_HOME.name


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Give each test a state folder of its own, and local files as its store."""
    for name in list(os.environ):
        if name.startswith(("TERRAFLOW_", "AWS_", "MLFLOW_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("TERRAFLOW_VAR", str(tmp_path / "var"))
    monkeypatch.setenv("TERRAFLOW_ARTIFACTS", str(tmp_path / "artifacts"))
    monkeypatch.setenv("TERRAFLOW_STORE", "local")
