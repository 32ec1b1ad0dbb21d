from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import pytest

from terraflow.process import temporary
from terraflow.process.temporary import temporary_service

SERVE = """
import http.server, signal, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), type("H", (
    http.server.BaseHTTPRequestHandler,), {"do_GET": lambda self: self.send_response(200)
    or self.end_headers()})).serve_forever()
"""


def test_temporary_service_that_does_not_stop_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(temporary, "STOP_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    url = f"http://127.0.0.1:{port}/"
    command = [sys.executable, "-c", SERVE, port]
    with temporary_service("it", command, url, env=os.environ, log=tmp_path / "log"):
        pass
    socket.create_server(("127.0.0.1", int(port))).close()  # nobody holds it
