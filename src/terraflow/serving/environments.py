"""Environments of models: made from what was logged with them, and shared by those alike."""

from __future__ import annotations

import hashlib
import shutil
import sys
import tempfile
import time
import tomllib
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from packaging.markers import Marker
from packaging.requirements import InvalidRequirement, Requirement

from terraflow.console import command, say
from terraflow.errors import ConfigError, ServiceError
from terraflow.files import list_dir, make_dir
from terraflow.lock import Lock
from terraflow.settings import Settings
from terraflow.stack.model_server import ServedModel, recorded_model_server
from terraflow.tracking import server_wheel
from terraflow.tracking.model_lock import LOCKS, compile_lock
from terraflow.tracking.uv import run_uv, uv_reason

__all__ = ["Environment", "differences", "find_environments", "make_environment", "prune"]

#: The newest that are kept; one that a server runs in is kept beside them.
KEPT = 3
MIN_PYTHON = (3, 11)
#: How long another process may take to make the same environment.
MAKE_S = 1800.0
#: In an environment: touched when a server starts in it.
USED = "used"


@dataclass(frozen=True)
class Environment:
    """An environment in var/envs.

    Attributes
    ----------
    folder : Path
        Its name is the digest of what it is made of.
    used_at : float
        Seconds since the epoch.
    in_use : bool
        A server runs in it.
    """

    folder: Path
    used_at: float
    in_use: bool

    @property
    def id(self) -> str:
        """Name of the folder."""
        return self.folder.name

    @property
    def packages(self) -> int:
        """Number of installed packages."""
        return _packages(self.folder)

    @property
    def size_mb(self) -> float:
        """Of its files; those that uv's cache has too take their room once."""
        files = [path for path in self.folder.rglob("*") if not path.is_symlink()]
        return sum(path.stat().st_size for path in files) / 2**20

    def cells(self) -> tuple[str, ...]:
        """Write it as a row of a table."""
        used = "now" if self.in_use else f"{datetime.fromtimestamp(self.used_at):%Y-%m-%d %H:%M}"
        return self.id, used, str(self.packages), f"{self.size_mb:.0f}", str(self.folder)


def differences(model: Path) -> list[str]:
    """List in what a model's environment differs from this one, the most telling first.

    Parameters
    ----------
    model : Path
        Folder of a logged model. Its lock tells; without one the versions in its
        requirements.txt.
    """
    wanted = _locked(model) or _required(model)
    found = []
    if (python := _python(model)) and python != _here():
        found.append(f"Python {python}, here {_here()}")
    for name, wanted_version in wanted.items():
        try:
            here = version(name)
        except PackageNotFoundError:
            here = "not there"
        if here != wanted_version:
            found.append(f"{name} {wanted_version}, here {here}")
    return found


def make_environment(settings: Settings, model: Path, *, maps: bool = False) -> Path:
    """Make the environment of a model, unless it is there.

    Whoever makes the same one meanwhile is waited for. It has its name once it is complete.

    Parameters
    ----------
    model : Path
        Folder of a logged model.
    maps : bool
        With what a map needs.

    Returns
    -------
    Path
        Its interpreter.

    Raises
    ------
    ConfigError
        It needs a Python that is not here.
    ServiceError
        Its packages can't be had.
    """
    python = _python(model) or _here()
    if tuple(map(int, python.split("."))) < MIN_PYTHON:
        raise ConfigError(
            f"The model was logged with Python {python}, and the model server needs "
            f"{'.'.join(map(str, MIN_PYTHON))} or newer; serve it by "
            f"`{command('serve', '--isolated', '--plain')}`, or train it anew."
        )
    envs = make_dir(settings.var / "envs")
    with tempfile.TemporaryDirectory(dir=envs, prefix=".") as name:
        temporary = Path(name)
        lock = model / LOCKS[maps]
        if not lock.exists():
            say(f"The model has no {lock.name}; versions are looked up by its requirements")
            lock = temporary / lock.name
            lock.write_text(_lock_anew(model, python, maps=maps))
        wheels = sorted(model.glob("terraflow_serving-*.whl"))
        wheel = wheels[-1] if wheels else server_wheel.pack(temporary)
        digest = hashlib.sha256(lock.read_bytes() + wheel.read_bytes() + python.encode())
        folder = envs / digest.hexdigest()[:12]
        made = Lock(envs / f"{folder.name}.lock")
        made.wait("the making of the model's environment", MAKE_S, say)
        try:
            if not folder.exists():
                _fill(temporary / "env", python, lock, wheel)
                (temporary / "env").rename(folder)
        finally:
            made.release()
        (folder / USED).touch()
    prune(settings, keep={folder})
    return folder / "bin" / "python"


