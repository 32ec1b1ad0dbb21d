from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from small_disks import as_another_user
from terraflow import settings
from terraflow.config import Layer, validate
from terraflow.errors import ConfigError
from terraflow.lock import Lock
from terraflow.settings import Settings, load, resolve_ports
from terraflow.state import ServiceState

ROOT = Path(__file__).resolve().parents[2]


def write(folder: Path, text: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "terraflow.toml").write_text(text)


def test_load_without_anything_gives_defaults() -> None:
    assert load().mlflow.port == 5000


def test_load_config_beats_default(config_dir: Path) -> None:
    write(config_dir, "[mlflow]\nport = 5101\n")
    assert load().mlflow.port == 5101


def test_load_local_beats_config(config_dir: Path) -> None:
    write(config_dir, "[mlflow]\nport = 5101\n[airflow]\nport = 8101\n")
    write(config_dir / "local", "[mlflow]\nport = 5102\n")
    assert load().mlflow.port == 5102
    assert load().airflow.port == 8101


def test_load_shell_beats_local(config_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(config_dir / "local", "[mlflow]\nport = 5102\n")
    monkeypatch.setenv("TERRAFLOW_MLFLOW_PORT", "5103")
    assert load().mlflow.port == 5103


def test_load_command_line_beats_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERRAFLOW_MLFLOW_PORT", "5103")
    assert load(["mlflow.port=5104"]).mlflow.port == 5104


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["database.kind=mysql"], "database.kind = 'mysql' is wrong"),
        (["database.kind=postgresql", "database.url=mysql://me@db"], "names no server"),
        (["database.kind=postgresql", "database.url=postgresql://db"], "names no server"),
        (["database.kind=postgresql", "database.url=postgresql://me@db/x"], "without a database"),
        (["database.url=postgresql://me@db"], "url is set, but kind is not"),
        (["database.kind=postgresql", "database.url=postgresql://me:word5@db"], "~/.pgpass"),
        (["database.kind=postgresql", "database.url=postgresql://me@db?password=word5"], "pgpass"),
    ],
)
def test_load_wrong_database_is_told_without_a_password(words: list[str], told: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(told)) as caught:
        load(words)
    assert "word5" not in str(caught.value)


def test_load_database_elsewhere() -> None:
    url = "postgresql://me@db.example.org:5433?sslmode=require"
    database = load(["database.kind=postgresql", f"database.url={url}"]).database
    assert database.url == url
    assert not database.is_here
    assert load(["database.kind=postgresql"]).database.is_here


