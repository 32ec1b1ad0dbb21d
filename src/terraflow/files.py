"""Small files: read with a sentence for what is wrong in them, written whole or not at all."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from terraflow.errors import ConfigError, StorageError

__all__ = ["is_there", "make_dir", "read_toml", "rotate", "write_private"]


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


def is_there(path: Path) -> bool:
    """Tell whether there is a file, also one that can't be looked at: whoever reads it says why."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        pass
    return True


def rotate(log: Path, most: int) -> None:
    """Give a log of more bytes the name NAME.1, in place of the one before: it begins anew."""
    with suppress(FileNotFoundError):
        if log.stat().st_size > most:
            log.replace(log.with_name(f"{log.name}.1"))


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises
    ------
    ConfigError
        The file is missing, unreadable or no TOML.
    """
    import tomllib  # noqa: PLC0415 - a supervisor, which imports this module, reads none

    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except FileNotFoundError as error:
        raise ConfigError(
            f"Configuration file {path} does not exist; name an existing TOML file."
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}; correct that line.") from error
    except OSError as error:
        raise ConfigError(
            f"{path} can't be read: {error.strerror}; put a file there that you may read."
        ) from error
