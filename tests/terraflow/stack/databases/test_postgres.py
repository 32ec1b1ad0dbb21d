from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError

from harness import open_folder, wait_for
from terraflow.errors import ServiceError
from terraflow.probes import answers
from terraflow.settings import Settings
from terraflow.stack.databases import postgres
from terraflow.stack.databases.addresses import address, folder, probe, socket_folder
from terraflow.stack.databases.server import connect
from terraflow.stack.environment import environment

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root runs it as another user")


def program(folder: Path, version: str) -> Path:
    """Make programs that only tell a version."""
    folder.mkdir()
    for name in ("postgres", "initdb"):
        (folder / name).write_text(f"#!/bin/sh\necho 'postgres (PostgreSQL) {version}'\n")
        (folder / name).chmod(0o755)
    return folder / "postgres"


def test_candidates_begin_on_the_path_and_have_initdb(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = program(tmp_path / "bin", "17.1")
    monkeypatch.setenv("PATH", str(first.parent))
    assert postgres.candidates()[0] == first
    first.with_name("initdb").unlink()
    assert first not in postgres.candidates()


def test_find_takes_the_version_that_made_the_files_or_else_the_first_that_is_new_enough(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new, newer = (program(tmp_path / v, f"{v}.2") for v in ("13", "16", "18"))
    monkeypatch.setattr(postgres, "candidates", lambda: [old, new, newer])
    assert postgres.find(settings) == new
    data = folder(settings) / "data"
    data.mkdir(parents=True)
    (data / "PG_VERSION").write_text("18\n")
    assert postgres.find(settings) == newer
    (data / "PG_VERSION").write_text("15\n")
    with pytest.raises(ServiceError, match=r"needs PostgreSQL version 15, which made .*18 at "):
        postgres.find(settings)


def test_find_without_any_says_what_to_install(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "candidates", lambda: [Path("/nowhere/postgres")])
    with pytest.raises(ServiceError, match=r"14 or newer, and there is 0 at /nowhere.*the extra"):
        postgres.find(settings)


def test_check_drivers_names_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres, "find_spec", lambda _name: None)
    with pytest.raises(ServiceError, match=r"package psycopg2 and psycopg; .*\[postgresql\]"):
        postgres.check_drivers()


@pytest.mark.parametrize("binary", postgres.candidates(), ids=lambda path: path.parts[-3])
def test_every_candidate_makes_a_server_that_answers_and_keeps_what_it_was_given(
    binary: Path, new: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "candidates", lambda: [binary])
    postgres.prepare(new)
    password = folder(new) / "pgpass"
    before = password.read_bytes()
    assert password.stat().st_mode & 0o777 == 0o600
    assert not (folder(new) / "password").exists()
    with postgres.running(new, environment(new)), connect(new, "postgres") as connection:
        connection.execute(text("CREATE TABLE kept (a int)"))
    assert not answers(probe(new))
    postgres.prepare(new)
    assert password.read_bytes() == before
    with postgres.running(new, environment(new)), connect(new, "postgres") as connection:
        assert connection.execute(text("SELECT count(*) FROM kept")).scalar_one() == 0


def server_pid(settings: Settings) -> int:
    return int((folder(settings) / "data" / "postmaster.pid").read_text().splitlines()[0])


def test_server_listens_on_a_private_socket_only(running: Settings) -> None:
    server = psutil.Process(server_pid(running))
    assert not [p for p in (server, *server.children()) if p.net_connections("inet")]
    assert socket_folder(running).stat().st_mode & 0o777 == 0o700


def test_server_refuses_another_password_and_none(running: Settings, tmp_path: Path) -> None:
    own = str(folder(running) / "pgpass")
    for words in ("", "*:*:*:terraflow:wrong\n"):
        (tmp_path / "pgpass").write_text(words)
        (tmp_path / "pgpass").chmod(0o600)
        other = address(running, "postgres").replace(own, str(tmp_path / "pgpass"))
        with pytest.raises(OperationalError, match="password"):
            create_engine(other).connect()


@root_only
def test_server_of_root_runs_as_another_user(running: Settings) -> None:
    assert psutil.Process(server_pid(running)).username() == postgres.UNPRIVILEGED


def test_running_server_is_used_as_it_is(running: Settings) -> None:
    pid = server_pid(running)
    with postgres.running(running, environment(running)):
        assert server_pid(running) == pid
    assert answers(probe(running))


def test_server_that_can_not_start_is_a_sentence(new: Settings) -> None:
    postgres.prepare(new)
    with (folder(new) / "data" / "postgresql.conf").open("a") as file:
        file.write("no_such_key = 1\n")
    with (
        pytest.raises(ServiceError, match=r"PostgreSQL did not start .*postgresql-setup\.log"),
        postgres.running(new, environment(new)),
    ):
        pass


def test_prepare_killed_leaves_nothing_that_the_next_would_take_for_whole(new: Settings) -> None:
    code = (
        "from terraflow.settings import *\nfrom terraflow.stack.databases import postgres\n"
        "from pathlib import Path\nimport sys\nfrom terraflow.sections import Database\n"
        "postgres.prepare(Settings(store='local', var=Path(sys.argv[1]),"
        " database=Database(kind='postgresql')))"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(new.var)])
    wait_for((new.var / "postgresql.new" / "data" / "base").exists)
    process.kill()
    process.wait()
    time.sleep(0.5)  # until initdb, which ends with it, has let go of its folder
    assert not folder(new).exists()
    postgres.prepare(new)
    with postgres.running(new, environment(new)):
        assert answers(probe(new))


