"""Tasks of developers: tests, benchmarks, lint, lock, wheel and version."""

from __future__ import annotations

import subprocess
import sys

from invoke.context import Context

from terraflow.config import project_root
from terraflow.console import say
from terraflow.projects.wheel import build
from terraflow.tasks.task import task

__all__ = ["bench", "lint", "lock", "test", "version", "wheel"]

_OVERRIDDEN = "rfc3987-syntax"  # see [tool.uv] in pyproject.toml
_EXTRAS = ("dev", "postgresql", "project")


@task(private=False, help={"k": "only tests that match, as pytest's -k", "m": "as pytest's -m"})
def test(c: Context, k: str = "", m: str = "") -> int:
    """Run the tests."""
    return _run("pytest", *(["-k", k] if k else []), *(["-m", m] if m else []))


@task(private=False, help={"only": "some of stack,dags,map,serve"})
def bench(c: Context, only: str = "") -> int:
    """Measure the stack, DAGs, maps and serving: about an hour."""
    words = ["--only", only] if only else []
    return subprocess.call([sys.executable, "benchmarks/bench.py", *words], cwd=project_root())


@task(private=False, help={"fix": "mend what can be mended"})
def lint(c: Context, fix: bool = False) -> int:
    """Check style and types."""
    codes = [
        _run("ruff", "check", *(["--fix"] if fix else [])),
        _run("ruff", "format", *([] if fix else ["--check"])),
        _run("mypy"),
    ]
    return int(any(codes))


@task(private=False)
def lock(c: Context) -> int:
    """Rewrite requirements.lock: universal, with hashes, without index addresses."""
    extras = [word for extra in _EXTRAS for word in ("--extra", extra)]
    shape = ["--universal", "--generate-hashes", "--python-version", "3.11"]
    silent = ["--quiet", "--no-header", "--no-emit-index-url", "--no-emit-package", _OVERRIDDEN]
    output = ["--output-file", "requirements.lock"]
    return _run("uv", "pip", "compile", "pyproject.toml", *extras, *shape, *silent, *output)


@task(private=False)
def wheel(c: Context) -> None:
    """Build the wheel of the platform into dist/, and print its path; needs no network."""
    say(str(build(project_root(), project_root() / "dist")))


@task()
def version(c: Context) -> None:
    """Print the version of the platform."""
    from terraflow import __version__

    say(__version__)


def _run(module: str, *words: str) -> int:
    return subprocess.call([sys.executable, "-m", module, *words], cwd=project_root())
