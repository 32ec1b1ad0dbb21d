"""A model server as a process of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import mlflow
import pandas as pd
import pytest
from mlflow.models import infer_signature
from sklearn.linear_model import LogisticRegression

from model_servers import running

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
