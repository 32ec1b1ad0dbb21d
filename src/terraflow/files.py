"""Small files, read with a sentence for what is wrong in them; the disks on which files lie."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from terraflow.errors import ConfigError, StorageError

__all__ = ["Disk", "check_room", "make_dir", "read_toml", "size_text", "write_private"]


@dataclass(frozen=True)
class Disk:
    """A file system.

    Attributes
    ----------
    mount : Path
        Where it is mounted.
    free : int
        Bytes that this user may still write.
    free_files : int or None
        How many files may still be made; None where there is no limit.
    """

    mount: Path
    free: int
    free_files: int | None

    @classmethod
    def of(cls, path: Path) -> Disk:
        """Find the file system of a path that need not be there yet."""
        while not os.path.lexists(path) and path != path.parent:
            path = path.parent
        mount = path = path.resolve()
        while not mount.is_mount() and mount != mount.parent:
            mount = mount.parent
        told = os.statvfs(path)
        return cls(mount, told.f_bavail * told.f_frsize, told.f_favail if told.f_files else None)


def size_text(size: float) -> str:
    """Write a number of bytes for people, such as "2.6 GB"; units are powers of 1000."""
    units = ["bytes", "kB", "MB", "GB", "TB", "PB", "EB"]
    while size >= 999.5 and len(units) > 1:
        size, units = size / 1000, units[1:]
    return f"{size:.3g} {units[0]}"


def check_room(folder: Path, size: int, what: str, remedy: str) -> None:
    """See that a folder's file system has room, before long work.

    Parameters
    ----------
    size : int
        Bytes.
    what : str
        What is so large, as the beginning of the sentence.
    remedy : str
        What makes it smaller.

    Raises
    ------
    StorageError
        It has not.
    """
    disk = Disk.of(folder)
    if size > disk.free:
        raise StorageError(
            f"{what} needs {size_text(size)}, and the file system at {disk.mount} has "
            f"{size_text(disk.free)} free; {remedy}, or free space there."
        )


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
        raise ConfigError(f"{path} can't be read: {error.strerror}; check its mode.") from error
