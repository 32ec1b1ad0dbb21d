"""Errors that come from a disk, told in a sentence, whatever library has raised them."""

from __future__ import annotations

import errno
import os
import pwd
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from terraflow.config import host_environment
from terraflow.disks.space import Disk
from terraflow.errors import (
    DiskError,
    ServiceError,
    StorageError,
    TerraFlowError,
    first_line,
)

__all__ = ["disk_errors", "disk_problem", "little_room"]

#: How GDAL, SQLite, obstore, MinIO and tempfile say in words what they give no number for.
FULL = (
    *("no space left", "storagefull", "minimum free drive", "quota exceeded", "disk is full"),
    "no usable temporary directory",
)
READ_ONLY = ("read-only file system", "readonly database")
#: How Python, pyarrow and libraries in Rust write the system's number of an error.
NUMBER = re.compile(r"\[errno (\d+)\]|\(os error (\d+)\)", re.IGNORECASE)
#: With less a disk is worth a word where a service or the store fails; and where an error says in
#: words that it is full, of which MinIO has left some per cent free.
LITTLE_BYTES, NEARLY_FULL_BYTES = 50_000_000, 2_000_000_000
#: What else is wrong with a path, and what to do.
UNFIT = {
    errno.EACCES: "change its owner or mode",
    errno.EPERM: "change its owner or mode",
    errno.EISDIR: "it is a folder where a file is expected: move it away",
    errno.ENOTDIR: "a part of it is a file where a folder is expected: move that away",
    errno.EEXIST: "a file is where a folder is expected: move it away",
}


@contextmanager
def disk_errors(find_folders: Callable[[], Mapping[str, Path]]) -> Iterator[None]:
    """Turn errors that come from a disk into `DiskError`, but that of a service stays one.

    Parameters
    ----------
    find_folders : callable
        Gives `Settings.folders`, once there is an error.

    Raises
    ------
    DiskError, ServiceError
        With the text of `disk_problem`.
    """
    try:
        yield
    except DiskError:
        raise
    except Exception as error:
        if problem := disk_problem(error, find_folders()):
            kind = ServiceError if isinstance(error, ServiceError) else DiskError
            raise kind(problem) from error
        raise


def disk_problem(error: BaseException, folders: Mapping[str, Path]) -> str | None:
    """Tell what is wrong with a disk where an error, or a cause of it, comes from that.

    Parameters
    ----------
    folders : mapping
        Variable of the shell to the folder that it names, where TerraFlow writes.

    Returns
    -------
    str or None
        A sentence for the user; None where nothing is wrong with a disk, or where the error's own
        sentence says it.
    """
    places = {**folders, "TMPDIR": Path(host_environment().get("TMPDIR") or "/tmp")}  # noqa: S108
    chain = list(_causes(error))
    by_words = _says(chain, READ_ONLY) and _read_only_text(None, places)
    return _by_number(chain, places) or by_words or _by_looking(error, chain, places)


def little_room(folders: Mapping[str, Path]) -> str | None:
    """Tell of the fullest of the folders' file systems, in a sentence, if little is free there."""
    disk = Disk.of(_fullest(folders))
    if disk.room >= LITTLE_BYTES:
        return None
    return f"The file system at {disk.mount} has only {disk.room_text}: make room."


def _by_number(chain: list[BaseException], places: Mapping[str, Path]) -> str | None:
    """Tell what the system's numbers of the errors say; of the last one whatever it is."""
    path = next(filter(None, map(_path_of, chain)), None)
    for cause in chain:
        number = _number_of(cause)
        if number in (errno.ENOSPC, errno.EDQUOT):
            return _full_text(cause, path, places)
        if number == errno.EROFS and (text := _read_only_text(path, places)):
            return text
    number, path, error = _number_of(chain[0]), _path_of(chain[0]), chain[0]
    if not isinstance(error, OSError) or number not in UNFIT:
        return None
    if path is None:
        return f"{first_line(error)}; {UNFIT[number]}."
    name = _variable_of(path, places)
    elsewhere = f", or set {name} to a folder of yours" if name else ""
    return f"{path} can't be used: {error.strerror}{_owner_text(path)}; {UNFIT[number]}{elsewhere}."


