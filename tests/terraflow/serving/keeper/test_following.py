"""A server that follows an alias: real processes, a real registry, clients that never pause."""

from __future__ import annotations

import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import mlflow
import numpy as np
import pandas as pd
import psutil
import pytest
from mlflow import MlflowClient
from mlflow.models import infer_signature
from sklearn.linear_model import LinearRegression

from harness import wait_for
from terraflow.serving.serve import serve
from terraflow.settings import Settings, load
from terraflow.stack.lifecycle.down import down
from terraflow.stack.model_server import ServedModel, model_server_url
from terraflow.stack.status import status
from terraflow.state import read_state

NAME, ALIAS = "followed", "champion"


def register(value: float, **options: Any) -> str:
    """Register a version that adds this to its column."""
    table = pd.DataFrame({"x": [0.0, 1.0, 2.0]})
    model = LinearRegression().fit(table, table["x"] + value)
    mlflow.set_experiment("following")
    mlflow.sklearn.log_model(
        model,
        name="model",
        signature=infer_signature(table, model.predict(table)),
        input_example=table.head(2),
        pip_requirements=[],
        registered_model_name=NAME,
        **options,
    )
    found = MlflowClient().search_model_versions(f"name = '{NAME}'")
    return max((v.version for v in found), key=int)


def point(version: str) -> None:
    MlflowClient().set_registered_model_alias(NAME, ALIAS, version)


def tag(version: str) -> str:
    return str(MlflowClient().get_model_version(NAME, version).tags.get("serving", ""))


