"""Start the model server, and wait until it answers."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from terraflow import config, probes
from terraflow.console import command, say, stop_on_sigterm
from terraflow.credentials import store_environment, token_file
from terraflow.errors import ConfigError, ServiceError
from terraflow.serving.models import FoundModel, fetch, find_model
from terraflow.settings import Settings, resolve_ports
from terraflow.stack.environment import environment
from terraflow.stack.ports import check_port
from terraflow.stack.services import MODEL_SERVER, record_model_server, recorded_model_server
from terraflow.state import manager_pid, read_state

__all__ = ["curl_line", "serve"]

START_S = 120.0


def serve(
    settings: Settings,
    *,
    run_id: str,
    model_uri: str,
    curl: str = "",
    trust: bool = False,
    detach: bool,
) -> int:
    """Serve a model on the serving port; in the foreground until Ctrl+C.

    Parameters
    ----------
    run_id : str
        Serve this run's model.
    model_uri : str
        Or any model URI that MLflow knows.
    curl : str
        A file, relative to the folder the user stands in, for the command that asks the server.
    trust : bool
        Load it even if that runs code which nobody here has vouched for.

    Raises
    ------
    ConfigError
        Neither or both are given, there is no such run or model, or no such folder for the file;
        or the model runs code.
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
    model = find_model(settings, run_id, model_uri)
    if pid := manager_pid(settings.run_dir, MODEL_SERVER):
        raise ServiceError(
            f"A model server already runs here at {recorded_model_server(settings)} (pid {pid}); "
            f"stop it with Ctrl+C or `{command('down')}`."
        )
    settings = resolve_ports(settings)
    check_port(settings, "serving.port", MODEL_SERVER)
    url = f"http://{settings.host}:{settings.serving.port}"
    folder = fetch(settings, model, trust=trust)
    record_model_server(settings, url)
    say(f"Starting the model server with {model.shown}")
    process = _start(settings, model, folder, detach=detach)
    stop_on_sigterm()
    try:
        _wait_until_it_answers(settings, process, url)
        if model.note:
            say(model.note)
        token = token_file(settings) if settings.serving.token else None
        line = curl_line(url, model.example, token)
        if curl_file:
            curl_file.write_text(f"{line}\n")
        say(f"Serving {model.shown} at {url}; ask it with\n\n{line}\n")
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


def curl_line(url: str, payload: dict[str, Any], token_file: Path | None = None) -> str:
    """Write a command that asks the server for one prediction."""
    token = f"-H {shlex.quote(f'@{token_file}')} " if token_file else ""
    return (
        f"curl -s {url}/invocations -H 'Content-Type: application/json' {token}"
        f"-d {shlex.quote(json.dumps(payload))}"
    )


def _start(
    settings: Settings, model: FoundModel, folder: Path, *, detach: bool
) -> subprocess.Popen[bytes]:
    starter = "nobody" if detach else "parent"
    supervise = ["terraflow.process.supervise", "--starter", starter, MODEL_SERVER]
    serve = ["terraflow.serving.app.server", "--model-uri", str(folder)]
    serve += ["--name", model.name, "--version", model.version]
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
