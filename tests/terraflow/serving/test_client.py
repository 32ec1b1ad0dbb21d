"""Asking a model server: a small HTTP server stands for it."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from services import supervised
from terraflow.credentials import token_file
from terraflow.errors import ConfigError, ServiceError
from terraflow.serving.client import ask, predict
from terraflow.settings import Settings, load
from terraflow.stack.model_server import MODEL_SERVER, ServedModel, Way, recorded_model_server

Captured = pytest.CaptureFixture[str]
PAYLOAD = {"dataframe_split": {"columns": ["ndvi"], "data": [[0.5]]}}


@dataclass
class Model:
    """What the HTTP server answers, and what it was sent."""

    status: int = 200
    document: dict[str, Any] = field(default_factory=lambda: {"predictions": [1, 2]})
    hang_up: bool = False
    bodies: list[bytes] = field(default_factory=list)
    types: list[str] = field(default_factory=list)
    tokens: list[str | None] = field(default_factory=list)


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
            known.tokens.append(self.headers["Authorization"])
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
    way = Way(f"http://127.0.0.1:{server.server_port}")
    ServedModel("m", "m", "", "", "", way=way).save(settings)
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


@pytest.mark.parametrize(
    ("message", "told"),
    [("9 wait already; ask again.", "(9 wait already);"), ("It broke.", "(It broke.);")],
)
def test_ask_other_status_says_what_the_server_said(
    message: str, told: str, settings: Settings, model: Model
) -> None:
    model.status, model.document = 429, {"message": message}
    with pytest.raises(ServiceError, match=rf"with status 429 {re.escape(told)} see .*logs"):
        ask(settings, pd.DataFrame({"ndvi": [0.5]}))


def test_ask_sends_the_token_where_one_is_asked_for(
    settings: Settings, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = pd.DataFrame({"ndvi": [0.5]})
    ask(settings, table)
    assert model.tokens == [None]
    monkeypatch.setenv("TERRAFLOW_SERVING_TOKEN", "true")
    ask(load(running=False), table)
    assert token_file(settings).read_text() == f"Authorization: {model.tokens[1]}\n"
    assert token_file(settings).stat().st_mode & 0o777 == 0o600


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
