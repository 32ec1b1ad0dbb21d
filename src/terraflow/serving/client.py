"""Start the model server, and ask it."""

from __future__ import annotations

import contextlib
import json
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from terraflow import config, probes
from terraflow.console import command, say, stop_on_sigterm
from terraflow.credentials import store_environment
from terraflow.errors import ConfigError, ServiceError, first_line
from terraflow.settings import Settings, resolve_ports
from terraflow.stack.environment import environment
from terraflow.stack.ports import check_port
from terraflow.stack.services import (
    MODEL_SERVER,
    model_server_url,
    record_model_server,
    recorded_model_server,
)
from terraflow.state import manager_pid, read_state

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["ask", "curl_line", "predict", "serve"]

PARQUET = "application/vnd.apache.parquet"
START_S = 120.0


def serve(settings: Settings, *, run_id: str, model_uri: str, curl: str = "", detach: bool) -> int:
    """Serve a model on the serving port; in the foreground until Ctrl+C.

    Parameters
    ----------
    run_id : str
        Serve this run's model.
    model_uri : str
        Or any model URI that MLflow knows.
    curl : str
        A file, relative to the folder the user stands in, for the command that asks the server.

    Raises
    ------
    ConfigError
        Neither or both are given, there is no such run or model, or no such folder for the file.
    ServiceError
        The port is taken, a model server already runs, or it does not start.
    """
    if bool(run_id) == bool(model_uri):
        raise ConfigError(
            "No model or more than one is named; name one by --run-id ID, or by --model "
            "models:/NAME@ALIAS."
        )
    curl_file = config.user_path(curl) if curl else None
    if curl_file and not curl_file.parent.is_dir():
        raise ConfigError(f"--curl {curl} lies in no folder that exists; give another file.")
    config.export(store_environment(settings))
    uri, payload, note = _find_model(settings, run_id, model_uri)
    if pid := manager_pid(settings.run_dir, MODEL_SERVER):
        raise ServiceError(
            f"A model server already runs here at {recorded_model_server(settings)} (pid {pid}); "
            f"stop it with Ctrl+C or `{command('down')}`."
        )
    settings = resolve_ports(settings)
    check_port(settings, "serving.port", MODEL_SERVER)
    url = f"http://{settings.host}:{settings.serving.port}"
    record_model_server(settings, url)
    say(f"Starting the model server with {uri}")
    process = _start(settings, uri, detach=detach)
    stop_on_sigterm()
    try:
        _wait_until_it_answers(settings, process, url)
        if note:
            say(note)
        line = curl_line(url, payload)
        if curl_file:
            curl_file.write_text(f"{line}\n")
        say(f"Serving {uri} at {url}; ask it with\n\n{line}\n")
        if detach:
            say(f"Stop it with `{command('down')}`.")
            return 0
        say("Press Ctrl+C to stop.")
        process.wait()
    except KeyboardInterrupt:
        say("Stopped.")
    finally:
        if not detach or sys.exc_info()[0]:
            _stop(process)
    return 0


def predict(settings: Settings, path: str) -> list[str]:
    """Send a file to the running model server.

    Parameters
    ----------
    path : str
        CSV with a header, or JSON: a list of records, or one of MLflow's forms.

    Returns
    -------
    list of str
        A prediction for each row.

    Raises
    ------
    ConfigError
        The file can't be read, or does not fit the model.
    ServiceError
        No model server answers.
    """
    body, content_type = _read_input(config.user_path(path))
    return _ask(settings, body, content_type, path)


def ask(settings: Settings, table: DataFrame) -> list[str]:
    """Send a table to the running model server.

    Parameters
    ----------
    table : DataFrame
        The model's columns.

    Returns
    -------
    list of str
        A prediction for each row.

    Raises
    ------
    ConfigError
        The table does not fit the model.
    ServiceError
        No model server answers.
    """
    return _ask(settings, table.to_parquet(index=False), PARQUET, "The table")


def _ask(settings: Settings, body: bytes, content_type: str, name: str) -> list[str]:
    import httpx  # noqa: PLC0415 - only here

    url = model_server_url(settings)
    if not url:
        serve = command("serve", "--run-id", "ID")
        raise ServiceError(f"No model server answers; start one with `{serve}`.")
    try:
        answer = httpx.post(
            f"{url}/invocations",
            content=body,
            headers={"Content-Type": content_type},
            timeout=60,
            trust_env=False,
        )
    except httpx.TransportError as error:
        raise ServiceError(
            f"The model server at {url} did not answer: {error}; see "
            f"`{command('logs', MODEL_SERVER)}`."
        ) from error
    if answer.status_code == 400:
        raise ConfigError(  # whose message ends with what to do
            f"{name} does not fit the model: {answer.json()['message']}"
        )
    if answer.is_error:
        raise ServiceError(
            f"The model server answered with status {answer.status_code}; see "
            f"`{command('logs', MODEL_SERVER)}`."
        )
    document = answer.json()
    if note := document.get("note"):
        print(note, file=sys.stderr)  # noqa: T201 - beside the predictions, not among them
    return [str(value) for value in document["predictions"]]


