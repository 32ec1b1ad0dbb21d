"""Shield this process from the user's shell, before it imports what reads variables."""

from __future__ import annotations

import os
import site
import sys
from pathlib import Path

from terraflow import config
from terraflow.checkout.variables import shielded
from terraflow.errors import TerraFlowError

__all__ = ["is_task", "shield", "users_shell"]

#: Names that Python has read at its start, and that were dropped then: told to the program that
#: takes the place of the first.
DROPPED = "_TERRAFLOW_DROPPED"
_SHELL: dict[str, str] = {}


def shield() -> None:
    """Give this process what `shielded` leaves of its variables.

    What Python itself reads at its start, it has read: where something of that differs, the program
    is run again in its place.
    """
    dropped = os.environ.pop(DROPPED, "").split()
    _SHELL.update(os.environ | dict.fromkeys(dropped, ""))
    _leave_other_stack()
    root = _root()
    wanted = shielded(os.environ, root, s3=_uses_s3(root), postgresql=_has_server(root))
    read = {name: value for name, value in os.environ.items() if name.startswith("PYTHON")}
    others = {name for name, value in read.items() if wanted.get(name) != value}
    if others or (site.ENABLE_USER_SITE and "PYTHONNOUSERSITE" in wanted):
        python = {name: value for name, value in wanted.items() if name.startswith("PYTHON")}
        again = {name: value for name, value in os.environ.items() if name not in read} | python
        again[DROPPED] = " ".join(others)
        sys.stdout.flush()
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], again)
    os.environ.clear()
    os.environ.update(wanted)


def users_shell() -> dict[str, str]:
    """Give the variables that this process began with; what Python dropped has no value."""
    return dict(_SHELL or os.environ)


def _leave_other_stack() -> None:
    """Act on the project one stands in, in a shell of another project's stack, as JupyterLab's.

    Where TerraFlow has set the variables of that shell, they name its folders.
    """
    named = os.environ.get("TERRAFLOW_ROOT")
    if not named or not os.environ.get("TERRAFLOW_RESOLVED"):
        return
    del os.environ["TERRAFLOW_ROOT"]
    here = _root()
    os.environ["TERRAFLOW_ROOT"] = named
    if here and here != Path(named).resolve():
        for name in [name for name in os.environ if name.startswith(config.PREFIX)]:
            if name != "TERRAFLOW_STARTED_BY":
                del os.environ[name]


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
