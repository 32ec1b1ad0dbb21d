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
from terraflow.serving.models import check_one, fetch, find_model, is_alias, remove_copies
from terraflow.settings import Settings, resolve_ports
from terraflow.stack.environment import environment
from terraflow.stack.model_server import MODEL_SERVER, ServedModel, Way, recorded_model_server
from terraflow.stack.ports import check_port
from terraflow.state import manager_pid, read_state
from terraflow.tracking.trust import is_ours

__all__ = ["curl_line", "serve"]

START_S = 120.0
#: In which --plain --isolated makes the model's environment, each time.
START_PLAIN_S = 600.0
#: How long it may take to stop by itself.
STOP_S = 10.0
KEEPER = ["terraflow.serving.keeper.keeper"]


def serve(
    settings: Settings,
    *,
    run_id: str,
    model_uri: str,
    curl: str = "",
    trust: bool = False,
    follow: bool = False,
    isolated: bool | None = None,
    maps: bool = False,
    plain: bool = False,
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
    follow : bool
        Serve what the alias of `model_uri` points at, wherever it moves.
    isolated : bool or None
        In an environment of the model's own; None where that differs from the stack's.
    maps : bool
        Answer requests for maps, too.
    plain : bool
        By MLflow's own server, which knows neither limits, token, metrics nor maps.

    Raises
    ------
    ConfigError
        Neither or both models are given, there is no such run or model, or no such folder for the
        file; options contradict each other; or the model runs code.
    ServiceError
        The port is taken, a model server already runs, or it does not start.
    """
    check_one(run_id, model_uri)
    if follow and not is_alias(model_uri):
        raise ConfigError(
            f"{model_uri or f'Run {run_id}'} is no alias, and can not move; name one by --model "
            "models:/NAME@ALIAS."
        )
    if plain:
        _check_plain(settings, follow=follow, maps=maps)
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
    remove_copies(settings)
    alias = model_uri.removeprefix("models:/") if follow else ""
    if plain and isolated and not trust and not is_ours(model.uri):
        raise ConfigError(
            f"Model {model.shown} is not of this stack's registry, and MLflow would make an "
            "environment of the packages that it names; say --trust if you trust who made it."
        )
    served = fetch(settings, model, Way(url, trust, isolated and not plain, maps, alias))
    served.save(settings)
    say(f"Starting the model server with {model.shown}")
    stop_on_sigterm()
    words = _plain_words(settings, served, isolated=bool(isolated)) if plain else KEEPER
    process = _start(settings, words, detach=detach)
    try:
        _wait_until_it_answers(settings, process, url, START_PLAIN_S if plain else START_S)
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


def _check_plain(settings: Settings, *, follow: bool, maps: bool) -> None:
    """Refuse what MLflow's own server can't do."""
    asked = {"--follow": follow, "--maps": maps, "[serving] token": settings.serving.token}
    if wanted := [name for name, is_asked in asked.items() if is_asked]:
        raise ConfigError(
            f"MLflow's own server, which --plain starts, knows nothing of {' and '.join(wanted)}; "
            "leave out one of both."
        )


def _plain_words(settings: Settings, served: ServedModel, *, isolated: bool) -> list[str]:
    where = ["--host", settings.host, "--port", str(settings.serving.port)]
    manager = ["--env-manager", "uv" if isolated else "local"]
    return ["mlflow", "models", "serve", "--model-uri", served.folder, *where, *manager]


def _start(settings: Settings, words: list[str], *, detach: bool) -> subprocess.Popen[bytes]:
    supervise = ["terraflow.process.supervise", "--starter", "nobody" if detach else "parent"]
    python = [sys.executable, "-m"]
    own = {"TERRAFLOW_ECHO": "0", "MLFLOW_ENV_ROOT": str(settings.var / "envs" / ".mlflow")}
    command = [*python, *supervise, MODEL_SERVER, *python, *words]
    return subprocess.Popen(
        command,
        env=environment(settings) | own,
        cwd=config.project_root(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def _wait_until_it_answers(
    settings: Settings, process: subprocess.Popen[bytes], url: str, seconds: float
) -> None:
    deadline = time.monotonic() + seconds
    while not probes.answers(f"{url}/health"):
        state = read_state(settings.run_dir, MODEL_SERVER)
        died = state and state.phase in ("restarting", "failed")
        if died or process.poll() is not None or time.monotonic() > deadline:
            why = f"no answer in {seconds:.0f} s"
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
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:  # a supervisor that hangs; its service ends with it
            process.kill()
            process.wait()
