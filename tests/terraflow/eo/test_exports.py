"""The public names: all there, typed, and loaded only when asked for."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from terraflow import eo

SLOW = ("xarray", "numpy", "mlflow", "sklearn", "rasterio", "pandas")


@pytest.mark.parametrize("name", sorted(eo.EXPORTS))
def test_export_has_a_docstring(name: str) -> None:
    assert getattr(eo, name).__doc__


def test_exports_are_some_fifteen_and_typed() -> None:
    stub = Path(eo.__file__).with_suffix(".pyi").read_text()
    typed = re.findall(r"^from (\S+) import (\w+) as \2$", stub, re.MULTILINE)
    assert {name: module for module, name in typed} == eo.EXPORTS
    assert len(typed) <= 20
    assert dir(eo) == sorted(eo.EXPORTS)


def test_export_unknown_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        eo.nothing  # noqa: B018


@pytest.mark.parametrize("module", ["terraflow.eo", "terraflow.tasks", "terraflow.stack.status"])
def test_import_loads_nothing_slow(module: str) -> None:
    code = f"import sys, {module}; print([m for m in {SLOW!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
