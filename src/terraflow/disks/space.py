"""What is free on the file system of a path."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from terraflow.errors import DiskError

__all__ = ["Disk", "check_room", "size_text"]

#: With less a disk counts as full.
FULL_BYTES = 1_000_000


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
    read_only : bool
    """

    mount: Path
    free: int
    free_files: int | None = None
    read_only: bool = False

    @classmethod
    def of(cls, path: Path) -> Disk:
        """Find the file system of a path that need not be there yet."""
        while not os.path.lexists(path) and path != path.parent:
            path = path.parent
        mount = path = path.resolve()
        while not mount.is_mount() and mount != mount.parent:
            mount = mount.parent
        told = os.statvfs(path)
        return cls(
            mount,
            told.f_bavail * told.f_frsize,
            told.f_favail if told.f_files else None,
            read_only=bool(told.f_flag & os.ST_RDONLY),
        )

    @property
    def room(self) -> int:
        """Bytes that may still be written; 0 where no file may be made."""
        return 0 if self.free_files == 0 else self.free

    @property
    def is_full(self) -> bool:
        """Whether next to nothing can be written any more."""
        return self.room < FULL_BYTES

    @property
    def room_text(self) -> str:
        """What is free, for people."""
        text = f"{size_text(self.free)} free"
        return f"{text}, but no file more may be made" if self.free_files == 0 else text


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
    DiskError
        It has not.
    """
    disk = Disk.of(folder)
    if size > disk.free:
        raise DiskError(
            f"{what} needs {size_text(size)}, and the file system at {disk.mount} has "
            f"{size_text(disk.free)} free; {remedy}, or free space there."
        )
