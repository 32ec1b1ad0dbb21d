"""Small files: read with a sentence for what is wrong in them, written whole or not at all."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from terraflow.errors import ConfigError, StorageError

__all__ = [
    "close_folder",
    "expand_home",
    "give_users_mode",
    "is_there",
    "keep_private",
    "list_dir",
    "make_dir",
    "read_toml",
    "rotate",
    "write_private",
]

#: The umask of before `keep_private`.
_users_umask: dict[str, int] = {}


def make_dir(path: Path) -> Path:
    """Make a folder that only its owner enters.

    Raises
    ------
    StorageError
        The folder can't be made or written to.
    """
    try:
        for again in (True, True, False):
            try:
                _make(path)
                break
            except FileNotFoundError:  # a reset has deleted one of them meanwhile
                if not again:
                    raise
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise StorageError(
            f"{path} can't be written: {error.strerror}; change its owner or mode, or set "
            "TERRAFLOW_VAR to a folder you may write to."
        ) from error
    return path


def _make(path: Path) -> None:
    for folder in (*reversed(path.parents), path):  # `parents=True` goes by the umask alone
        if not folder.exists():
            folder.mkdir(mode=0o700, exist_ok=True)
    path.mkdir(exist_ok=True)  # which tells where it is no folder


def list_dir(path: Path) -> list[Path]:
    """List a folder by name; empty where there is none.

    Raises
    ------
    PermissionError
        It may not be read, for which `Path.glob` gives nothing.
    """
    try:
        return sorted(path.iterdir())
    except FileNotFoundError:
        return []


def keep_private() -> None:
    """Let what this process and its children make be its owner's alone, whatever the umask was."""
    before = os.umask(0o077)
    _users_umask.setdefault("umask", before)


def give_users_mode(path: Path) -> None:
    """Give a file that lies where the user said the mode of the user's other files."""
    if _users_umask:
        path.chmod(0o666 & ~_users_umask["umask"])


def close_folder(path: Path, keep: int = 0) -> None:
    """Take away what others may do in a folder, as one of an older release may be open to all.

    Parameters
    ----------
    keep : int
        Bits of the mode that stay.
    """
    mode = path.stat().st_mode & 0o777
    if mode & 0o077 & ~keep:
        path.chmod(mode & (0o700 | keep))


def write_private(path: Path, text: str, *, once: bool = False) -> None:
    """Write a file of mode 0600; it has its name only once it is complete.

    Parameters
    ----------
    once : bool
        Leave one that is there, as another process may have written it at this moment.

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
            if once:
                _give_name(name, path)
            else:
                os.replace(name, path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise StorageError(
            f"{path} can't be written: {error.strerror}; free disk space or change its mode."
        ) from error


def _give_name(name: str, path: Path) -> None:
    """Move a file to a name that none has."""
    try:
        os.link(name, path)
    except FileExistsError:
        pass
    except OSError:  # of a file system without links
        return os.replace(name, path)
    os.unlink(name)


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


def expand_home(path: str | Path) -> Path:
    """Write out ~ and ~NAME at the start of a path, as shells do.

    Raises
    ------
    ConfigError
        There is no such user, or the path is empty or none.
    """
    if not str(path).strip() or "\0" in str(path):
        raise ConfigError(f"{str(path)!r} is no path; name a file or folder.")
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise ConfigError(f"{path} is in the home folder of nobody; write it out.") from error
