"""PostgreSQL's own programs, which refuse to run as root: then as the owner of their data.

`python -m terraflow.process.postgres_server PROGRAM -D DATA -k SOCKETS ...` becomes that program.
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
    locks = [data / "postmaster.pid"]
    if "-k" in arguments:
        locks += Path(arguments[arguments.index("-k") + 1]).glob(".s.PGSQL.*.lock")
    for lock in locks:
        _forget_dead_server(lock, data)
    if os.geteuid() == 0:
        owner = data.stat()
        os.setgroups([])
        os.setgid(owner.st_gid)
        os.setuid(owner.st_uid)
        die_with_parent()  # anew, since another user's process is asked
    os.umask(0o077)
    os.chdir("/")  # which every user may enter
    os.execv(arguments[0], arguments)


def _forget_dead_server(lock: Path, data: Path) -> None:
    """Let the lock of a server that was killed, or of another folder, not keep this one waiting.

    PostgreSQL takes the process in it for a living server, though it may be one that nobody has
    waited for, or another program's that got the same id. With the id of this process it goes on,
    and sees by the rest of the lock whether something of the old server still lives. A lock that
    came along when the folder was copied names the folder of the other server.
    """
    with suppress(OSError, ValueError, psutil.Error):
        pid, *rest = lock.read_text().splitlines(keepends=True)
        if rest and (of := Path(rest[0].strip())).exists() and not of.samefile(data):
            lock.unlink()
            return
        process = psutil.Process(int(pid))
        if process.status() == psutil.STATUS_ZOMBIE or "postgres" not in process.name():
            lock.write_text("".join([f"{os.getpid()}\n", *rest]))


if __name__ == "__main__":
    main(sys.argv[1:])
