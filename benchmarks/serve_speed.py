"""Rows per second of /invocations: the model server against `mlflow models serve` as it comes.

    python benchmarks/serve_speed.py --folder /tmp/bench [--model random_forest mlp]

Both serve the same model, turn by turn, on free ports of the loopback interface. The model is the
project's model, fitted to random values of as many features and classes as the project has,
and logged as `train` logs it.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import httpx
import mlflow
import numpy as np
import pandas as pd

from terraflow.eo.config.project_file import ProjectConfig, load_config
from terraflow.eo.features.pixel import feature_names
from terraflow.eo.features.time.periods import observed_periods
from terraflow.eo.hooks import record_hooks
from terraflow.eo.models.choice import choose_model, fit, one_thread
from terraflow.eo.models.model import ModelInfo, log_model
from terraflow.eo.project import Project, find_project

#: Rows a request, and requests a turn.
LOADS = ((1, 200), (100, 100), (10_000, 10))
TURNS = 3
SERVERS = ("terraflow", "mlflow")

Figures = dict[str, dict[str, float]]


def measure(folder: Path, model: str = "") -> dict[str, Any]:
    """Measure both servers, turn by turn; the median of the turns, and the ratio ours to theirs.

    Parameters
    ----------
    model : str
        A [model] name instead of the project's own.
    """
    folder = folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    project = find_project()
    config = load_config(project=project.name)
    if model and model != config.model.name:
        chosen = config.model.model_copy(update={"name": model, "parameters": {}})
        config = config.model_copy(update={"model": chosen})
    path, names = save_model(project, config, folder)
    turns: dict[str, list[Figures]] = {name: [] for name in SERVERS}
    for _ in range(TURNS):
        for name, figures in turns.items():
            with serve(name, path) as url:
                figures.append(ask(url, names))
    told = {name: _medians(figures) for name, figures in turns.items()}
    ours, theirs = (told[name] for name in SERVERS)
    ratios = {
        rows: round(ours[rows]["rows_per_s"] / theirs[rows]["rows_per_s"], 2) for rows in ours
    }
    return {"model": config.model.name, **told, "ratio_rows_per_s": ratios}


def save_model(project: Project, config: ProjectConfig, folder: Path) -> tuple[Path, list[str]]:
    """Fit and log the project's model; return where it lies and its features."""
    hooks = project.hooks
    days = pd.date_range(config.data.start, config.data.end)
    periods = observed_periods(days.to_numpy(), config.features.composites)
    names = feature_names(list(config.data.bands), config.features, periods)
    random = np.random.default_rng(0)
    classes = np.repeat(list(config.map.colours), config.labels.samples_per_class)
    values = pd.DataFrame(random.random((len(classes), len(names)), "float32"), columns=names)
    with one_thread():
        choice = choose_model(config.model, hooks.models, seed=config.seed)
        estimator = fit(choice.make(), values, pd.Series(classes))
    mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
    found = mlflow.get_experiment_by_name("serve")
    number = found.experiment_id if found else mlflow.create_experiment("serve", folder.as_uri())
    with mlflow.start_run(experiment_id=number):
        info = ModelInfo(
            levels=sorted(config.map.colours),
            features=names,
            periods=periods,
            config=config.model_dump(mode="json"),
            seed=config.seed,
            hooks=record_hooks(hooks, config.model.name),
        )
        logged = log_model(estimator, values, choice, info, package=hooks.package)
    path = folder / f"serve_{config.model.name}"
    shutil.rmtree(path, ignore_errors=True)  # of an earlier run, maybe with other parameters
    mlflow.artifacts.download_artifacts(logged.model_uri, dst_path=str(path))
    return path, names


@contextmanager
def serve(name: str, model: Path) -> Iterator[str]:
    """Start a server in a process group of its own; end all of it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    where = ["--host", "127.0.0.1", "--port", str(port)]
    command = {
        "terraflow": ["terraflow.serving.app.server", "--model-uri", str(model), *where],
        "mlflow": ["mlflow", "models", "serve", "-m", str(model), *where, "--env-manager", "local"],
    }[name]
    server = subprocess.Popen(
        [sys.executable, "-m", *command],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        # where mlflow looks for uvicorn
        env=os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"},
    )
    url = f"http://127.0.0.1:{port}"
    try:
        _wait(url, server)
        yield url
    finally:
        for kind in (signal.SIGTERM, signal.SIGKILL):  # MLflow's child need not end with it
            with suppress(ProcessLookupError):
                os.killpg(server.pid, kind)
            with suppress(subprocess.TimeoutExpired):
                server.wait(timeout=10)


def ask(url: str, names: list[str]) -> Figures:
    """Ask a server with each load; rows per second, and milliseconds of a request."""
    random = np.random.default_rng(1)
    headers = {"Content-Type": "application/json"}
    figures = {}
    with httpx.Client(timeout=300, trust_env=False) as client:
        for rows, requests in LOADS:
            table = {"columns": names, "data": random.random((rows, len(names))).tolist()}
            body = json.dumps({"dataframe_split": table}).encode()
            seconds = []
            for number in range(requests + 2):
                began = time.monotonic()
                client.post(f"{url}/invocations", content=body, headers=headers).raise_for_status()
                if number > 1:  # the first two warm it up
                    seconds.append(time.monotonic() - began)
            figures[str(rows)] = {
                "rows_per_s": rows / median(seconds),
                "p50_ms": 1000 * median(seconds),
                "p99_ms": 1000 * quantiles(seconds, n=100, method="inclusive")[98],
            }
    return figures


def _medians(turns: list[Figures]) -> Figures:
    return {
        rows: {key: round(median(turn[rows][key] for turn in turns), 1) for key in row}
        for rows, row in turns[0].items()
    }


def _wait(url: str, server: subprocess.Popen[bytes]) -> None:
    while server.poll() is None:
        try:
            if httpx.get(f"{url}/ping", trust_env=False).is_success:
                return
        except httpx.TransportError:
            time.sleep(0.1)
    raise SystemExit("The server ended before it answered.")


def main() -> None:
    """Measure with each model and print a line of JSON for it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--model", nargs="+", default=[""], help="[model] names; the project's")
    options = parser.parse_args()
    for model in options.model:
        print(json.dumps(measure(options.folder, model)), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
