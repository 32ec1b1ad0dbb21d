"""Small files written whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from terraflow.errors import StorageError

__all__ = ["make_dir", "write_private"]


def make_dir(path: Path) -> Path:
    """Make a folder that only its owner enters.

    Raises
    ------
    StorageError
        The folder can't be made or written to.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise StorageError(
            f"{path} can't be written: {error.strerror}; change its owner or mode, or set "
            "TERRAFLOW_VAR to a folder you may write to."
        ) from error
    return path


def write_private(path: Path, text: str) -> None:
    """Write a file of mode 0600; it has its name only once it is complete.

    Raises
    ------
    StorageError
        The file can't be written.
    """
    make_dir(path.parent)
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")  # mode 0600
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.replace(name, path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise StorageError(
            f"{path} can't be written: {error.strerror}; free disk space or change its mode."
        ) from error
