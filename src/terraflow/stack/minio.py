"""Find MinIO's server binary, or build it once with Go.

Needs nothing beyond the standard library, so that `make` can begin to build it beside the
installation of the Python packages: `python -m terraflow.stack.minio --until FILE`. What is left
then, the service does before it starts: `python -m terraflow.stack.minio server ...`. Go keeps what
it has compiled, so that each goes on where the one before was.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from terraflow import config
from terraflow.console import keep_streams
from terraflow.errors import ConfigError, ServiceError
from terraflow.lock import Lock
from terraflow.process.child_processes import die_with_parent

__all__ = ["MODULE", "can_build", "ensure", "find", "is_reachable", "last_word"]

#: The newest version that the archived project's module has.
VERSION = "v0.0.0-20260212201848-7aac2a2c5b7c"
MODULE = f"github.com/minio/minio@{VERSION}"
REMEDIES = (
    "install a `minio` server binary on PATH (pixi does so: `pixi run up`), or install Go 1.24 or "
    "newer, with which TerraFlow builds it"
)
#: Seconds between two lines about a build; how long another process's is waited for.
TELL_S, BUILD_S = 15.0, 3600.0


def cached() -> Path:
    """Path of the binary in the user's cache, whether or not it is there."""
    return config.cache_dir() / f"minio-{VERSION.rsplit('-', 1)[1]}" / "minio"


def find() -> Path | None:
    """Path of the binary on PATH or in the user's cache, or None."""
    on_path = shutil.which("minio")
    if on_path:
        return Path(on_path)
    return cached() if cached().exists() else None


def can_build() -> bool:
    """Tell whether Go is there."""
    return shutil.which("go") is not None


def is_reachable() -> bool:
    """Tell whether Go gets the module's description, from its cache or the network."""
    try:
        done = subprocess.run(
            ["go", "list", "-m", MODULE], capture_output=True, timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def ensure(say: Callable[[str], None], *, until: Callable[[], bool] = lambda: False) -> Path | None:
    """Find the binary, or build it; wait where another process is building it.

    Parameters
    ----------
    say : callable
        Gets a line for the user when something takes long.
    until : callable
        Tells when to stop a build before its end.

    Returns
    -------
    Path or None
        None where the build was stopped.

    Raises
    ------
    ServiceError
        There is neither a binary nor Go, or the build failed.
    """
    if binary := find():
        return binary
    if not can_build():
        raise ServiceError(f'store = "minio" needs a MinIO server and there is none; {REMEDIES}.')
    target = cached()
    target.parent.mkdir(parents=True, exist_ok=True)
    lock = Lock(target.parent / "build.lock")
    lock.wait("the build of MinIO", BUILD_S, say)
    try:
        return find() or _build(target, say, until)
    finally:
        lock.release()


def last_word(log_dir: Path) -> str:
    """Give the last line that the service printed, which tells how far a build is."""
    log = log_dir / "minio.log"
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    return lines[-1] if lines else "it is built first"


def _build(target: Path, say: Callable[[str], None], until: Callable[[], bool]) -> Path | None:
    log = target.parent / "build.log"
    say(f"MinIO: building {MODULE} with Go; about 5 minutes on 2 cores, once (log: {log})")
    with tempfile.TemporaryDirectory(dir=target.parent) as folder, log.open("w") as output:
        go = subprocess.Popen(
            ["go", "install", "-v", "-trimpath", "-ldflags=-s -w", MODULE],
            env=config.host_environment() | {"GOBIN": folder, "CGO_ENABLED": "0"},
            stdout=output,
            stderr=subprocess.STDOUT,
            preexec_fn=die_with_parent,
        )
        if not _follow(go, log, say, until):
            return None
        if go.returncode:
            last = log.read_text().strip().splitlines()[-3:]
            raise ServiceError(
                f"Building MinIO failed with code {go.returncode}: {' | '.join(last)}; see {log}, "
                f"or {REMEDIES}."
            )
        (Path(folder) / "minio").replace(target)
    say("MinIO: built")
    return target


def _follow(
    go: subprocess.Popen[bytes], log: Path, say: Callable[[str], None], until: Callable[[], bool]
) -> bool:
    """Tell how far a build is until it ends; stop it, and return False, when it is time."""
    began = told = time.monotonic()
    while go.poll() is None:
        if until():
            go.terminate()
            go.wait()
            return False
        if time.monotonic() - told >= TELL_S:
            told = time.monotonic()
            lines = log.read_text(errors="replace").splitlines()
            fetched = sum(line.startswith("go: downloading") for line in lines)
            say(
                f"MinIO: {told - began:.0f} s, {fetched} modules fetched, "
                f"{len(lines) - fetched} packages compiled"
            )
        time.sleep(0.2)
    return True


def main(arguments: list[str]) -> int:
    """Build ahead of the setup, or become the server once there is one.

    Parameters
    ----------
    arguments : list of str
        "server" and MinIO's own words, or "--until" and a file whose change ends the build, or
        nothing. What fails without "server", the service reports.
    """
    if arguments[:1] == ["server"]:
        binary = ensure(_print)
        os.execv(str(binary), ["minio", *arguments])
    layers = config.file_layers("terraflow.toml")
    store = config.host_environment().get("TERRAFLOW_STORE")
    for layer in reversed(layers):  # the highest precedence first
        store = store or layer.values.get("store")
    if store in (None, "minio") and (find() or can_build()):
        mark = Path(arguments[1]) if arguments else None
        before = _changed(mark)
        ensure(_print, until=lambda: _changed(mark) not in (None, before))
    return 0


def _changed(path: Path | None) -> float | None:
    return path.stat().st_mtime if path and path.exists() else None


def _print(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - a command's output


if __name__ == "__main__":
    keep_streams()
    try:
        sys.exit(main(sys.argv[1:]))
    except (ConfigError, ServiceError) as problem:
        sys.exit(str(problem))
    except KeyboardInterrupt:
        sys.exit(130)