def test_initdb_that_fails_is_a_sentence(new: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_folder() as outside:
        broken = program(outside / "bin", "16.1")
        broken.with_name("initdb").write_text("#!/bin/sh\necho no space left\nexit 3\n")
        monkeypatch.setattr(postgres, "candidates", lambda: [broken])
        with pytest.raises(ServiceError, match=r"ended with code 3: no space left; run it by hand"):
            postgres.prepare(new)
    assert not folder(new).exists()


@root_only
def test_prepare_of_root_in_a_folder_that_others_can_not_enter_says_what_to_do(
    new: Settings, tmp_path: Path
) -> None:
    closed = new.model_copy(update={"var": tmp_path / "closed" / "var"})
    (tmp_path / "closed").mkdir(mode=0o700)
    with pytest.raises(
        ServiceError, match=r"user nobody, .* can't enter .*; start TerraFlow as an"
    ):
        postgres.prepare(closed)


@pytest.mark.parametrize("kind", ["open to others", "a link", "a file"])
def test_prepare_refuses_a_socket_folder_that_others_may_have_made(
    kind: str, new: Settings, tmp_path: Path
) -> None:
    postgres.prepare(new)
    path = socket_folder(new)
    path.rmdir()
    if kind == "open to others":
        path.mkdir()
        path.chmod(0o755)
    elif kind == "a link":
        path.symlink_to(tmp_path)
    else:
        path.touch()
    try:
        with pytest.raises(ServiceError, match=r"belongs to another user or is open to others"):
            postgres.prepare(new)
    finally:
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()


def test_server_starts_although_another_program_has_the_process_id_of_a_killed_one(
    new: Settings,
) -> None:
    postgres.prepare(new)
    data = folder(new) / "data"
    owner = data.stat().st_uid
    other = subprocess.Popen(["sleep", "60"], user=owner)
    try:
        (data / "postmaster.pid").write_text(f"{other.pid}\n{data}\n0\n5432\n\n\n\n\n")
        os.chown(data / "postmaster.pid", owner, -1)
        shutil.copy(data / "postmaster.pid", socket_folder(new) / ".s.PGSQL.5432.lock")
        with postgres.running(new, environment(new)):
            assert server_pid(new) != other.pid
    finally:
        other.kill()
        other.wait()


def test_server_starts_although_nobody_has_waited_for_a_killed_one(new: Settings) -> None:
    postgres.prepare(new)
    data = folder(new) / "data"
    command = [sys.executable, "-m", "terraflow.process.postgres_server"]
    words = [str(postgres.find(new)), "-D", str(data), "-k", str(socket_folder(new))]
    killed = subprocess.Popen([*command, *words])
    wait_for(lambda: answers(probe(new)))
    killed.kill()
    wait_for(lambda: psutil.Process(killed.pid).status() == psutil.STATUS_ZOMBIE)
    wait_for(lambda: not answers(probe(new)))
    with postgres.running(new, environment(new)):
        assert server_pid(new) != killed.pid
    killed.wait()


def test_server_starts_in_a_folder_that_was_copied_from_one_whose_server_runs(
    new: Settings,
) -> None:
    """The lock that came along names a process that lives, and is a server, but the other's."""
    other = new.model_copy(update={"var": new.var.parent / "copy"})
    for one in (new, other):
        one.log_dir.mkdir(parents=True, exist_ok=True)
        postgres.prepare(one)
    with postgres.running(new, environment(new)):
        lock, copied = (folder(one) / "data" / "postmaster.pid" for one in (new, other))
        shutil.copy(lock, copied)
        os.chown(copied, lock.stat().st_uid, -1)
        try:
            with postgres.running(other, environment(other)):
                assert server_pid(other) != server_pid(new)
        finally:
            shutil.rmtree(socket_folder(other), ignore_errors=True)