def curl_line(url: str, payload: dict[str, Any]) -> str:
    """Write a command that asks the server for one prediction."""
    return (
        f"curl -s {url}/invocations -H 'Content-Type: application/json' "
        f"-d {shlex.quote(json.dumps(payload))}"
    )


def _find_model(settings: Settings, run_id: str, model_uri: str) -> tuple[str, dict[str, Any], str]:
    """Return the model's URI, one row that its signature accepts, and its note."""
    import mlflow  # noqa: PLC0415 - slow
    from mlflow.exceptions import MlflowException  # noqa: PLC0415

    from terraflow.tracking import runs as tracking  # noqa: PLC0415

    if run_id:
        tracking.find_run(settings, run_id)
        model_uri = f"runs:/{run_id}/model"
    elif model_uri.startswith(("models:", "runs:")):
        tracking.connect(settings)
    try:
        model = mlflow.models.Model.load(model_uri)
    except (MlflowException, OSError, ValueError) as error:
        text = first_line(error)
        hint = f"; run {run_id} logged no model named model" if run_id else ""
        raise ConfigError(
            f"Model {model_uri} can't be read: {text}{hint}; name a model that the registry page "
            f"of {settings.mlflow_url} lists."
        ) from error
    schema = model.get_input_schema()
    if not schema or not schema.has_input_names():
        raise ConfigError(
            f"Model {model_uri} has no signature with column names; log it with one "
            "(mlflow.models.infer_signature) and serve that."
        )
    note = str((model.metadata or {}).get("note", ""))
    return model_uri, {"dataframe_split": _example(model_uri, model, schema)}, note


def _example(model_uri: str, model: Any, schema: Any) -> dict[str, Any]:
    """Take the first row of the model's input example, or make one of the signature's types."""
    from mlflow.exceptions import MlflowException  # noqa: PLC0415
    from mlflow.models.utils import load_serving_example  # noqa: PLC0415

    names = schema.input_names()
    row = [("text" if kind.name == "string" else 0.5) for kind in schema.input_types()]
    if model.saved_input_example_info:
        with contextlib.suppress(MlflowException, OSError, ValueError):
            example = json.loads(load_serving_example(model_uri)).get("dataframe_split", {})
            if example.get("columns") == names:
                row = [round(v, 4) if isinstance(v, float) else v for v in example["data"][0]]
    return {"columns": names, "data": [row]}


def _start(settings: Settings, uri: str, *, detach: bool) -> subprocess.Popen[bytes]:
    starter = "nobody" if detach else "parent"
    supervise = ["terraflow.process.supervise", "--starter", starter, MODEL_SERVER]
    serve = ["terraflow.serving.server", "--model-uri", uri]
    where = ["--host", settings.host, "--port", str(settings.serving.port)]
    command = [sys.executable, "-m", *supervise, sys.executable, "-m", *serve, *where]
    return subprocess.Popen(
        command,
        env=environment(settings) | {"TERRAFLOW_ECHO": "0"},
        cwd=config.project_root(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def _wait_until_it_answers(settings: Settings, process: subprocess.Popen[bytes], url: str) -> None:
    deadline = time.monotonic() + START_S
    while not probes.answers(f"{url}/health"):
        state = read_state(settings.run_dir, MODEL_SERVER)
        died = state and state.phase in ("restarting", "failed")
        if died or process.poll() is not None or time.monotonic() > deadline:
            why = f"no answer in {START_S:.0f} s"
            if (code := process.poll()) is not None:
                why = f"its supervisor ended with code {code}"
            if state and state.reason:
                why = state.reason
            raise ServiceError(
                f"The model server did not start: {why}; see `{command('logs', MODEL_SERVER)}`."
            )
        time.sleep(0.2)


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        process.wait()


def _read_input(path: Path) -> tuple[bytes, str]:
    try:
        body = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path} can't be read: {error.strerror}; name a CSV or JSON.") from error
    if path.suffix.lower() == ".csv":
        return body, "text/csv"
    if path.suffix.lower() != ".json":
        raise ConfigError(f"{path.name} is neither .csv nor .json; convert it to one of these.")
    try:
        document = json.loads(body)
    except ValueError as error:
        raise ConfigError(f"{path} is not valid JSON: {error}; correct it.") from error
    if isinstance(document, list):
        document = {"dataframe_records": document}
    return json.dumps(document).encode(), "application/json"
