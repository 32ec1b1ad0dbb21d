"""Deployments to a machine that a real sshd stands for, as another user."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import mlflow
import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow.models import infer_signature
from sklearn.linear_model import LogisticRegression

from harness import wait_for
from hosts import Machine, machine
from terraflow import probes
from terraflow.errors import ConfigError, ServiceError
from terraflow.serving.deploy.host import Host
from terraflow.settings import Settings

ROOT = Path(__file__).resolve().parents[4]
HOLD = """
import sys, time
from terraflow.serving.deploy.host import Host
with Host(sys.argv[1], "terraflow/land_cover", ssh_config=sys.argv[2]).locked():
    print("held", flush=True)
    time.sleep(60)
"""
pytestmark = [pytest.mark.services, pytest.mark.exhaustive, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def other(
    tmp_path_factory: pytest.TempPathFactory, free_tcp_port_factory: Callable[[], int]
) -> Iterator[Machine]:
    with machine(tmp_path_factory.mktemp("ssh"), free_tcp_port_factory()) as found:
        yield found


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone of this repository, with what is not committed in a commit of its own."""
    folder = tmp_path_factory.mktemp("checkout") / "here"
    git = ["git", "-c", "user.name=A", "-c", "user.email=a@example.org"]
    subprocess.run([*git, "clone", "--quiet", str(ROOT), str(folder)], check=True)
    changed = subprocess.check_output(["git", "diff", "HEAD", "--binary"], cwd=ROOT)
    if changed:
        subprocess.run(["git", "apply"], cwd=folder, input=changed, check=True)
        subprocess.run([*git, "commit", "--quiet", "-am", "As it is"], cwd=folder, check=True)
    return folder


def commit(folder: Path, name: str, text: str) -> str:
    (folder / name).write_text(text)
    git = ["git", "-c", "user.name=A", "-c", "user.email=a@example.org"]
    subprocess.run(["git", "add", name], cwd=folder, check=True)
    subprocess.run([*git, "commit", "--quiet", "-m", name], cwd=folder, check=True)
    words = ["git", "rev-parse", "--short=12", "HEAD"]
    return subprocess.check_output(words, cwd=folder, text=True).strip()


class Deployer:
    """The task, typed in the clone."""

    def __init__(self, checkout: Path, other: Machine, model: Path, port: int, var: Path) -> None:
        self.checkout, self.other, self.model, self.port, self.var = (
            checkout,
            other,
            model,
            port,
            var,
        )
        self.variables: dict[str, str] = {}

    def words(self, *words: str) -> list[str]:
        command = [sys.executable, "-m", "invoke", "deploy", self.other.name]
        return [*command, "--ssh-config", str(self.other.ssh_config), *words]

    def environment(self) -> dict[str, str]:
        clean = {k: v for k, v in os.environ.items() if not k.startswith("TERRAFLOW_")}
        own = {"TERRAFLOW_VAR": str(self.var), "TERRAFLOW_STORE": "local"}
        return clean | own | {"PYTHONPATH": str(self.checkout / "src")} | self.variables

    def run(self, *words: str, code: int = 0) -> str:
        done = subprocess.run(
            self.words(*words),
            cwd=self.checkout,
            env=self.environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def deploy(self, *words: str, code: int = 0) -> str:
        return self.run("--model", str(self.model), "--port", str(self.port), *words, code=code)

    def release(self) -> str:
        """Release whose code runs there."""
        code = (
            "import json, os; state = json.load(open('var/run/model-server.json')); "
            "print(os.readlink(f\"/proc/{state['pid']}/cwd\"))"
        )
        found = self.other.run(f"cd terraflow/land_cover && python3 -c {shlex.quote(code)}")
        return Path(found).name


@pytest.fixture(scope="module")
def deployer(
    checkout: Path,
    other: Machine,
    model_folder: Path,
    free_tcp_port_factory: Callable[[], int],
    tmp_path_factory: pytest.TempPathFactory,
) -> Deployer:
    var = tmp_path_factory.mktemp("var")
    return Deployer(checkout, other, model_folder, free_tcp_port_factory(), var)


def ask(port: int) -> list[str]:
    split = {"columns": ["red", "nir"], "data": [[0.1, 0.9], [0.9, 0.1]]}
    answer = httpx.post(
        f"http://127.0.0.1:{port}/invocations",
        json={"dataframe_split": split},
        timeout=30,
        trust_env=False,
    )
    assert answer.status_code == 200, answer.text
    return list(answer.json()["predictions"])


class Asking:
    """A client that asks all the time."""

    def __init__(self, port: int) -> None:
        self.port, self.answers, self.errors = port, 0, []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._ask)

    def _ask(self) -> None:
        while not self._stop.is_set():
            try:
                ask(self.port)
                self.answers += 1
            except (httpx.HTTPError, AssertionError) as error:
                self.errors.append(repr(error))
            time.sleep(0.1)

    def __enter__(self) -> Asking:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(60)


