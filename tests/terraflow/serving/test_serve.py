"""Starting a model server: real processes and sockets."""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from services import supervised
from terraflow.errors import ConfigError, ServiceError
from terraflow.serving import serve as serving
from terraflow.serving.models import FoundModel
from terraflow.serving.serve import curl_line, serve
from terraflow.settings import Settings, load
from terraflow.stack.model_server import MODEL_SERVER, ServedModel, Way, recorded_model_server

Captured = pytest.CaptureFixture[str]
PAYLOAD = {"dataframe_split": {"columns": ["ndvi"], "data": [[0.5]]}}
#: Answers /health on a port; then does as its last word says. Its parent is the test's process.
SERVER = """
import os, signal, sys, time
from http.server import BaseHTTPRequestHandler, HTTPServer
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()
    def log_message(self, *_):
        pass
server = HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
server.handle_request()
{"ends": lambda: None,
 "stops us": lambda: (time.sleep(0.2), os.kill(os.getppid(), signal.SIGTERM), time.sleep(60)),
 "goes on": server.serve_forever}[sys.argv[2]]()
"""


def test_curl_line_arrives_as_it_is_in_a_shell() -> None:
    payload = {"inputs": {"it's": ['$HOME `x` "y"']}}
    words = shlex.split(curl_line("http://127.0.0.1:5002", payload))
    assert words[:3] == ["curl", "-s", "http://127.0.0.1:5002/invocations"]
    assert words[words.index("-H") + 1] == "Content-Type: application/json"
    assert json.loads(words[words.index("-d") + 1]) == payload
    words = shlex.split(curl_line("http://127.0.0.1:5002", payload, Path("/a folder/token")))
    assert "@/a folder/token" in words  # curl reads it, so that no list of processes shows it


def copied(settings: Settings, found: FoundModel, way: Way) -> ServedModel:
    folder = str(settings.var / "gone")
    return ServedModel(found.shown, found.uri, found.name, found.version, folder, way=way)


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    """Settings with any free port, a model that is found, and SIGTERM as it was."""
    monkeypatch.setenv("TERRAFLOW_STORE", "local")
    monkeypatch.setenv("TERRAFLOW_SERVING_PORT", "0")
    found = FoundModel("models:/m/1", "models:/m/1", "m", "1", PAYLOAD, "For summer only.")
    monkeypatch.setattr(serving, "find_model", lambda *_: found)
    monkeypatch.setattr(serving, "fetch", copied)
    before = signal.getsignal(signal.SIGTERM)
    yield load()
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], list[Any]]]:
    """Let a small process stand in for the model server; list those that were started."""
    processes: list[Any] = []

    def behave(after: str) -> list[Any]:
        def start(settings: Settings, *_: Any, **__: Any) -> subprocess.Popen[bytes]:
            words = ["-c", SERVER, str(settings.serving.port), after]
            processes.append(subprocess.Popen([sys.executable, *words]))
            return processes[-1]  # type: ignore[no-any-return]

        monkeypatch.setattr(serving, "_start", start)
        return processes

    yield behave
    for process in processes:
        process.kill()
        process.wait()


@pytest.mark.parametrize("names", [("", ""), ("1" * 32, "models:/m/1")])
def test_serve_not_exactly_one_model_is_refused(names: tuple[str, str], free: Settings) -> None:
    with pytest.raises(
        ConfigError,
        match="No model or more than one is named; name one by --run-id ID, or by --model",
    ):
        serve(free, run_id=names[0], model_uri=names[1], detach=True)


def test_serve_beside_a_server_names_it(free: Settings, started: Callable[[str], Any]) -> None:
    processes = started("ends")
    ServedModel("m", "m", "", "", "", way=Way("http://127.0.0.1:5123")).save(free)
    with supervised(free.run_dir, MODEL_SERVER) as other:
        expected = rf"already runs here at http://127\.0\.0\.1:5123 \(pid {other.pid}\).*down"
        with pytest.raises(ServiceError, match=expected):
            serve(free, run_id="", model_uri="models:/m/1", detach=True)
    assert processes == []


