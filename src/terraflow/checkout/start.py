"""Shield this process from the user's shell, before it imports what reads variables."""

from __future__ import annotations

import os
import site
import sys
from pathlib import Path

from terraflow import config
from terraflow.checkout.variables import shielded
from terraflow.errors import TerraFlowError

__all__ = ["is_task", "shield"]


def shield() -> None:
    """Give this process what `shielded` leaves of its variables.

    What Python itself reads at its start, it has read: where something of that differs, the program
    is run again in its place.
    """
    root = _root()
    wanted = shielded(os.environ, root, s3=_uses_s3(root), postgresql=_has_server(root))
    read = {name: value for name, value in os.environ.items() if name.startswith("PYTHON")}
    others = any(wanted.get(name) != value for name, value in read.items())
    if others or (site.ENABLE_USER_SITE and "PYTHONNOUSERSITE" in wanted):
        sys.stdout.flush()
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], wanted)
    os.environ.clear()
    os.environ.update(wanted)


def is_task() -> bool:
    """Tell whether this process runs a task, by `invoke`, `inv` or `python -m invoke`."""
    program = Path(sys.argv[0] if sys.argv else "")
    return program.name in ("invoke", "inv") or program.parent.name == "invoke"


def _root() -> Path | None:
    try:
        return config.project_root()
    except TerraFlowError:  # the task says so
        return None


def _uses_s3(root: Path | None) -> bool:
    """Tell whether anything names an S3 store: the shell, a file, this command, a running stack."""
    named = [word.partition("=") for word in sys.argv]
    told = [value.strip() for key, _, value in named if key.strip() == "store"]
    told += [str(_setting(root, "store"))]
    var = (root or Path()) / Path(str(_setting(root, "var") or "var")).expanduser()
    try:
        running = (var / "run" / "settings.json").read_text()
    except (OSError, ValueError):
        running = ""
    return "s3" in told or '"store": "s3"' in running


def _has_server(root: Path | None) -> bool:
    """Tell whether a PostgreSQL server is the stack's own."""
    return _setting(root, "database", "kind") == "postgresql" and not (
        _setting(root, "database", "url")
    )


def _setting(root: Path | None, *key: str) -> object:
    """Read a setting as far as that needs no package; None where it is not set, or wrong."""
    if named := os.environ.get(config.PREFIX + "_".join(key).upper()):
        return named
    found: object = None
    try:
        for layer in config.file_layers("terraflow.toml") if root else ():
            value: object = layer.values
            for part in key:
                value = value.get(part) if isinstance(value, dict) else None
            found = value or found
    except TerraFlowError:  # the task says so
        pass
    return found
