from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from terraflow import probes as module
from terraflow.probes import Health


class Server(ThreadingHTTPServer):
    """Answers with what it is told to."""

    def __init__(self) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(handler) -> None:  # noqa: N805
                time.sleep(self.takes_s)
                handler.send_response(self.status)
                handler.end_headers()
                handler.wfile.write(json.dumps(self.body).encode())

            def log_message(handler, *_: Any) -> None:  # noqa: N805
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        self.status, self.body, self.takes_s = 200, {}, 0.0

    def url(self, component: str = "") -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/health#{component}"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(module, "PAUSE_S", 0.05)
    monkeypatch.setattr(module, "ANSWER_S", 0.5)
    one = Server()
    threading.Thread(target=one.serve_forever, daemon=True).start()
    yield one
    one.shutdown()
    one.server_close()


def steps(health: Health, until: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not until():
        assert time.monotonic() < deadline
        began = time.monotonic()
        health.step()
        assert time.monotonic() - began < 0.2  # it waits for nothing
        time.sleep(0.02)


def test_health_of_a_service_that_never_answered_is_not_silent(server: Server) -> None:
    server.status = 503
    health = Health(server.url())
    until = time.monotonic() + 0.5
    steps(health, lambda: time.monotonic() > until)
    assert health.silent_since is None


@pytest.mark.parametrize("fault", [{"status": 500}, {"takes_s": 3.0}])
def test_health_that_ends_and_comes_back(server: Server, fault: dict[str, Any]) -> None:
    health = Health(server.url())
    steps(health, lambda: health._answered)
    began = time.monotonic()
    for name, value in fault.items():
        setattr(server, name, value)
    steps(health, lambda: health.silent_since is not None)
    assert health.silent_since
    assert began - 0.2 < health.silent_since < time.monotonic()
    server.status, server.takes_s = 200, 0.0
    steps(health, lambda: health.silent_since is None)


def test_health_of_a_component_is_its_own(server: Server) -> None:
    server.body = {"scheduler": {"status": "healthy"}, "triggerer": {"status": "unhealthy"}}
    health = Health(server.url("scheduler"))
    steps(health, lambda: health._answered)
    server.status = 500  # the page's own trouble is not the component's
    server.body = {}
    until = time.monotonic() + 0.5
    steps(health, lambda: time.monotonic() > until)
    assert health.silent_since is None
    server.status, server.body = 200, {"scheduler": {"status": "unhealthy"}}
    steps(health, lambda: health.silent_since is not None)


def test_health_without_an_address_asks_nothing() -> None:
    health = Health("postgresql:///some/socket")
    health.step()
    assert health.silent_since is None


def test_health_of_a_port_that_is_closed(server: Server) -> None:
    health = Health(server.url())
    steps(health, lambda: health._answered)
    server.shutdown()
    server.server_close()
    steps(health, lambda: health.silent_since is not None)
    health.restart()
    assert health.silent_since is None