def test_deploy_and_a_broken_release_that_never_takes_over(
    deployer: Deployer, capsys: pytest.CaptureFixture[str]
) -> None:
    first = commit(deployer.checkout, "note", "first")
    began = time.monotonic()
    told = deployer.deploy()
    cold = time.monotonic() - began
    assert f"Release {first} answers on other" in told
    assert ask(deployer.port) == ["forest", "water"]

    broken = commit(deployer.checkout, "src/terraflow/serving/app/server.py", "raise SystemExit(3)")
    with Asking(deployer.port) as client:
        told = deployer.deploy(code=1)
    assert "could not start the release beside the one that runs, which goes on" in told
    assert client.errors == []
    assert client.answers > 10
    assert deployer.release() == first != broken

    back = ["git", "checkout", "--quiet", "HEAD~", "--", "src"]
    subprocess.run(back, cwd=deployer.checkout, check=True)
    second = commit(deployer.checkout, "note", "second")
    began = time.monotonic()
    assert f"Release {second} answers on other" in deployer.deploy()
    warm = time.monotonic() - began
    assert ask(deployer.port) == ["forest", "water"]
    with capsys.disabled():
        print(f"\ndeployed in {cold:.0f} s, and once more in {warm:.0f} s")  # noqa: T201 - figures

    status = deployer.run("--status")
    assert f"Release: releases/{second}" in status
    assert f"Before it: releases/{first}" in status
    assert "model-server" in status
    assert "is served" in deployer.run("--logs")

    assert f"releases/{first} answers on other" in deployer.run("--rollback")
    assert deployer.release() == first
    assert ask(deployer.port) == ["forest", "water"]


@pytest.mark.parametrize("seconds", [0.5, 2, 4, 8, 15, 30])
def test_deploy_interrupted_succeeds_the_next_time(seconds: float, deployer: Deployer) -> None:
    release = commit(deployer.checkout, "note", f"interrupted after {seconds}")
    words = deployer.words("--model", str(deployer.model), "--port", str(deployer.port))
    process = subprocess.Popen(words, cwd=deployer.checkout, env=deployer.environment())
    time.sleep(seconds)
    process.kill()
    process.wait()
    assert f"Release {release} answers on other" in deployer.deploy()
    assert ask(deployer.port) == ["forest", "water"]


def test_deploy_of_what_is_not_committed_is_refused(deployer: Deployer) -> None:
    note = deployer.checkout / "README.md"
    before = note.read_text()
    note.write_text("changed")
    try:
        told = deployer.deploy(code=1)
    finally:
        note.write_text(before)
    assert "1 files differ from the last commit (README.md), and a release is a commit" in told


def test_two_at_once_and_one_has_to_wait(deployer: Deployer) -> None:
    host = Host(
        deployer.other.name, "terraflow/land_cover", ssh_config=str(deployer.other.ssh_config)
    )
    with host.locked():
        told = deployer.deploy(code=1)
    assert "Somebody deploys to other now; wait until that has ended." in told
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, deployer.other.name, str(deployer.other.ssh_config)],
        stdout=subprocess.PIPE,
    )
    assert holder.stdout
    assert holder.stdout.readline() == b"held\n"
    holder.kill()
    holder.communicate()
    wait_for(lambda: free(host), 10)


def free(host: Host) -> bool:
    try:
        with host.locked():
            return True
    except ServiceError:
        return False


