"""Starting a model server and asking it: real processes, sockets and a small HTTP server."""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from services import supervised
from terraflow.errors import ConfigError, ServiceError
from terraflow.serving import client
from terraflow.serving.client import ask, curl_line, predict, serve
from terraflow.settings import Settings, load
from terraflow.stack.services import MODEL_SERVER, record_model_server, recorded_model_server

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


@dataclass
class Model:
    """What the HTTP server answers, and what it was sent."""

    status: int = 200
    document: dict[str, Any] = field(default_factory=lambda: {"predictions": [1, 2]})
    hang_up: bool = False
    bodies: list[bytes] = field(default_factory=list)
    types: list[str] = field(default_factory=list)


@pytest.fixture
def model(settings: Settings) -> Iterator[Model]:
    """A model server that is recorded and answers, beside a process that stands in for it."""
    known = Model()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.reply(200 if self.path == "/health" else 404, {})

        def do_POST(self) -> None:
            known.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            known.types.append(self.headers["Content-Type"])
            if self.path == "/invocations" and not known.hang_up:
                self.reply(known.status, known.document)

        def reply(self, status: int, document: dict[str, Any]) -> None:
            data = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    record_model_server(settings, f"http://127.0.0.1:{server.server_port}")
    with supervised(settings.run_dir, MODEL_SERVER):
        yield known
    server.shutdown()
    server.server_close()


# predict and ask


def test_ask_sends_parquet_and_gives_words(settings: Settings, model: Model) -> None:
    table = pd.DataFrame({"ndvi": [0.25, 0.5]})
    assert ask(settings, table) == ["1", "2"]
    assert model.bodies == [table.to_parquet(index=False)]
    assert model.types == ["application/vnd.apache.parquet"]


def test_predict_csv_is_sent_as_it_is(settings: Settings, model: Model, tmp_path: Path) -> None:
    path = tmp_path / "rows.CSV"
    path.write_bytes(b"ndvi\r\n0.5\r\n")
    assert predict(settings, str(path)) == ["1", "2"]
    assert (model.bodies, model.types) == ([b"ndvi\r\n0.5\r\n"], ["text/csv"])


@pytest.mark.parametrize(
    ("document", "sent"),
    [([{"ndvi": 0.5}], {"dataframe_records": [{"ndvi": 0.5}]}), (PAYLOAD, PAYLOAD)],
)
def test_predict_json_is_sent_in_a_form_of_mlflow(
    document: Any, sent: Any, settings: Settings, model: Model, tmp_path: Path
) -> None:
    (tmp_path / "rows.json").write_text(json.dumps(document))
    predict(settings, str(tmp_path / "rows.json"))
    assert json.loads(model.bodies[0]) == sent
    assert model.types == ["application/json"]


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("gone.csv", "", r"gone\.csv can't be read: No such file"),
        ("folder.csv", "folder", r"folder\.csv can't be read: Is a directory"),
        ("rows.txt", "ndvi", r"^rows\.txt is neither \.csv nor \.json"),
        ("rows.json", "[1,", r"rows\.json is not valid JSON: Expecting value"),
    ],
)
def test_predict_file_that_is_no_table_is_a_sentence(
    name: str, content: str, expected: str, settings: Settings, tmp_path: Path
) -> None:
    if content == "folder":
        (tmp_path / name).mkdir()
    elif content:
        (tmp_path / name).write_text(content)
    with pytest.raises(ConfigError, match=expected):  # before any server is looked for
        predict(settings, str(tmp_path / name))


def test_predict_note_stays_out_of_the_predictions(
    settings: Settings, model: Model, tmp_path: Path, capsys: Captured
) -> None:
    model.document = {"predictions": ["forest"], "note": "For summer only."}
    (tmp_path / "rows.csv").write_text("ndvi\n0.5\n")
    assert predict(settings, str(tmp_path / "rows.csv")) == ["forest"]
    assert tuple(capsys.readouterr()) == ("", "For summer only.\n")


def test_predict_rows_that_do_not_fit_name_the_file(
    settings: Settings, model: Model, tmp_path: Path
) -> None:
    model.status, model.document = 400, {"message": "Missing column evi"}
    path = tmp_path / "rows.csv"
    path.write_text("ndvi\n0.5\n")
    with pytest.raises(ConfigError, match=r"rows\.csv does not fit the model: Missing column evi"):
        predict(settings, str(path))


def test_ask_table_that_does_not_fit_is_called_the_table(settings: Settings, model: Model) -> None:
    model.status, model.document = 400, {"message": "Missing column evi"}
    with pytest.raises(
        ConfigError, match=r"^The table does not fit the model: Missing column evi$"
    ):
        ask(settings, pd.DataFrame({"ndvi": [0.5]}))


def test_ask_other_status_names_the_log(settings: Settings, model: Model) -> None:
    model.status = 503
    with pytest.raises(ServiceError, match=r"answered with status 503; see .*logs.*model-server"):
        ask(settings, pd.DataFrame({"ndvi": [0.5]}))