def find_environments(settings: Settings) -> list[Environment]:
    """List the environments that are here, the last used first."""
    served = ServedModel.read(settings) if recorded_model_server(settings) else None
    found = []
    for folder in list_dir(settings.var / "envs"):
        if folder.name.startswith(".") or not folder.is_dir():
            continue
        used = folder / USED
        used_at = used.stat().st_mtime if used.exists() else 0.0
        in_use = bool(served and served.environment == folder.name)
        found.append(Environment(folder, used_at, in_use))
    return sorted(found, key=lambda environment: environment.used_at, reverse=True)


def prune(
    settings: Settings, *, keep: Collection[Path] = (), kept: int = KEPT
) -> list[Environment]:
    """Remove all environments but the last used ones, and those that are used now.

    Returns
    -------
    list of Environment
        Those that were removed.
    """
    removed = []
    for environment in find_environments(settings)[kept:]:
        lock = Lock(environment.folder.with_suffix(".lock"))
        if environment.in_use or environment.folder in keep or not lock.acquire():
            continue
        shutil.rmtree(environment.folder, ignore_errors=True)
        lock.release()  # its file stays: who waits for it holds the same one
        removed.append(environment)
    return removed


def _fill(folder: Path, python: str, lock: Path, wheel: Path) -> None:
    began = time.monotonic()
    say(f"Making the model's environment, with Python {python}")
    # uv may look for this very interpreter in vain, where no PATH names it
    which = sys.executable if python == _here() else python
    done = run_uv("venv", "--relocatable", "--no-python-downloads", "--python", which, str(folder))
    if done.returncode:
        raise ConfigError(
            f"The model was logged with Python {python}, which is not here; install it, or serve "
            f"the model in the stack's environment by `{command('serve', '--here')}`."
        )
    where = ["--python", str(folder / "bin" / "python")]
    done = run_uv("pip", "sync", *where, str(lock))
    if not done.returncode:
        done = run_uv("pip", "install", "--no-deps", *where, str(wheel))
    if done.returncode:
        raise ServiceError(
            f"The model's environment can't be made: {uv_reason(done)}; see that an index of "
            "packages can be reached, and try again."
        )
    say(f"Made it: {_packages(folder)} packages in {time.monotonic() - began:.1f} s")


def _packages(folder: Path) -> int:
    return len(list(folder.glob("lib/python*/site-packages/*.dist-info")))


def _lock_anew(model: Path, python: str, *, maps: bool) -> str:
    path = model / "requirements.txt"
    lines = path.read_text().splitlines() if path.exists() else []
    wanted = [line for line in lines if (r := _parse(line)) and r.name != "mlflow"]
    return compile_lock([*wanted, *server_wheel.requirements(maps=maps)], python=python)


def _locked(model: Path) -> dict[str, str]:
    """Versions in a model's lock, of the packages that this kind of machine needs."""
    path = model / LOCKS[False]
    if not path.exists():
        return {}
    packages = tomllib.loads(path.read_text())["packages"]
    return {
        str(p["name"]): str(p["version"])
        for p in packages
        if "marker" not in p or Marker(p["marker"]).evaluate()
    }


def _required(model: Path) -> dict[str, str]:
    """Exact versions in a model's requirements.txt."""
    path = model / "requirements.txt"
    wanted = {}
    for line in path.read_text().splitlines() if path.exists() else []:
        found = _parse(line)
        exact = [s.version for s in found.specifier if s.operator == "=="] if found else []
        if found and exact and (not found.marker or found.marker.evaluate()):
            wanted[found.name] = exact[0]
    return wanted


def _parse(line: str) -> Requirement | None:
    try:
        return Requirement(line.partition(" #")[0].strip())
    except InvalidRequirement:  # a comment, an option, a path
        return None


def _python(model: Path) -> str:
    """Minor version of the Python that logged the model, as 3.11, or ""."""
    path = model / "python_env.yaml"
    lines = path.read_text().splitlines() if path.exists() else []
    found = [line.partition(":")[2].strip(" \"'") for line in lines if line.startswith("python:")]
    return ".".join(found[0].split(".")[:2]) if found else ""


def _here() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}"
