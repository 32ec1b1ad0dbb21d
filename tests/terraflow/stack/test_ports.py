from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from terraflow.errors import ServiceError
from terraflow.settings import Settings, load, resolve_ports
from terraflow.stack.ports import check_port, check_ports
from terraflow.stack.services import SERVICES


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings whose ports are free."""
    for name in ("AIRFLOW", "MLFLOW", "JUPYTER", "MINIO", "SERVING"):
        monkeypatch.setenv(f"TERRAFLOW_{name}_PORT", "0")
    monkeypatch.setenv("TERRAFLOW_MINIO_CONSOLE_PORT", "0")
    return resolve_ports(load())


@pytest.fixture
def taken(free: Settings) -> Iterator[Settings]:
    """The same, with something listening on MLflow's and on JupyterLab's port."""
    with socket.socket() as one, socket.socket() as two:
        for sock, port in ((one, free.mlflow.port), (two, free.jupyter.port)):
            sock.bind((free.host, port))
            sock.listen()
        yield free


def test_check_port_free_one_passes(free: Settings) -> None:
    check_port(free, "mlflow.port", "mlflow")


def test_check_port_taken_one_names_holder_and_remedy(taken: Settings) -> None:
    with pytest.raises(ServiceError) as caught:
        check_port(taken, "mlflow.port", "mlflow")
    said = str(caught.value)
    assert f"Port {taken.mlflow.port} (mlflow) is taken by process {os.getpid()} (" in said
    assert "TERRAFLOW_MLFLOW_PORT (0 means any free port)" in said
    assert "[mlflow] of config/local/terraflow.toml" in said
    assert len(said.splitlines()) == 1


def test_check_port_just_closed_counts_as_free(free: Settings) -> None:
    with socket.socket() as server, socket.socket() as client:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do
        server.bind((free.host, free.mlflow.port))
        server.listen()
        client.connect((free.host, free.mlflow.port))
        server.accept()[0].close()  # leaves the port in TIME_WAIT
    check_port(free, "mlflow.port", "mlflow")


def test_check_ports_names_every_taken_one(taken: Settings) -> None:
    with pytest.raises(ServiceError) as caught:
        check_ports(taken, SERVICES.values())
    lines = str(caught.value).splitlines()
    assert [line.split("(")[1].partition(")")[0] for line in lines] == ["mlflow", "jupyter"]


def test_check_ports_looks_at_the_chosen_services_only(taken: Settings) -> None:
    check_ports(taken, [SERVICES["minio"], SERVICES["airflow-scheduler"]])
