"""Errors a user can act on: what failed with its value, what was expected, what to do next."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

__all__ = [
    "ConfigError",
    "DataError",
    "DiskError",
    "NothingToDoError",
    "ServiceError",
    "StorageError",
    "TerraFlowError",
    "did_you_mean",
    "error_place",
    "first_line",
    "nearest",
]


class TerraFlowError(Exception):
    """An error whose message is meant for the user and is shown without a traceback."""


class ConfigError(TerraFlowError):
    """A configuration file, an environment variable or a command line option is wrong."""


class ServiceError(TerraFlowError):
    """A service can't start, died, or does not answer."""


class StorageError(TerraFlowError):
    """An object or a file can't be read or written.

    Attributes
    ----------
    filename : str or None
        The file, where it is a local one.
    """

    filename: str | None = None


class DiskError(StorageError):
    """A file system is full or read-only, or a file on it belongs to somebody else."""


class DataError(TerraFlowError):
    """The data do not allow what was asked for."""


class NothingToDoError(TerraFlowError):
    """There is nothing yet to work on; a task of a DAG is skipped by it, and does not fail."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Give the end of a message about an unknown word.

    Returns
    -------
    str
        " (did you mean ...?)" with the nearest known word, or "" where none is near.
    """
    matches = nearest(word, known)
    return f" (did you mean {matches[0]}?)" if matches else ""


def nearest(word: str, known: Iterable[str]) -> list[str]:
    """List up to three known words that are like one, the most alike first, in any case."""
    import difflib  # noqa: PLC0415 - a supervisor, which imports this module, needs it never

    folded = {name.lower(): name for name in known}
    close = difflib.get_close_matches(word.lower(), folded, n=3, cutoff=0.5)
    return [folded[name] for name in close]


def first_line(error: object) -> str:
    """Give the first line of an error's text, without a full stop, to be part of a sentence."""
    return (str(error).strip().splitlines() or [""])[0].rstrip(".")


def error_place(error: BaseException) -> str:
    """Tell where an error of the user's own code arose: " (features.py, line 12)", or ""."""
    import sysconfig  # noqa: PLC0415 - see did_you_mean
    import traceback  # noqa: PLC0415

    libraries = tuple(sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib"))
    platform = str(Path(__file__).parent)
    if isinstance(error, SyntaxError) and error.filename:
        return f" ({Path(error.filename).name}, line {error.lineno})"
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith((*libraries, platform, "<"))
    ]
    return f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
