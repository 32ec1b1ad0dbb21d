"""Deployments to a machine that a real sshd stands for, as another user."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from hosts import Machine, machine
from terraflow.errors import ConfigError, ServiceError
from terraflow.serving.deploy.host import Host

ROOT = Path(__file__).resolve().parents[4]
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

    def words(self, *words: str) -> list[str]:
        command = [sys.executable, "-m", "invoke", "deploy", self.other.name]
        return [*command, "--ssh-config", str(self.other.ssh_config), *words]

    def environment(self) -> dict[str, str]:
        clean = {k: v for k, v in os.environ.items() if not k.startswith("TERRAFLOW_")}
        own = {"TERRAFLOW_VAR": str(self.var), "TERRAFLOW_STORE": "local"}
        return clean | own | {"PYTHONPATH": str(self.checkout / "src")}

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
