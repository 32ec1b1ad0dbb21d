"""Model servers as processes of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness import wait_for
from terraflow import probes

NAME = "Wälder 1"


@contextmanager
def running(
    model: Path, folder: Path, port: int, python: str = sys.executable, **options: object
) -> Iterator[str]:
    """Start a server with these options, by a Python that has it; give its address."""
    words = ["--model-uri", str(model), "--host", "127.0.0.1", "--port", str(port)]
    words += ["--name", NAME, "--version", "3", "--options", json.dumps(options)]
    own = {"TERRAFLOW_STORE": "local", "TERRAFLOW_VAR": str(folder / "var")}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [python, "-m", "terraflow.serving.app.server", *words],
            env=os.environ | own | {"TERRAFLOW_OF_A_NEWER_RELEASE": "1"},
            stdout=log,
            stderr=log,
        )
    url = f"http://127.0.0.1:{port}"

    def ready() -> bool:
        assert process.poll() is None, (folder / "log").read_text()
        return probes.answers(f"{url}/health")

    try:
        wait_for(ready, 120)
        yield url
    finally:
        process.terminate()
        process.wait(30)