@pytest.fixture
def registry(tracked_settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("TERRAFLOW_SERVING_PORT", "0")
    monkeypatch.setenv("TERRAFLOW_SERVING_FOLLOW_S", "0.2")
    monkeypatch.setattr("terraflow.serving.serve.stop_on_sigterm", lambda: None)
    mlflow.set_tracking_uri(tracked_settings.mlflow_url)
    return load()


@contextmanager
def following(settings: Settings) -> Iterator[str]:
    uri = f"models:/{NAME}@{ALIAS}"
    serve(settings, run_id="", model_uri=uri, follow=True, detach=True)
    try:
        yield model_server_url(settings)
    finally:
        down(settings)


def served(settings: Settings) -> ServedModel:
    found = ServedModel.read(settings)
    assert found
    return found


def processes(settings: Settings) -> list[psutil.Process]:
    """Processes that serve."""
    state = read_state(settings.run_dir, "model-server")
    below = psutil.Process(state.pid).children() if state and state.pid else []
    return [p for p in below if "terraflow.serving.app.server" in words(p)]


def words(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:  # it has just ended
        return []


@dataclass
class Clients:
    """Clients that ask without a pause, each by connections of its own."""

    url: str
    values: dict[str, float]
    answers: Counter[str] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)
    longest_s: float = 0.0
    stop: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def asking(self, number: int) -> Iterator[None]:
        threads = [threading.Thread(target=self.ask, args=(seed,)) for seed in range(number)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self.stop.set()
            for thread in threads:
                thread.join(60)

    def ask(self, seed: int) -> None:
        random = np.random.default_rng(seed)
        with httpx.Client(trust_env=False, timeout=60) as client:
            while not self.stop.is_set():
                x = random.random(int(random.choice([1, 10, 3000])))
                split = {"columns": ["x"], "data": [[v] for v in x.tolist()]}
                client_or_new = client if random.random() < 0.8 else httpx
                began = time.monotonic()
                try:
                    answer = client_or_new.post(
                        f"{self.url}/invocations", json={"dataframe_split": split}, timeout=60
                    )
                except httpx.HTTPError as error:
                    self.errors.append(repr(error))
                    continue
                self.longest_s = max(self.longest_s, time.monotonic() - began)
                self.look(x, answer)

    def look(self, x: np.ndarray[Any, Any], answer: httpx.Response) -> None:
        """Each answer is of the version that it names, in all its rows."""
        if answer.status_code != 200:
            self.errors.append(f"{answer.status_code}: {answer.text}")
            return
        version = answer.headers["terraflow-version"]
        if not np.allclose(answer.json()["predictions"], x + self.values[version]):
            self.errors.append(f"an answer of version {version} is not its own")
        self.answers[version] += 1


@pytest.mark.parametrize("times", [4, pytest.param(20, marks=pytest.mark.exhaustive)])
def test_alias_that_moves_under_load_loses_no_request(
    times: int, registry: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    values = {register(number): float(number) for number in (1, 2, 3)}
    versions = list(values)
    point(versions[0])
    with following(registry) as url:
        clients, moves = Clients(url, values), []
        with clients.asking(8):
            for number in range(1, times + 1):
                version = versions[number % 3]
                began = time.monotonic()
                point(version)
                wait_for(lambda v=version: served(registry).version == v, 60)
                moves.append(time.monotonic() - began)
        wait_for(lambda: len(list((registry.var / "served").iterdir())) == 1, 20)
        assert len(processes(registry)) == 1
        assert f"terraflow_swaps {times}.0" in httpx.get(f"{url}/metrics", trust_env=False).text
        assert tag(versions[times % 3]).startswith("served since ")
    assert clients.errors == []
    assert set(clients.answers) == set(versions)
    with capsys.disabled():
        median = np.median(moves)
        print(  # noqa: T201 - figures
            f"\n{times} moves, median {median:.1f} s to the new one, longest {max(moves):.1f} s; "
            f"{clients.answers.total()} answers, the slowest {clients.longest_s:.2f} s"
        )


@pytest.mark.slow
def test_version_that_is_broken_is_refused_and_the_old_one_goes_on(registry: Settings) -> None:
    good, other = register(1), register(2)
    liar = register(3, metadata={"example_predictions": [7.0, 8.0]})
    point(good)
    with following(registry) as url:
        clients = Clients(url, {good: 1.0, other: 2.0})
        with clients.asking(2):
            point(liar)
            wait_for(lambda: liar in served(registry).refused, 60)
            [row] = [row for row in status(registry) if row.service == "model-server"]
            assert row.state == "ready"
            assert f"version {liar} is refused: The model predicts [3.0, 4.0] for its" in row.reason
            wait_for(lambda: tag(liar).startswith("refused at "), 30)
            log = (registry.log_dir / "model-server.log").read_text()
            assert f"Version {liar} is not taken, followed version {good} goes on: The mo" in log
            point(other)
            wait_for(lambda: served(registry).version == other, 60)
        assert not served(registry).refused
        assert clients.errors == []
        assert set(clients.answers) == {good, other}


@pytest.mark.slow
def test_version_that_runs_code_is_refused(registry: Settings) -> None:
    good = register(1)
    table = pd.DataFrame({"x": [0.0, 1.0]})
    pickled = mlflow.sklearn.log_model(
        LinearRegression().fit(table, table["x"]),
        name="model",
        serialization_format="cloudpickle",
        signature=infer_signature(table),
        pip_requirements=[],
        registered_model_name=NAME,
    )
    point(good)
    with following(registry):
        version = str(pickled.registered_model_version)
        point(version)
        wait_for(lambda: "runs code" in served(registry).refused.get(version, ""), 60)


@pytest.mark.slow
def test_process_that_is_killed_comes_back_and_waiting_requests_are_answered(
    registry: Settings,
) -> None:
    version = register(1)
    point(version)
    with following(registry) as url:
        [process] = processes(registry)
        process.kill()
        clients = Clients(url, {version: 1.0})
        with clients.asking(4):
            wait_for(lambda: clients.answers.total() > 20, 60)
        assert clients.errors == []  # they waited in the socket, which the parent holds


@pytest.mark.slow
def test_keeper_that_is_killed_comes_back_with_the_version_it_had(registry: Settings) -> None:
    first, second = register(1), register(2)
    point(first)
    with following(registry) as url:
        point(second)
        wait_for(lambda: served(registry).version == second, 60)
        [child] = processes(registry)
        child.parent().kill()  # type: ignore[union-attr]
        wait_for(lambda: not child.is_running(), 10)
        wait_for(lambda: answers_by(url, second), 60)


def answers_by(url: str, version: str) -> bool:
    try:
        answer = httpx.get(f"{url}/ready", trust_env=False)
    except httpx.HTTPError:
        return False
    return answer.headers.get("terraflow-version") == version


@pytest.fixture
def code(tmp_path: Path) -> list[str]:
    """Code that is logged with a model."""
    folder = tmp_path / "own_code"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    return [str(folder)]


@pytest.mark.exhaustive
def test_version_with_code_of_its_own_gets_a_process_of_its_own(
    registry: Settings, code: list[str]
) -> None:
    values = {register(1): 1.0, register(2, code_paths=code): 2.0, register(3): 3.0}
    first, *others = values
    point(first)
    with following(registry) as url:
        [before] = processes(registry)
        clients = Clients(url, values)
        with clients.asking(8):
            for version in others:
                point(version)
                wait_for(lambda v=version: served(registry).version == v, 60)
                wait_for(lambda: len(processes(registry)) == 1, 30)
        assert processes(registry) != [before]
        assert clients.errors == []
        assert set(clients.answers) == set(values)


@pytest.mark.exhaustive
def test_connection_that_waits_is_answered_once_more_after_the_move(
    registry: Settings, code: list[str]
) -> None:
    first, second = register(1), register(2, code_paths=code)
    point(first)
    request = b"GET /version HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    with following(registry) as url:
        host, _, port = url.removeprefix("http://").partition(":")
        with socket.create_connection((host, int(port))) as kept:
            kept.settimeout(10)
            point(second)
            while served(registry).version == first:
                kept.sendall(request)
                assert b"200 OK" in receive(kept)
                time.sleep(0.1)
            kept.sendall(request)
            assert b"connection: close" in receive(kept)
            assert kept.recv(4096) == b""


def receive(connection: socket.socket) -> bytes:
    """Read an answer, whose body is short."""
    found = b""
    while b"\r\n\r\n" not in found or not found.partition(b"\r\n\r\n")[2]:
        found += connection.recv(4096)
    return found


@pytest.mark.slow
def test_follow_goes_on_while_the_registry_is_away_or_the_alias_is_gone(
    registry: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = register(1), register(2)
    point(first)
    with following(registry) as url:
        MlflowClient().delete_registered_model_alias(NAME, ALIAS)
        time.sleep(1)
        assert answers_by(url, first)
        point(second)
        wait_for(lambda: answers_by(url, second), 60)


@pytest.mark.slow
def test_down_ends_all_processes_in_the_midst_of_a_move(
    registry: Settings, code: list[str]
) -> None:
    first, second = register(1), register(2, code_paths=code)
    point(first)
    with following(registry):
        point(second)
        both = wait_for(lambda: p if len(p := processes(registry)) == 2 else None, 60)
    assert not [p for p in both if p.is_running()]
