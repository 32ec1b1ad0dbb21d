from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest

from terraflow.errors import ConfigError, ServiceError
from terraflow.settings import Settings, load
from terraflow.stack import doctor, minio
from terraflow.stack.databases import postgres
from terraflow.stack.setup import decide_store


@pytest.fixture
def no_minio(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.mark.parametrize(("found", "ok"), [((3, 10), False), ((3, 11), True), ((3, 14), False)])
def test_check_python(found: tuple[int, int], ok: bool) -> None:
    assert doctor.check_python(found).ok is ok


def test_check_memory_and_disk_have_remedies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "--only" in doctor.check_memory(0.5).remedy
    assert doctor.check_memory(8).ok
    monkeypatch.setattr(doctor, "DISK_GB", 10.0**9)
    check = doctor.check_disk(tmp_path / "not" / "yet")
    assert not check.ok
    assert "TERRAFLOW_VAR" in check.remedy


def test_check_writable_under_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert not doctor.check_writable(tmp_path / "file" / "var").ok


def test_check_dependencies_names_what_is_missing_and_the_command(tmp_path: Path) -> None:
    path = tmp_path / "pyproject.toml"
    assert doctor.check_dependencies(tmp_path).ok
    head = '[project]\ndependencies = ["invoke", "pandas>2000"]\n[project.optional-dependencies]\n'
    path.write_text(f'{head}project = ["xgb", "nobody; python_version < \'3\'"]\ndev = ["other"]')
    check = doctor.check_dependencies(tmp_path)
    assert not check.ok
    assert check.found == "lacking pandas>2000, xgb"
    assert "Run `invoke lock`, which writes requirements.lock" in check.remedy


@pytest.mark.usefixtures("no_minio")
def test_check_minio_without_a_way() -> None:
    check = doctor.check_minio(load())
    assert not check.ok
    assert "pixi" in check.remedy
    assert doctor.check_minio(load(["store=local"])).ok


def test_check_database_sqlite_tells_its_version_and_when_to_change() -> None:
    check = doctor.check_database(load())
    assert check.ok
    assert f"SQLite {sqlite3.sqlite_version}; before 3.51.3" in check.found
    assert "invoke database copy --to postgresql" in check.found


def test_check_database_postgresql_names_its_program_or_says_why_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if postgres.candidates():
        assert "postgres" in doctor.check_database(load(["database.kind=postgresql"])).found
    monkeypatch.setattr(postgres, "candidates", list)
    check = doctor.check_database(load(["database.kind=postgresql"]))
    assert not check.ok
    assert "needs PostgreSQL 14 or newer, and there is none" in check.remedy


def test_check_database_elsewhere_asks_the_server() -> None:
    url = "postgresql://me@127.0.0.1:1"
    check = doctor.check_database(load(["database.kind=postgresql", f"database.url={url}"]))
    assert not check.ok
    assert f"{url} refused: " in check.remedy
    assert "~/.pgpass" in check.remedy


def test_check_all_reports_a_bad_configuration_and_stops_there() -> None:
    def broken() -> Settings:
        raise ConfigError("config/terraflow.toml: stor is not a known key")

    last = doctor.check_all(broken)[-1]
    assert not last.ok
    assert "stor" in last.remedy


@pytest.mark.usefixtures("no_minio")
def test_decide_store_minio_without_a_way_is_refused() -> None:
    with pytest.raises(ServiceError, match='store = "minio" needs a MinIO server'):
        decide_store(load(["store=minio"]))


@pytest.mark.usefixtures("no_minio")
def test_decide_store_unset_falls_back_and_remembers(capsys: pytest.CaptureFixture[str]) -> None:
    assert decide_store(load()).store == "local"
    assert 'store = "local"' in capsys.readouterr().out
    assert load().store == "local"


def test_minio_build_that_fails_tells_the_log_and_leaves_no_binary(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = tmp_path / "go"
    go.write_text("#!/bin/sh\necho cannot build today >&2\nexit 3\n")
    go.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}/bin")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    if minio.find():
        pytest.skip("there is a minio in /bin")
    with pytest.raises(
        ServiceError, match=r"failed with code 3: cannot build today; see .*build\.log"
    ):
        minio.ensure(print)
    assert minio.find() is None


def test_minio_is_built_once_into_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = tmp_path / "go"
    go.write_text('#!/bin/sh\necho "$@" >> "$0.calls"\necho binary > "$GOBIN/minio"\n')
    go.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}/bin")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    if minio.find():
        pytest.skip("there is a minio in /bin")
    assert minio.ensure(print) == minio.ensure(print) == minio.cached()
    calls = (tmp_path / "go.calls").read_text().splitlines()
    assert len(calls) == 1
    assert minio.MODULE in calls[0]
