"""What a real server does with requests that are too large, too slow, too many, or not meant."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from typing import Any
from urllib.parse import urlsplit

import httpx
import mlflow
import pytest
from prometheus_client.parser import text_string_to_metric_families

from terraflow.serving.app import protocol
from terraflow.serving.app.application import create_app
from terraflow.serving.app.guard import BODIES, OPEN_PATHS, Limits, Queue, RefusedError
from terraflow.serving.app.model.served import Current, Served

ROW = json.dumps({"dataframe_split": {"columns": ["red", "nir"], "data": [[0.1, 0.9]]}})
JSON = {"Content-Type": "application/json"}


def ask(url: str, content: Any = ROW, **headers: str) -> httpx.Response:
    sent = JSON | {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.post(f"{url}/invocations", content=content, headers=sent, timeout=60)


def answers(url: str) -> bool:
    return ask(url).json() == {"predictions": ["forest"]}


def connect(url: str) -> socket.socket:
    parts = urlsplit(url)
    return socket.create_connection((str(parts.hostname), int(parts.port or 0)), timeout=60)


def ended(client: socket.socket) -> bool:
    """Wait until the server closes the connection, after the rest of its answer."""
    with suppress(ConnectionResetError):
        while rest := client.recv(1000):
            assert not rest.startswith(b"HTTP"), rest
    return True


@pytest.mark.parametrize("host", ["evil.example", "evil.example:5002", "127.0.0.1.evil.example"])
def test_other_names_of_this_server_are_refused(host: str, server: str) -> None:
    answer = ask(server, Host=host)
    assert answer.status_code == 403
    assert answer.json()["message"].startswith(f"Host '{host}' is not this server's name; ask")


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "[::1]"])
def test_own_names_are_answered(name: str, server: str) -> None:
    port = urlsplit(server).port
    assert ask(server, Host=f"{name}:{port}").status_code == 200


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:1"])
def test_pages_of_others_may_not_ask(origin: str, server: str) -> None:
    answer = ask(server, Origin=origin, Content_Type="text/plain")
    assert answer.status_code == 403
    assert "may not ask this server" in answer.json()["message"]


def test_own_page_may_ask(server: str) -> None:
    assert ask(server, Origin=server).status_code == 200


def chunks(megabytes: int) -> Iterator[bytes]:
    for _ in range(megabytes):
        yield b" " * 2**20


def test_body_that_is_too_large_is_refused_before_it_is_read(server: str) -> None:
    with connect(server) as client:
        client.sendall(b"POST /invocations HTTP/1.1\r\nHost: localhost\r\n")
        client.sendall(b"Content-Type: application/json\r\nContent-Length: 900000000\r\n\r\n")
        assert client.recv(1000).startswith(b"HTTP/1.1 413 ")
    assert answers(server)


def test_body_without_a_length_is_refused_when_it_is_too_large(server: str) -> None:
    answer = ask(server, chunks(300))
    assert answer.status_code == 413
    assert answer.json()["message"] == "The request is larger than 2 MB; send it in parts."
    assert metric(server, "process_resident_memory_bytes") < 2**30


def test_too_many_rows_are_refused(server: str) -> None:
    split = {"columns": ["red", "nir"], "data": [[0.1, 0.9]] * 1001}
    answer = ask(server, json.dumps({"dataframe_split": split}))
    assert answer.status_code == 413
    assert "has 1001 rows, and this server takes at most 1000" in answer.json()["message"]


def test_body_that_comes_too_slowly_is_given_up(server: str) -> None:
    with connect(server) as client:
        client.sendall(b"POST /invocations HTTP/1.1\r\nHost: localhost\r\n")
        client.sendall(b"Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n{")
        assert answers(server)
        assert client.recv(1000).startswith(b"HTTP/1.1 408 ")


def test_heads_that_do_not_come_are_given_up_and_others_are_answered(server: str) -> None:
    assert protocol.HEAD_S == 10
    with ExitStack() as stack:
        clients = [stack.enter_context(connect(server)) for _ in range(300)]
        for client in clients[1:]:
            client.sendall(b"POST /invocations HTTP/1.1\r\nHost: loc")
        began = time.monotonic()
        assert answers(server)
        for client in clients:
            assert ended(client)
        assert time.monotonic() - began < 2 * protocol.HEAD_S
    assert answers(server)


def test_second_head_on_a_connection_is_given_up_too(server: str) -> None:
    with connect(server) as client:
        client.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert client.recv(1000).startswith(b"HTTP/1.1 200 ")
        client.sendall(b"GET /health HTTP/1.1\r\n")
        assert ended(client)


def test_head_without_end_is_cut_off(server: str) -> None:
    with connect(server) as client:
        client.sendall(b"GET /health HTTP/1.1\r\nX-Long: ")
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            client.sendall(b"x" * 2**26)
    assert answers(server)


def test_more_requests_than_places_are_told_to_come_again(server: str) -> None:
    with ExitStack() as stack:
        for _ in range(300):  # which wait for the rest of their bodies
            client = stack.enter_context(connect(server))
            client.sendall(
                b"POST /invocations HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n"
            )
        deadline = time.monotonic() + 3
        while (answer := ask(server)).status_code == 200:
            assert time.monotonic() < deadline
        assert answer.status_code == 429
        assert answer.headers["retry-after"] == "1"
        assert answer.json()["message"] == "300 requests wait already; ask again in a second."
        assert httpx.get(f"{server}/health").status_code == 200


def test_thousand_requests_at_once_lose_none(server: str) -> None:
    barrier = threading.Barrier(100)

    def ten(_: int) -> list[int]:
        with httpx.Client(timeout=60) as client:
            barrier.wait()
            return [
                client.post(f"{server}/invocations", content=ROW, headers=JSON).status_code
                for _ in range(10)
            ]

    with ThreadPoolExecutor(100) as pool:
        found = [status for statuses in pool.map(ten, range(100)) for status in statuses]
    assert found == [200] * 1000


def test_token_is_asked_of_all_but_who_asks_for_its_life(start_server: Any, tmp_path: Any) -> None:
    file = tmp_path / "token"
    file.write_text("Authorization: Bearer a-token\n")
    server = start_server(token_file=str(file), of_a_newer_release=1)
    refused = ask(server)
    assert refused.status_code == 401
    assert refused.headers["www-authenticate"] == "Bearer"
    assert ask(server, Authorization="Bearer wrong").status_code == 401
    for path in ("/metrics", "/version", "/openapi.json"):
        assert httpx.get(f"{server}{path}").status_code == 401
    for path in OPEN_PATHS:
        assert httpx.get(f"{server}{path}").status_code == 200
    assert ask(server, Authorization="Bearer a-token").status_code == 200
    assert "a-token" not in (tmp_path / "log").read_text()


def metric(url: str, name: str, **labels: str) -> float:
    families = text_string_to_metric_families(httpx.get(f"{url}/metrics").text)
    samples = [sample for family in families for sample in family.samples]
    return sum(s.value for s in samples if s.name == name and labels.items() <= s.labels.items())


def test_metrics_count_requests_rows_and_errors_by_kind(server: str) -> None:
    def counts() -> list[float]:
        return [
            metric(server, "terraflow_requests_total", status="200"),
            metric(server, "terraflow_requests_total", kind="BAD_REQUEST"),
            metric(server, "terraflow_requests_total", status="403"),
            metric(server, "terraflow_rows_total"),
            metric(server, "terraflow_request_seconds_count"),
        ]

    before = counts()
    ask(server)
    ask(server, "{}")
    ask(server, Host="evil.example")
    assert [after - was for after, was in zip(counts(), before, strict=True)] == [1, 1, 1, 1, 2]
    assert metric(server, "terraflow_model") == 1


def test_bodies_that_would_fill_the_memory_are_told_to_come_again() -> None:
    queue = Queue(Limits(body_bytes=10))
    with ExitStack() as stack:
        places = [stack.enter_context(queue.place()) for _ in range(BODIES + 1)]
        for place in places[:-1]:
            place.add(10)
        with pytest.raises(RefusedError, match="being read already; ask again") as caught:
            places[-1].add(1)
        assert caught.value.status == 503
    assert (queue.requests, queue.bytes) == (0, 0)


def test_model_that_fails_is_told_and_the_server_goes_on() -> None:
    """Through the web application itself, whose model no request can make fail."""

    class Failing:
        metadata = mlflow.models.Model()

        def predict(self, _table: Any) -> Any:
            raise RuntimeError("secret of the model")

    async def answer() -> list[httpx.Response]:
        transport = httpx.ASGITransport(create_app(Current(Served(Failing()))))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            failed = await client.post("/invocations", content=ROW, headers=JSON)
            return [failed, await client.get("/metrics")]

    failed, metrics = asyncio.run(answer())
    assert failed.status_code == 500
    assert failed.json()["message"] == "The model failed; the server's log says why."
    assert 'kind="INTERNAL_ERROR",status="500"' in metrics.text