def _by_looking(
    error: BaseException, chain: list[BaseException], places: Mapping[str, Path]
) -> str | None:
    """Tell what is wrong with a disk where the error does not say so, or in words only."""
    disk = Disk.of(_fullest(places))
    if _says(chain, FULL):
        return _full_text(error, None, places) if disk.room < NEARLY_FULL_BYTES else None
    told = isinstance(error, ServiceError | StorageError)
    if isinstance(error, OSError):
        known = bool(error.errno)
    else:
        known = isinstance(error, TerraFlowError) or type(error).__module__ == "builtins"
    if known and not told:  # mistakes of the configuration, of data or of ours come from no disk
        return None
    little = little_room(places) if told else None
    note = f"{error} {little}" if little else None
    if isinstance(error, ServiceError):  # of which the disk need not be the cause
        return note
    unfit = _unfit_text(places["TERRAFLOW_VAR"], places)
    return unfit or (_full_text(error, None, places) if disk.is_full else note)


def _unfit_text(var: Path, places: Mapping[str, Path]) -> str | None:
    """Tell why nothing can be written to the folder of all state, whatever room there is."""
    if Disk.of(var).read_only:
        return _read_only_text(var, places)
    if not var.exists():
        return None
    if not var.is_dir():
        return f"{var} is no folder; move it away, or set TERRAFLOW_VAR to another."
    effective = os.access in os.supports_effective_ids
    if os.access(var, os.W_OK | os.X_OK, effective_ids=effective):
        return None
    return (
        f"{var} can't be written{_owner_text(var)}; change its owner or mode, or set TERRAFLOW_VAR "
        "to a folder you may write to."
    )


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        cause = cause.__cause__ or cause.__context__


def _says(chain: list[BaseException], signs: tuple[str, ...]) -> bool:
    return any(sign in str(cause).lower() for cause in chain for sign in signs)


def _number_of(error: BaseException) -> int | None:
    if isinstance(error, OSError) and error.errno:
        return error.errno
    found = NUMBER.search(str(error))
    return int(found[1] or found[2]) if found else None


def _path_of(error: BaseException) -> Path | None:
    name = getattr(error, "filename2", None) or getattr(error, "filename", None)
    return Path(os.fsdecode(name)).absolute() if isinstance(name, str | bytes) else None


def _fullest(places: Mapping[str, Path]) -> Path:
    return min(places.values(), key=lambda folder: Disk.of(folder).room)


def _variable_of(path: Path, places: Mapping[str, Path]) -> str:
    """Name the variable of the innermost folder that holds a path, or ""."""
    holding = [name for name, folder in places.items() if path.is_relative_to(folder)]
    return max(holding, key=lambda name: len(places[name].parts), default="")


def _full_text(error: BaseException, path: Path | None, places: Mapping[str, Path]) -> str:
    why = getattr(error, "strerror", None) or first_line(error).partition(";")[0].strip(": ")
    known, path = path is not None, path or _fullest(places)
    if not known and Disk.of(path).room > NEARLY_FULL_BYTES:
        return (
            f"A file system is full, and it is none of those of {', '.join(places)}: {why}; free "
            "space where this command writes, and repeat it."
        )
    disk, name = Disk.of(path), _variable_of(path, places)
    remedy = "delete files there" if disk.free_files == 0 else "free space there"
    elsewhere = f", or set {name} to a folder on another" if name else ""
    return (
        f"The file system at {disk.mount} is full ({disk.room_text}), on which {path} lies: {why}; "
        f"{remedy}{elsewhere}, and repeat the command."
    )


def _read_only_text(path: Path | None, places: Mapping[str, Path]) -> str | None:
    """Tell of the path, or of the first folder on a read-only file system."""
    path = path or next((p for p in places.values() if Disk.of(p).read_only), None)
    if path is None:
        return None
    name = _variable_of(path, places)
    remedy = f"set {name} to" if name else "name"
    return (
        f"{path} can't be written, since the file system at {Disk.of(path).mount} is read-only; "
        f"{remedy} a folder elsewhere."
    )


def _owner_text(path: Path) -> str:
    """Tell whose a path is, or what is above it, where it is not this user's."""
    while not os.path.lexists(path) and path != path.parent:
        path = path.parent
    uid = path.lstat().st_uid
    if uid == os.geteuid():
        return ""
    try:
        return f", {path} belongs to {pwd.getpwuid(uid).pw_name}"
    except KeyError:
        return f", {path} belongs to user {uid}"
