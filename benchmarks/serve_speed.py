"""Rows per second of /invocations: the model server against `mlflow models serve` as it comes.

    python benchmarks/serve_speed.py --folder /tmp/bench

Both serve the same random forest, one after the other, on free ports of the loopback interface.
"""

from __future__ import annotations

import argparse
import json
import socket
import subprocess
import sys
import time
from pathlib import Path
from statistics import median, quantiles

import httpx
import mlflow
import numpy as np
import pandas as pd
from sklearn.ensemble import RandomForestClassifier

FEATURES, CLASSES, SAMPLES = 56, 5, 5000
#: Rows a request, and requests.
LOADS = ((1, 200), (100, 100), (10_000, 10))


def save_model(folder: Path) -> Path:
    """Save a forest of the size of the simulated area's."""
    path = folder / "model"
    if not path.exists():
        random = np.random.default_rng(0)
        names = [f"feature_{i:02}" for i in range(FEATURES)]
        values = pd.DataFrame(random.random((SAMPLES, FEATURES)), columns=names)
        classes = [f"class {n}" for n in random.integers(0, CLASSES, SAMPLES)]
        forest = RandomForestClassifier(200, min_samples_leaf=2, random_state=0, n_jobs=-1)
        forest.fit(values, classes).set_params(n_jobs=1)
        mlflow.sklearn.save_model(
            forest, path, input_example=values.head(3),
            skops_trusted_types=["sklearn.tree._tree.Tree"],
        )  # fmt: skip
    return path


def measure(url: str) -> dict[str, dict[str, float]]:
    """Ask a server with each load; seconds of a request and rows per second."""
    random = np.random.default_rng(1)
    figures = {}
    with httpx.Client(timeout=300, trust_env=False) as client:
        for rows, requests in LOADS:
            columns = [f"feature_{i:02}" for i in range(FEATURES)]
            table = {"columns": columns, "data": random.random((rows, FEATURES)).tolist()}
            body = json.dumps({"dataframe_split": table}).encode()
            headers = {"Content-Type": "application/json"}
            seconds = []
            for number in range(requests + 2):
                began = time.monotonic()
                client.post(f"{url}/invocations", content=body, headers=headers).raise_for_status()
                if number > 1:  # the first two warm it up
                    seconds.append(time.monotonic() - began)
            figures[str(rows)] = {
                "rows_per_s": round(rows / median(seconds), 1),
                "p50_ms": round(1000 * median(seconds), 1),
                "p99_ms": round(1000 * quantiles(seconds, n=100)[98], 1),
            }
    return figures


def serve(command: list[str], port: int) -> dict[str, dict[str, float]]:
    """Start a server, measure it and end it."""
    url = f"http://127.0.0.1:{port}"
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            _wait(url, server)
            return measure(url)
        finally:
            server.terminate()


def _wait(url: str, server: subprocess.Popen[bytes]) -> None:
    while server.poll() is None:
        try:
            if httpx.get(f"{url}/ping", trust_env=False).is_success:
                return
        except httpx.TransportError:
            time.sleep(0.1)
    raise SystemExit("The server ended before it answered.")


def main() -> None:
    """Measure both and print a line of JSON for each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True)
    folder = parser.parse_args().folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    model = str(save_model(folder))
    for name in ("terraflow", "mlflow"):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        where = ["--host", "127.0.0.1", "--port", str(port)]
        ours = [sys.executable, "-m", "terraflow.scoring", "--model-uri", model, *where]
        theirs = [sys.executable, "-m", "mlflow", "models", "serve", "-m", model, *where,
                  "--env-manager", "local"]  # fmt: skip
        figures = serve(ours if name == "terraflow" else theirs, port)
        print(json.dumps({"name": name, "rows": figures}), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