def test_server_there_follows_the_registry_here(
    deployer: Deployer,
    tracked_settings: Settings,
    free_tcp_port_factory: Callable[[], int],
) -> None:
    mlflow.set_tracking_uri(tracked_settings.mlflow_url)
    client = MlflowClient()
    for version, answer in enumerate([["forest", "water"], ["water", "forest"]], 1):
        table = pd.DataFrame({"red": [0.1, 0.9], "nir": [0.9, 0.1]})
        mlflow.sklearn.log_model(
            LogisticRegression().fit(table, answer),
            name="model",
            signature=infer_signature(table, answer),
            input_example=table,
            pip_requirements=[],
            registered_model_name="deployed",
        )
        if version == 1:
            client.set_registered_model_alias("deployed", "champion", "1")
    there = free_tcp_port_factory()
    deployer.variables["TERRAFLOW_MLFLOW_PORT"] = str(tracked_settings.mlflow.port)
    deployer.variables["TERRAFLOW_MLFLOW_TOKEN_FILE"] = str(tracked_settings.mlflow.token_file)
    ways = ["--registry-port", str(there)]
    tunnel = subprocess.Popen(
        deployer.words("--tunnel", *ways), cwd=deployer.checkout, env=deployer.environment()
    )
    try:
        wait_for(lambda: probes.answers(f"http://127.0.0.1:{there}/health"), 20)
        commit(deployer.checkout, "note", "following")
        uri = ["--model", "models:/deployed@champion", "--follow", "--port", str(deployer.port)]
        deployer.run(*uri, *ways)
        assert ask(deployer.port) == ["forest", "water"]
        client.set_registered_model_alias("deployed", "champion", "2")
        wait_for(lambda: ask(deployer.port) == ["water", "forest"], 60)
        # a second tunnel finds its port taken
        told = deployer.run("--tunnel", *ways, code=1)
        assert f"port {there} is taken there, name another by --registry-port" in told
    finally:
        tunnel.send_signal(signal.SIGINT)
        tunnel.wait(20)
    assert ask(deployer.port) == ["water", "forest"]


def test_without_a_network_there(deployer: Deployer) -> None:
    commit(deployer.checkout, "note", "offline")
    deployer.other.run("rm -rf .cache/uv .cache/pip")
    deployer.deploy("--offline")
    assert ask(deployer.port) == ["forest", "water"]
    paths = deployer.other.run("readlink -f terraflow/land_cover/current/.venv/bin/python")
    assert "terraflow/land_cover/python/bin" in paths


def test_whole_stack(deployer: Deployer, free_tcp_port_factory: Callable[[], int]) -> None:
    deployer.run("--remove", "--yes")
    ports = {name: free_tcp_port_factory() for name in ("airflow", "mlflow", "jupyter")}
    sections = "".join(f"[{name}]\nport = {port}\n" for name, port in ports.items())
    release = commit(deployer.checkout, "config/terraflow.toml", f'store = "local"\n{sections}')
    assert f"Release {release} answers on other" in deployer.run("--what", "stack")
    assert probes.answers(f"http://127.0.0.1:{ports['mlflow']}/health")
    status = deployer.run("--status")
    assert all(name in status for name in ("scheduler", "mlflow", "jupyter"))
    assert "down" not in status


def test_remove_leaves_nothing(deployer: Deployer) -> None:
    deployer.run("--remove", "--yes")
    assert deployer.other.run("ls terraflow") == ""
    with pytest.raises(httpx.ConnectError):
        ask(deployer.port)


def test_host_that_can_not_be_reached_is_a_sentence(tmp_path: Path) -> None:
    config = tmp_path / "ssh_config"
    config.write_text("Host gone\n  HostName 127.0.0.1\n  Port 9\n")
    host = Host("gone", "terraflow/x", ssh_config=str(config))
    with pytest.raises(ServiceError, match=r"gone can't be reached: .*; see that `ssh gone` works"):
        host.run("true", "do nothing")
    (tmp_path / "x").mkdir()
    with pytest.raises(ServiceError, match=r"x can't be copied to gone: .*; see that rsync is"):
        host.copy(tmp_path / "x", "x")


@pytest.mark.parametrize("name", ["", "-oProxyCommand=x", "a b"])
def test_host_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="is no host; name one as ssh does"):
        Host(name, "terraflow/x")
