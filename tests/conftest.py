"""Isolation for every test: no TERRAFLOW_* of the shell, state in a temporary folder."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
from xdist.scheduler import LoadFileScheduling

from harness import SHARED, Stack
from mlflow_server import MlflowServer
from terraflow import files, probes
from terraflow.lock import Lock
from terraflow.settings import Settings, load

# Airflow reads it once, when it is imported: without it, it writes into the home folder
AIRFLOW_HOME = tempfile.TemporaryDirectory(prefix="terraflow-airflow-")
os.environ["AIRFLOW_HOME"] = AIRFLOW_HOME.name
ROOT = Path(__file__).resolve().parents[1]
# how long an example takes says how busy the machine is
hypothesis.settings.register_profile("patient", deadline=None)
hypothesis.settings.load_profile("patient")
SLOVENIA = ROOT.parent / "shared" / "data" / "slovenia"


def group_of(file: Path) -> str:
    """Name what the tests of a file share: a running stack, or the file's own fixtures."""
    if file.parent.name != "integration" or file.stem == "test_postgresql":
        return str(file)
    return "dags" if file.stem.startswith("test_dags") else "stack"


class ByStack(LoadFileScheduling):
    """Gives all tests of a group to one worker."""

    def _split_scope(self, nodeid: str) -> str:
        return group_of(Path(nodeid.partition("::")[0]))


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> LoadFileScheduling:
    return ByStack(config, log)


@pytest.hookimpl(trylast=True)  # by then all have their marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest: a worker then has others to fill its time with."""
    order = ["stack", "dags"]

    def rank(item: pytest.Item) -> int:
        group = group_of(item.path)
        if group in order:
            return order.index(group)
        return 2 if item.get_closest_marker("services") or item.get_closest_marker("slow") else 3

    items.sort(key=rank)


@pytest.hookimpl(trylast=True)  # after the fixtures of the test
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """End the stacks of a group with it: those that are idle take their part of the machine."""
    if nextitem and group_of(item.path) != group_of(nextitem.path):
        for stack in SHARED:
            stack.close()


@pytest.fixture(autouse=True)
def own_umask() -> Iterator[None]:
    """Let no test find the umask of one before, which a task has set in this process."""
    os.umask(0o022)
    yield
    os.umask(0o022)
    files._users_umask.clear()


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Hide the shell's settings and the checkout's own config/local and var/."""
    for name in list(os.environ):
        hidden = name.startswith(("TERRAFLOW_", "AWS_", "MLFLOW_", "AIRFLOW_"))
        if hidden and name != "MLFLOW_TRACKING_TOKEN":  # of a stack that a fixture started
            monkeypatch.delenv(name)
    monkeypatch.delenv("INIT_CWD", raising=False)
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path / "airflow"))
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")  # its thread writes to os.environ
    config = tmp_path / "config"
    config.mkdir()
    (config / "land_cover.toml").write_bytes((ROOT / "config" / "land_cover.toml").read_bytes())
    monkeypatch.setenv("TERRAFLOW_CONFIG_DIR", str(config))
    monkeypatch.setenv("TERRAFLOW_VAR", str(tmp_path / "var"))
    monkeypatch.setenv("TERRAFLOW_ARTIFACTS", str(tmp_path / "artifacts"))


@pytest.fixture
def config_dir(tmp_path: Path) -> Path:
    """Folder that is read instead of config/."""
    return tmp_path / "config"


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings with local files as the store."""
    monkeypatch.setenv("TERRAFLOW_STORE", "local")
    return load()


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """State folder whose databases are migrated, of all workers: it takes long to make one."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    one = Stack(folder / "migrated", TERRAFLOW_STORE="local")
    lock, made = Lock(folder / "migrated.lock"), folder / "migrated" / "made"
    lock.wait("another worker's setup", 300)
    try:
        if not made.exists():
            one.ok("setup")
            made.touch()
    finally:
        lock.release()
    return one.var


@pytest.fixture(scope="session")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    """One server for all tests: take an experiment of your own."""
    folder = tmp_path_factory.mktemp("mlflow")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    command = [
        *(sys.executable, "-m", "terraflow.process.mlflow_server", "server"),
        *("--host", "127.0.0.1", "--port", str(port), "--workers", "1"),
        *("--backend-store-uri", f"sqlite:///{folder}/mlflow.db"),
        *("--artifacts-destination", str(folder / "artifacts")),
    ]
    found = MlflowServer(port, folder)
    found.token_file.write_text(f"Authorization: Bearer {found.token}\n")
    own = {
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_TRACKING_TOKEN": found.token,
    }
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(command, env=os.environ | own, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 120
        while not probes.answers(f"http://127.0.0.1:{port}/health"):
            assert server.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < deadline, (folder / "log").read_text()
            time.sleep(0.2)
        yield found
    finally:
        server.terminate()
        server.wait(30)
        import mlflow  # slow, and most tests do without

        mlflow.set_tracking_uri(None)


@pytest.fixture
def tracked_settings(monkeypatch: pytest.MonkeyPatch, mlflow_server: MlflowServer) -> Settings:
    """Settings with local files as the store, and a real MLflow server that answers."""
    import mlflow  # slow, and most tests do without

    mlflow.set_registry_uri(None)  # a test of a stack may have left that stack's
    monkeypatch.setenv("TERRAFLOW_STORE", "local")
    monkeypatch.setenv("TERRAFLOW_MLFLOW_PORT", str(mlflow_server.port))
    monkeypatch.setenv("TERRAFLOW_MLFLOW_TOKEN_FILE", str(mlflow_server.token_file))
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", mlflow_server.token)
    return load()


@pytest.fixture
def slovenia() -> Path:
    """Folder of the real catalogue."""
    if not SLOVENIA.exists():
        pytest.skip("../shared/data/slovenia is not there; it is not part of the repository")
    return SLOVENIA