def test_serve_on_a_taken_port_starts_nothing(
    free: Settings, started: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    processes = started("ends")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        monkeypatch.setenv("TERRAFLOW_SERVING_PORT", str(port))
        expected = rf"Port {port} \(model-server\) is taken by process {os.getpid()}"
        with pytest.raises(ServiceError, match=expected):
            serve(load(), run_id="", model_uri="models:/m/1", detach=True)
    assert processes == []


def test_serve_detached_leaves_it_running(
    free: Settings, started: Callable[[str], Any], capsys: Captured
) -> None:
    processes = started("goes on")
    assert serve(free, run_id="", model_uri="models:/m/1", detach=True) == 0
    assert processes[0].poll() is None
    told = capsys.readouterr().out
    served = ServedModel.read(free)
    assert served
    url = served.way.url
    assert f"Serving models:/m/1 at {url}; ask it with\n\n{curl_line(url, PAYLOAD)}\n" in told
    assert "For summer only.\n" in told
    assert "Press Ctrl+C" not in told


def test_serve_writes_the_curl_line_into_a_file(
    free: Settings, started: Callable[[str], Any], tmp_path: Path, capsys: Captured
) -> None:
    processes = started("goes on")
    file = tmp_path / "ask.sh"
    with pytest.raises(ConfigError, match=r"nowhere/ask\.sh lies in no folder that exists"):
        serve(free, run_id="", model_uri="models:/m/1", curl="nowhere/ask.sh", detach=True)
    assert processes == []
    serve(free, run_id="", model_uri="models:/m/1", curl=str(file), detach=True)
    assert f"\n{file.read_text()}" in capsys.readouterr().out
    assert file.read_text().startswith("curl -s http://")


def test_serve_in_the_foreground_ends_with_the_server(
    free: Settings, started: Callable[[str], Any], capsys: Captured
) -> None:
    processes = started("ends")
    assert serve(free, run_id="", model_uri="models:/m/1", detach=False) == 0
    assert processes[0].poll() == 0
    assert capsys.readouterr().out.endswith("Press Ctrl+C to stop.\n")


def test_serve_stopped_by_sigterm_stops_the_server(
    free: Settings, started: Callable[[str], Any], capsys: Captured
) -> None:
    processes = started("stops us")
    assert serve(free, run_id="", model_uri="models:/m/1", detach=False) == 0
    assert processes[0].poll() == -signal.SIGTERM
    assert capsys.readouterr().out.endswith("Stopped.\n")


@pytest.mark.parametrize("detach", [True, False])
def test_serve_server_without_an_answer_is_stopped(
    detach: bool, free: Settings, started: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    processes = started("goes on")
    monkeypatch.setattr(serving, "START_S", 0.3)
    monkeypatch.setattr(serving.probes, "answers", lambda _url: False)
    with pytest.raises(ServiceError, match=r"did not start: no answer in 0 s; see .*logs"):
        serve(free, run_id="", model_uri="models:/m/1", detach=detach)
    assert processes[0].poll() == -signal.SIGTERM


def test_wait_until_it_answers_ends_at_once_with_the_process(settings: Settings) -> None:
    process = subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"])
    process.wait()
    began = time.monotonic()
    with pytest.raises(ServiceError, match="did not start: its supervisor ended with code 3; see"):
        serving._wait_until_it_answers(settings, process, "http://127.0.0.1:9", 60)
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("phase", ["restarting", "failed"])
def test_wait_until_it_answers_tells_the_supervisors_reason(phase: str, settings: Settings) -> None:
    with supervised(settings.run_dir, MODEL_SERVER, phase=phase, reason="it ended") as process:
        with pytest.raises(ServiceError, match="did not start: it ended; see"):
            serving._wait_until_it_answers(settings, process, "http://127.0.0.1:9", 60)
        assert process.poll() is None


def test_start_real_server_without_its_model_says_why(
    free: Settings,
) -> None:
    with pytest.raises(ServiceError, match=r"did not start: .*code 1") as caught:
        serve(free, run_id="", model_uri="models:/m/1", detach=True)
    assert "No such artifact: 'gone'" in (free.log_dir / "model-server.log").read_text()
    assert "no answer" not in str(caught.value)
    assert recorded_model_server(free) == ""  # its supervisor was stopped with it
