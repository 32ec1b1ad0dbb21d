"""Make the environment of packages of a checkout, or bring it up to date: make runs this.

It needs nothing beyond the standard library. make itself looks whether there is something to do: it
compares `.venv/.ready` with where, for which machine and Python, and from what files it would make
the environment now, and writes it once all is installed.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

from terraflow.checkout.variables import shielded
from terraflow.config import host_environment
from terraflow.console import keep_streams
from terraflow.errors import ServiceError, TerraFlowError

__all__ = ["install", "leave_shared", "reason"]

VENV = Path(".venv")
READY = VENV / ".ready"
PYTHON = VENV / "bin" / "python"
LOCK = Path("requirements.lock")


def main() -> None:
    """Install, and say why; an error is a sentence."""
    try:
        leave_shared()
        why = reason()
        anew = bool(why) or not VENV.exists()
        changed = "requirements.lock or pyproject.toml changed; installing what differs"
        first = "installing requirements.lock into .venv, 1 to 3 minutes the first time"
        _say(why or (changed if READY.exists() else first))
        install(anew=anew)
    except TerraFlowError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit(130)
    print("Python packages: installed", flush=True)  # noqa: T201 - a command's output


def reason() -> str:
    """Tell why an environment that is there must be made anew; "" where it need not, or is none."""
    if not VENV.exists():
        return ""
    told = dict(line.split(" ", 1) for line in _read(READY).splitlines() if " " in line)
    found = re.search(r"^VIRTUAL_ENV=['\"]?(.+?)['\"]?$", _read(VENV / "bin" / "activate"), re.M)
    places = {Path(told["folder"])} if "folder" in told else set()
    places |= {Path(found[1]).parent} if found else set()
    if others := [place for place in places if not _is_here(place)]:
        return (
            f"this folder was copied, moved or renamed, and the environment in it is that of "
            f"{others[0]}; it gets one of its own"
        )
    machine = f"{os.uname().sysname} {os.uname().machine}"
    if told.get("machine", machine) != machine:
        return f"the environment was made for {told['machine']}, and this is {machine}; making it"
    if not os.access(PYTHON, os.X_OK):
        return "the environment has no Python that still exists; making it"
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    if (made := _read(VENV / ".python").strip()) != version:
        return f"the environment has Python {made or 'of nobody knows which version'}; making it"
    return ""


def install(*, anew: bool) -> None:
    """Install what requirements.lock names, and this checkout itself.

    Parameters
    ----------
    anew : bool
        Make the environment first, with the Python that runs this.

    Raises
    ------
    ServiceError
        A step failed; its own words have been printed.
    """
    READY.unlink(missing_ok=True)
    if anew:
        _run("make the environment", sys.executable, "-m", "venv", "--clear", str(VENV))
    words = ("install", "--quiet", "--disable-pip-version-check", "--require-hashes", "--no-deps")
    (VENV / "uv.lock").write_text(_lines_of("uv"))
    _run("install uv", str(PYTHON), "-m", "pip", *words, "-r", str(VENV / "uv.lock"))
    uv = (str(PYTHON), "-m", "uv", "pip")
    where = ("--quiet", "--python", str(PYTHON))
    _run("install its packages", *uv, "sync", *where, "--require-hashes", str(LOCK))
    own = ("--no-deps", "--no-build-isolation", "--editable", ".")
    _run("install this checkout", *uv, "install", *where, *own)
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    (VENV / ".python").write_text(version)
    _lead_airflow()


def leave_shared() -> None:
    """Leave the environment of another checkout that a link leads to: it is not ours to change."""
    if VENV.is_symlink() and (owner := _owner(VENV.resolve())) and not _is_here(owner):
        _say(f".venv was a link to the environment of {owner}; this checkout gets one of its own")
        VENV.unlink()


def _owner(venv: Path) -> Path | None:
    """Give the checkout that uses an environment where it lies, if there is one."""
    return venv.parent if (venv.parent / LOCK).exists() else None


def _is_here(folder: Path) -> bool:
    try:
        return folder.samefile(Path.cwd())
    except OSError:  # it is gone
        return False


def _lines_of(package: str) -> str:
    """Take the lines of one package from requirements.lock."""
    found = re.search(rf"^{package}==.*\n(?:[ #].*\n)*", LOCK.read_text(), re.M)
    if not found:
        raise ServiceError(f"{LOCK} does not name {package}; restore it with git.")
    return found[0]


def _run(what: str, *command: str) -> None:
    variables = shielded(host_environment(), None)
    variables.pop("PYTHONPATH", None)  # make's, by which this module was found
    code = subprocess.call(command, env=variables)
    if code:
        raise ServiceError(
            f"{Path.cwd() / VENV}: can't {what} (code {code}, the reason is above); see that an "
            "index of packages can be reached and the folder written, and run it again."
        )


def _lead_airflow() -> None:
    """Let plain `airflow` in the activated environment work on the stack of this checkout."""
    path = VENV / "bin" / "activate"
    lines = [line for line in path.read_text().splitlines() if "AIRFLOW_HOME=" not in line]
    home = Path.cwd() / "var" / "airflow"
    path.write_text("\n".join([*lines, f"export AIRFLOW_HOME={shlex.quote(str(home))}"]) + "\n")


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def _say(line: str) -> None:
    print(f"Python packages: {line}", flush=True)  # noqa: T201 - a command's output


if __name__ == "__main__":
    keep_streams()
    main()
