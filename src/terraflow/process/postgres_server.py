"""PostgreSQL's own programs, which refuse to run as root: then as the owner of their data.

`python -m terraflow.process.postgres_server PROGRAM -D DATA ...` becomes that program.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

import psutil

from terraflow.process.child_processes import die_with_parent

__all__ = ["main"]


def main(arguments: list[str]) -> NoReturn:
    """Become PROGRAM, with its further words."""
    data = Path(arguments[arguments.index("-D") + 1])
    _forget_dead_server(data / "postmaster.pid")
    if os.geteuid() == 0:
        owner = data.stat()
        os.setgroups([])
        os.setgid(owner.st_gid)
        os.setuid(owner.st_uid)
        die_with_parent()  # anew, since another user's process is asked
    os.umask(0o077)
    os.chdir("/")  # which every user may enter
    os.execv(arguments[0], arguments)


def _forget_dead_server(lock: Path) -> None:
    """Remove the lock of a killed server whose process id another program has got since.

    PostgreSQL would take that for itself and refuse to start. A server that lives is known by its
    name, and by the supervisor's own lock.
    """
    with suppress(OSError, ValueError, psutil.Error):
        pid = int(lock.read_text().splitlines()[0])
        if psutil.pid_exists(pid) and "postgres" not in psutil.Process(pid).name():
            lock.unlink()


if __name__ == "__main__":
    main(sys.argv[1:])
