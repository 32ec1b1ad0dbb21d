"""Find MinIO's server binary, or build it once with Go.

Needs nothing beyond the standard library, so that `make` can build it beside the installation of
the Python packages: `python -m terraflow.stack.minio`.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from terraflow import config
from terraflow.errors import ConfigError, ServiceError
from terraflow.lock import Lock
from terraflow.process.child_processes import die_with_parent

__all__ = ["MODULE", "can_build", "ensure", "find"]

#: The newest version that the archived project's module has.
VERSION = "v0.0.0-20260212201848-7aac2a2c5b7c"
MODULE = f"github.com/minio/minio@{VERSION}"
REMEDIES = (
    "install a `minio` server binary on PATH (pixi does so: `pixi run up`), or install Go 1.24 or "
    "newer, with which TerraFlow builds it"
)


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


def ensure(say: Callable[[str], None]) -> Path:
    """Find the binary, or build it; wait where another process is building it.

    Parameters
    ----------
    say : callable
        Gets a line for the user when something takes long.

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
    if not lock.acquire():
        say(f"MinIO: waiting for the build that process {lock.holder()} is running")
        lock.wait()
    try:
        return find() or _build(target, say)
    finally:
        lock.release()


def _build(target: Path, say: Callable[[str], None]) -> Path:
    log = target.parent / "build.log"
    say(f"MinIO: building {MODULE} with Go; about 5 minutes on 2 cores, once (log: {log})")
    with tempfile.TemporaryDirectory(dir=target.parent) as folder, log.open("w") as output:
        environment = config.host_environment() | {"GOBIN": folder, "CGO_ENABLED": "0"}
        code = subprocess.call(
            ["go", "install", "-trimpath", "-ldflags=-s -w", MODULE],
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            preexec_fn=die_with_parent,
        )
        if code:
            last = log.read_text().strip().splitlines()[-3:]
            raise ServiceError(
                f"Building MinIO failed with code {code}: {' | '.join(last)}; see {log}, or "
                f"{REMEDIES}."
            )
        (Path(folder) / "minio").replace(target)
    say("MinIO: built")
    return target


def main() -> int:
    """Build ahead of the setup, if it will want MinIO; whatever fails here, setup reports."""
    layers = config.file_layers("terraflow.toml")
    store = config.host_environment().get("TERRAFLOW_STORE")
    for layer in reversed(layers):  # the highest precedence first
        store = store or layer.values.get("store")
    if store in (None, "minio") and (find() or can_build()):
        ensure(lambda line: print(line, flush=True))  # noqa: T201 - a command's output
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (ConfigError, ServiceError) as problem:
        sys.exit(str(problem))
    except KeyboardInterrupt:
        sys.exit(130)
