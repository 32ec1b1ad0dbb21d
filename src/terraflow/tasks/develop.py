"""Tests, benchmarks, lint and lock: the commands of developers."""

from __future__ import annotations

import subprocess
import sys

from terraflow.config import project_root

__all__ = ["bench", "lint", "lock", "run_tests"]

_OVERRIDDEN = "rfc3987-syntax"  # see [tool.uv] in pyproject.toml


def run_tests(keyword: str = "", marker: str = "") -> int:
    """Run pytest; return its exit code."""
    words = [*(["-k", keyword] if keyword else []), *(["-m", marker] if marker else [])]
    return _run("pytest", *words)


def bench(only: str = "") -> int:
    """Run the benchmarks, or some of them; return 1 if a figure misses its bound."""
    words = ["--only", only] if only else []
    return subprocess.call([sys.executable, "benchmarks/bench.py", *words], cwd=project_root())


def lint(*, fix: bool = False) -> int:
    """Run ruff and mypy; return 1 if either finds something."""
    changes = ["--fix"] if fix else []
    codes = [
        _run("ruff", "check", *changes),
        _run("ruff", "format", *([] if fix else ["--check"])),
        _run("mypy"),
    ]
    return int(any(codes))


def lock() -> int:
    """Rewrite requirements.lock: universal, with hashes, without index addresses."""
    return _run(
        "uv", "pip", "compile", "pyproject.toml", "--extra", "dev", "--universal",
        "--generate-hashes", "--no-header", "--no-emit-index-url",
        "--no-emit-package", _OVERRIDDEN, "--python-version", "3.11", "--quiet",
        "--output-file", "requirements.lock",
    )  # fmt: skip


def _run(module: str, *words: str) -> int:
    return subprocess.call([sys.executable, "-m", module, *words], cwd=project_root())