def test_load_reports_every_bad_key_with_its_source(
    config_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(config_dir, 'stor = "minio"\n[mlflow]\nport = "many"\n[airflow]\nport = 70000\n')
    monkeypatch.setenv("TERRAFLOW_JUPYTER_PORT", "x")
    with pytest.raises(ConfigError) as caught:
        load(["minio.prt=1"])
    lines = str(caught.value).splitlines()
    assert len(lines) == 5
    file = str(config_dir / "terraflow.toml")
    assert any(
        file in line and "stor is not a known key (did you mean store?)" in line for line in lines
    )
    assert any(file in line and "mlflow.port" in line and "'many'" in line for line in lines)
    assert any(file in line and "airflow.port" in line and "70000" in line for line in lines)
    assert any(line.startswith("shell: TERRAFLOW_JUPYTER_PORT") for line in lines)
    assert any(line.startswith("command line: minio.prt") for line in lines)


def test_load_unknown_variable_is_refused_with_the_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERRAFLOW_MLFLOW_PROT", "1")
    with pytest.raises(ConfigError, match=r"TERRAFLOW_MLFLOW_PROT .*TERRAFLOW_MLFLOW_PORT"):
        load()


def test_load_broken_toml_names_the_file(config_dir: Path) -> None:
    write(config_dir, "mlflow = = 1")
    with pytest.raises(ConfigError, match=r"terraflow\.toml is not valid TOML"):
        load()


def test_load_section_as_value_is_reported(config_dir: Path) -> None:
    write(config_dir, "mlflow = 5000")
    with pytest.raises(ConfigError, match="mlflow = 5000 is wrong"):
        load()


def test_load_assignment_without_value_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"--set mlflow\.port has no value"):
        load(["mlflow.port"])


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.4", "localhost"])
def test_load_host_other_than_loopback_is_refused(
    host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERRAFLOW_HOST", host)
    with pytest.raises(ConfigError, match=r"only 127\.0\.0\.1 is accepted"):
        load()


def test_load_two_services_on_one_port_are_named() -> None:
    with pytest.raises(ConfigError, match=r"airflow\.port, mlflow\.port share a port"):
        load(["mlflow.port=8080"])


def test_load_takes_the_remembered_store() -> None:
    first = load()
    first.store_file.parent.mkdir(parents=True)
    first.store_file.write_text("local")
    assert load().store == "local"
    assert load(["store=s3"]).store == "s3"


def test_resolve_ports_replaces_zero_by_distinct_ports() -> None:
    zero = load([f"{key}=0" for key, _ in load().ports()])
    ports = [port for _, port in resolve_ports(zero).ports()]
    assert all(ports)
    assert len(set(ports)) == len(ports)


def test_resolve_ports_gives_no_port_that_another_service_will_use(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    offered = iter([5111, 5111, 5112])
    monkeypatch.setattr(settings, "_hold_free_port", lambda *_: next(offered))
    resolved = resolve_ports(load(["mlflow.port=5111", "minio.port=0"]))
    assert (resolved.mlflow.port, resolved.minio.port) == (5111, 5112)


def test_resolve_ports_keeps_fixed_ports() -> None:
    assert resolve_ports(load(["mlflow.port=5111"])).mlflow.port == 5111


@given(port=st.integers(0, 65535), parallelism=st.integers(1, 64))
def test_to_environment_gives_the_child_the_same_settings(port: int, parallelism: int) -> None:
    values = {"mlflow": {"port": port}, "airflow": {"port": 1, "parallelism": parallelism}}
    if port in dict(Settings().ports()).values() or port == 1:
        return
    parent = Settings.model_validate(values)
    keys = settings._keys(Settings)
    child: dict[str, object] = {}
    for key in keys:
        name = "TERRAFLOW_" + "_".join(key).upper()
        if name in parent.to_environment():
            section = child
            for part in key[:-1]:
                section = section.setdefault(part, {})  # type: ignore[assignment]
            section[key[-1]] = parent.to_environment()[name]
    same = validate(Settings, [Layer("shell", child, {})])
    assert same.model_dump() == parent.model_dump()


def test_shipped_file_states_every_setting_with_its_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("TERRAFLOW_VAR", "TERRAFLOW_ARTIFACTS"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("TERRAFLOW_CONFIG_DIR", str(ROOT / "tests"))  # holds no terraflow.toml
    bare = load(running=False)
    monkeypatch.setenv("TERRAFLOW_CONFIG_DIR", str(ROOT / "config"))
    shipped = load(running=False)
    assert shipped.model_dump(exclude={"store"}) == bare.model_dump(exclude={"store"})
    text = (ROOT / "config" / "terraflow.toml").read_text()
    assert all(f"{key[-1]} = " in text for key in settings._keys(Settings))


def test_load_of_a_stack_that_ends_just_now_takes_the_files(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`down` removes the ports of the stack while its supervisors are still there."""
    monkeypatch.setenv("TERRAFLOW_STORE", "local")
    here, pid = load(), os.getpid()
    lock = Lock(here.run_dir / "mlflow.lock")
    assert lock.acquire()
    ServiceState("mlflow", "running", pid, pid, pid).write(here.run_dir)
    here.model_copy(update={"artifacts": Path("/of/the/stack")}).save()
    assert load().artifacts == Path("/of/the/stack")
    (here.run_dir / "settings.json").unlink()
    assert load().artifacts == here.artifacts
    lock.release()


@pytest.mark.parametrize("content", [b"\xff\xfe", b"", b"elsewhere", b"mini"])
def test_damaged_file_of_the_store_is_a_sentence(
    content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TERRAFLOW_STORE", raising=False)
    (tmp_path / "var").mkdir()
    (tmp_path / "var" / "store").write_bytes(content)
    with pytest.raises(ConfigError, match=r"var/store names the store .*; write minio, "):
        load()


@pytest.mark.parametrize("what", ["config", "config/local", "config/terraflow.toml"])
def test_configuration_of_another_user_is_a_sentence(what: str, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    for above in tmp_path.parents[:-2]:  # as far as they are pytest's
        above.chmod(above.stat().st_mode | 0o011)
    (tmp_path / "config" / "local").mkdir()
    (tmp_path / "config" / "terraflow.toml").touch()
    (tmp_path / what).chmod(0)
    with as_another_user(), pytest.raises(ConfigError, match="can't be read: Permission denied"):
        load()


def test_configuration_that_is_a_folder_or_no_text_is_a_sentence(tmp_path: Path) -> None:
    file = tmp_path / "config" / "terraflow.toml"
    file.mkdir()
    with pytest.raises(ConfigError, match="can't be read: Is a directory; put a file there"):
        load()
    file.rmdir()
    file.write_bytes(b"\xff\xfeh\0o\0s\0t\0")
    with pytest.raises(ConfigError, match=r"terraflow\.toml is not valid TOML: 'utf-8'"):
        load()