def test_ask_connection_lost_names_the_address(settings: Settings, model: Model) -> None:
    model.hang_up = True
    url = recorded_model_server(settings)
    with pytest.raises(ServiceError, match=f"at {url} did not answer: .*logs.*model-server"):
        ask(settings, pd.DataFrame({"ndvi": [0.5]}))


def test_ask_without_a_server_says_how_to_start_one(settings: Settings) -> None:
    with pytest.raises(ServiceError, match=r"No model server answers; start one with .*serve.*ID"):
        ask(settings, pd.DataFrame({"ndvi": [0.5]}))


def test_ask_goes_past_the_shells_proxy(
    settings: Settings, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    assert ask(settings, pd.DataFrame({"ndvi": [0.5]})) == ["1", "2"]


def test_curl_line_arrives_as_it_is_in_a_shell() -> None:
    payload = {"inputs": {"it's": ['$HOME `x` "y"']}}
    words = shlex.split(curl_line("http://127.0.0.1:5002", payload))
    assert words[:3] == ["curl", "-s", "http://127.0.0.1:5002/invocations"]
    assert words[words.index("-H") + 1] == "Content-Type: application/json"
    assert json.loads(words[words.index("-d") + 1]) == payload


# serve


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    """Settings with any free port, a model that is found, and SIGTERM as it was."""
    monkeypatch.setenv("TERRAFLOW_STORE", "local")
    monkeypatch.setenv("TERRAFLOW_SERVING_PORT", "0")
    found = ("models:/m/1", PAYLOAD, "For summer only.")
    monkeypatch.setattr(client, "_find_model", lambda *_: found)
    before = signal.getsignal(signal.SIGTERM)
    yield load()
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], list[Any]]]:
    """Let a small process stand in for the model server; list those that were started."""
    processes: list[Any] = []

    def behave(after: str) -> list[Any]:
        def start(settings: Settings, _uri: str, *, detach: bool) -> subprocess.Popen[bytes]:
            words = ["-c", SERVER, str(settings.serving.port), after]
            processes.append(subprocess.Popen([sys.executable, *words]))
            return processes[-1]  # type: ignore[no-any-return]

        monkeypatch.setattr(client, "_start", start)
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
    record_model_server(free, "http://127.0.0.1:5123")
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
    url = (free.run_dir / "model-server.url").read_text()
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
    monkeypatch.setattr(client, "START_S", 0.3)
    monkeypatch.setattr(client.probes, "answers", lambda _url: False)
    with pytest.raises(ServiceError, match=r"did not start: no answer in 0 s; see .*logs"):
        serve(free, run_id="", model_uri="models:/m/1", detach=detach)
    assert processes[0].poll() == -signal.SIGTERM


def test_wait_until_it_answers_ends_at_once_with_the_process(settings: Settings) -> None:
    process = subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"])
    process.wait()
    began = time.monotonic()
    with pytest.raises(ServiceError, match="did not start: its supervisor ended with code 3; see"):
        client._wait_until_it_answers(settings, process, "http://127.0.0.1:9")
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("phase", ["restarting", "failed"])
def test_wait_until_it_answers_tells_the_supervisors_reason(phase: str, settings: Settings) -> None:
    with supervised(settings.run_dir, MODEL_SERVER, phase=phase, reason="it ended") as process:
        with pytest.raises(ServiceError, match="did not start: it ended; see"):
            client._wait_until_it_answers(settings, process, "http://127.0.0.1:9")
        assert process.poll() is None


def test_start_real_server_without_its_model_says_why(
    free: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "_find_model", lambda *_: (str(tmp_path / "gone"), PAYLOAD, ""))
    with pytest.raises(ServiceError, match=r"did not start: .*code 1") as caught:
        serve(free, run_id="", model_uri="models:/m/1", detach=True)
    assert "No such artifact: 'gone'" in (free.log_dir / "model-server.log").read_text()
    assert "no answer" not in str(caught.value)
    assert recorded_model_server(free) == ""  # its supervisor was stopped with it


# _find_model


def write_model(folder: Path, **entries: Any) -> str:
    folder.mkdir()
    flavors = {"python_function": {"loader_module": "none"}}
    (folder / "MLmodel").write_text(json.dumps({"flavors": flavors} | entries))
    return str(folder)


def test_find_model_makes_a_row_of_the_signatures_types(settings: Settings, tmp_path: Path) -> None:
    columns = [{"name": "ndvi", "type": "double"}, {"name": "name", "type": "string"}]
    signature = {"inputs": json.dumps(columns), "outputs": None, "params": None}
    uri = write_model(tmp_path / "m", signature=signature, metadata={"note": "For summer."})
    split = {"columns": ["ndvi", "name"], "data": [[0.5, "text"]]}
    found = client._find_model(settings, "", uri)
    assert found == (uri, {"dataframe_split": split}, "For summer.")


def test_find_model_without_a_signature_is_a_sentence(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has no signature with column names; log it with one"):
        client._find_model(settings, "", write_model(tmp_path / "m"))


def test_find_model_that_is_not_there_is_a_sentence(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gone can't be read: .*; name a model that") as caught:
        client._find_model(settings, "", str(tmp_path / "gone"))
    assert "\n" not in str(caught.value)
    assert settings.mlflow_url in str(caught.value)
