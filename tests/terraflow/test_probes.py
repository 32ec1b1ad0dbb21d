from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from terraflow import probes

ANSWERS = {"/health": (200, b"OK"), "/json": (200, b'{"a": 1}'), "/broken": (500, b'{"a": 1}')}


@pytest.fixture
def url() -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = ANSWERS.get(self.path, (404, b""))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("path", "expected"), [("/health", True), ("/broken", False), ("/none", False)]
)
def test_answers_by_status_200_only(path: str, expected: bool, url: str) -> None:
    assert probes.answers(url + path) is expected


@pytest.mark.parametrize(
    ("path", "expected"), [("/json", {"a": 1}), ("/health", None), ("/broken", None)]
)
def test_get_json_decodes_or_gives_nothing(path: str, expected: object, url: str) -> None:
    assert probes.get_json(url + path) == expected


def test_answers_does_not_ask_the_shells_proxy(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert probes.answers(f"{url}/health")


def test_answers_closed_port_is_no() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    assert not probes.answers(f"http://127.0.0.1:{port}/")


def test_answers_silence_is_no_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "ANSWER_S", 0.2)
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        assert not probes.answers(f"http://127.0.0.1:{sock.getsockname()[1]}/")


@pytest.mark.parametrize(
    ("answer", "expected"), [(b"R\0\0\0\x08", True), (b"E\0\0", False), (b"", False)]
)
def test_answers_postgresql_that_asks_for_a_password(
    answer: bytes, expected: bool, tmp_path: Path
) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "s"))
        sock.listen()

        def serve() -> None:
            with sock.accept()[0] as session:
                session.recv(1024)
                session.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        assert probes.answers(f"postgresql://{tmp_path / 's'}") is expected
        thread.join()
    assert not probes.answers(f"postgresql://{tmp_path / 'none'}")
