"""A model server as a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import mlflow
import pandas as pd
import pytest
from mlflow.models import infer_signature
from sklearn.linear_model import LogisticRegression

from harness import wait_for
from terraflow import probes

NAME = "Wälder 1"
StartServer = Callable[..., str]


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier with a signature of doubles."""
    folder = tmp_path_factory.mktemp("served") / "model"
    table = pd.DataFrame({"red": [0.1, 0.9, 0.2, 0.8], "nir": [0.9, 0.1, 0.8, 0.2]})
    model = LogisticRegression().fit(table, ["forest", "water"] * 2)
    mlflow.sklearn.save_model(
        model,
        folder,
        signature=infer_signature(table, model.predict(table)),
        input_example=table.head(1),
        pip_requirements=[],
    )
    return folder


@contextmanager
def running(model: Path, folder: Path, port: int, **options: object) -> Iterator[str]:
    """Start a server with these options; give its address."""
    words = ["--model-uri", str(model), "--host", "127.0.0.1", "--port", str(port)]
    words += ["--name", NAME, "--version", "3", "--options", json.dumps(options)]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "terraflow.serving.app.server", *words],
            stdout=log,
            stderr=log,
        )
    url = f"http://127.0.0.1:{port}"

    def ready() -> bool:
        assert process.poll() is None, (folder / "log").read_text()
        return probes.answers(f"{url}/health")

    try:
        wait_for(ready, 120)
        yield url
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture
def start_server(
    model_folder: Path, tmp_path: Path, free_tcp_port_factory: Callable[[], int]
) -> Iterator[StartServer]:
    """Start a server of one's own, with options."""
    with ExitStack() as stack:

        def start(**options: object) -> str:
            port = free_tcp_port_factory()
            return stack.enter_context(running(model_folder, tmp_path, port, **options))

        yield start


@pytest.fixture(scope="session")
def server(
    model_folder: Path,
    tmp_path_factory: pytest.TempPathFactory,
    free_tcp_port_factory: Callable[[], int],
) -> Iterator[str]:
    """Address of a server, one for all tests, whose limits are small."""
    folder = tmp_path_factory.mktemp("server")
    port = free_tcp_port_factory()
    limits = {"body_bytes": 2 * 2**20, "rows": 1000, "queue": 300, "body_s": 3}
    with running(model_folder, folder, port, **limits) as url:
        yield url
