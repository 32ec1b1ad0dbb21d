"""Delete the state of a checkout."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable
from pathlib import Path

from terraflow.console import say
from terraflow.errors import StorageError
from terraflow.settings import Settings
from terraflow.stack.databases.addresses import socket_folder
from terraflow.stack.lifecycle.work import alone

__all__ = ["reset"]


def reset(settings: Settings, confirm: Callable[[str], bool]) -> bool:
    """Delete all state, after asking.

    Parameters
    ----------
    confirm : callable
        Gets what will be lost; returns whether to go on.

    Raises
    ------
    ServiceError
        The stack runs, or a command works on its state.
    StorageError
        The folder can't be deleted.
    """
    if not any(path.exists() for path in (settings.var, settings.artifacts)):
        say("Nothing to delete.")
        return False
    with alone(settings):
        return _delete(settings, confirm)


def _delete(settings: Settings, confirm: Callable[[str], bool]) -> bool:
    folders = [path for path in (settings.var, settings.artifacts) if path.exists()]
    far = ", and what lies in the S3 store" if settings.store == "s3" else ""
    sizes = ", ".join(f"{path} ({_size_mb(path):.0f} MB)" for path in folders)
    if not confirm(
        f"This deletes {sizes}: all runs and models, the data in the store, DAG runs, logs and "
        f"generated secrets. Configuration, code and notebooks stay{far}."
    ):
        return False
    try:
        shutil.rmtree(socket_folder(settings), ignore_errors=True)
        for folder in reversed(folders):  # once the locks are gone, others may begin anew
            if folder.exists():  # it may lie in the one before
                _remove(folder, settings.run_dir)
    except OSError as error:
        why = f"{error.filename} can't be deleted: {error.strerror}"
        raise StorageError(f"{why}; delete it yourself.") from error
    return True


def _remove(folder: Path, locks: Path) -> None:
    """Delete a folder; what keeps others away comes last, and then they may begin anew."""
    target, last = folder.resolve(), locks.resolve()
    for path in target.iterdir():
        if path == last:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    try:
        if last.is_relative_to(target):
            shutil.rmtree(last)
        if folder.is_symlink():  # to a larger disk: the link stays, and what it leads to
            target.chmod(0o700)
        else:
            target.rmdir()
    except OSError as error:
        if error.errno != errno.ENOTEMPTY:  # by somebody who has begun
            raise


def _size_mb(folder: Path) -> float:
    return sum(p.lstat().st_size for p in folder.rglob("*") if p.is_file()) / 2**20
