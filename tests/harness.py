"""The stack as a user meets it: commands in a shell, on free ports, with state of its own."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from terraflow.settings import Settings
from terraflow.stack.databases.addresses import socket_folder

ROOT = Path(__file__).resolve().parents[1]
#: Of the simulated area, a square of 256 pixels with each class in six blocks or more.
A_PART = "area = [15.03308, 46.02475, 15.06618, 46.04781]\n"
PORTS = (
    "AIRFLOW_PORT",
    "MLFLOW_PORT",
    "JUPYTER_PORT",
    "MINIO_PORT",
    "MINIO_CONSOLE_PORT",
    "SERVING_PORT",
)


def wait_for(condition: Callable[[], Any], seconds: float = 60, every_s: float = 0.1) -> Any:
    """Return the condition's first true value; asking often takes the time of what is awaited."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not true within {seconds} s"
        time.sleep(every_s)
    return value


def hear_ctrl_c() -> None:
    """Let a new process hear Ctrl+C, which what runs in the background ignores."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def holders(folder: Path, *values: str) -> set[Path]:
    """Return the files in a folder that hold one of the values."""
    found = set()
    for file in [p for p in folder.rglob("*") if p.is_file()]:
        with suppress(FileNotFoundError):  # a step that runs removes its temporary files
            content = file.read_bytes()
            if any(value.encode() in content for value in values):
                found.add(file)
    return found


@contextmanager
def open_folder() -> Iterator[Path]:
    """Make a folder that all may enter: PostgreSQL never runs as root."""
    folder = Path(tempfile.mkdtemp(prefix="terraflow-test-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


class Stack:
    """One state folder; every command is a process of its own."""

    def __init__(self, folder: Path, **variables: str) -> None:
        self.var = folder / "var"
        self.artifacts = folder / "artifacts"
        self.config = folder / "config"
        self.config.mkdir(parents=True, exist_ok=True)
        if not (own := self.config / "land_cover.toml").exists():
            own.write_bytes((ROOT / "config" / "land_cover.toml").read_bytes())
        hidden = ("TERRAFLOW_", "AWS_", "MLFLOW_", "AIRFLOW", "INIT_CWD")
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith(hidden)}
        self.environment |= {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "TERRAFLOW_VAR": str(self.var),
            "TERRAFLOW_ARTIFACTS": str(self.artifacts),
            "TERRAFLOW_CONFIG_DIR": str(self.config),
            **{f"TERRAFLOW_{name}": "0" for name in PORTS},
            **variables,
        }

    def run(
        self, *words: str, timeout: float = 300, **more: str
    ) -> subprocess.CompletedProcess[str]:
        """Run `invoke WORDS`; what it prints on both streams is in stdout."""
        return subprocess.run(
            [sys.executable, "-m", "invoke", *words],
            cwd=ROOT,
            env=self.environment | more,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
            check=False,
        )

    def start(self, *words: str, log: Path, command: str = "invoke") -> subprocess.Popen[bytes]:
        """Start a command as a terminal would: in a process group of its own."""
        with log.open("wb") as output:
            return subprocess.Popen(
                [sys.executable, "-m", command, *words],
                cwd=ROOT,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=hear_ctrl_c,
            )

    def ok(self, *words: str, timeout: float = 300, **more: str) -> str:
        """Run a command that must succeed; return what it printed."""
        done = self.run(*words, timeout=timeout, **more)
        assert done.returncode == 0, done.stdout
        return done.stdout

    def fails(self, *words: str, code: int = 1, **more: str) -> str:
        """Run a command that must fail without a traceback; return what it printed."""
        done = self.run(*words, **more)
        assert done.returncode == code, done.stdout
        assert "Traceback" not in done.stdout
        return done.stdout

    def services(self, **more: str) -> dict[str, dict[str, Any]]:
        """What `status --json` says, by service."""
        document = json.loads(self.ok("status", "--json", **more))
        return {row["service"]: row for row in document["services"]}

    def credentials(self) -> dict[str, str]:
        """What `status --show-credentials` says."""
        document = json.loads(self.ok("status", "--json", "--show-credentials"))
        return dict(document["credentials"])

    def settings(self) -> dict[str, Any]:
        """The settings that the running stack resolved."""
        return dict(json.loads((self.var / "run" / "settings.json").read_text()))

    def url(self, service: str) -> str:
        """Address of a service."""
        return f"http://127.0.0.1:{self.settings()[service]['port']}"

    def track(self) -> None:
        """Let MLflow's client in this process ask the stack's server."""
        import mlflow  # slow, and many tests do without

        header = (self.var / "mlflow_token").read_text()
        os.environ["MLFLOW_TRACKING_TOKEN"] = header.split()[-1]
        mlflow.set_tracking_uri(self.url("mlflow"))
        mlflow.set_registry_uri(self.url("mlflow"))  # which another test may have set

    def processes(self) -> list[psutil.Process]:
        """Every process that has this state folder in its environment."""
        found = []
        for process in psutil.process_iter():
            try:
                mine = process.environ().get("TERRAFLOW_VAR") == str(self.var)
                if mine and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def take_databases(self, migrated: Path) -> None:
        """Take a copy of the databases in another state folder."""
        for database in ("airflow", "mlflow"):
            (self.var / database).mkdir(parents=True)
            for path in (migrated / database).glob(f"{database}.*"):
                shutil.copy2(path, self.var / database)

    def shrink(self) -> None:
        """Give the project a quarter of its area, fewer samples and a small forest."""
        self.train_quickly()
        path = self.config / "land_cover.toml"
        text = path.read_text().replace("[data]\n", f"[data]\n{A_PART}", 1)
        text = text.replace('name = "mlp"', 'name = "random_forest"')
        path.write_text(text.replace("hidden_layer_sizes = [64]", "n_estimators = 20"))

    def train_quickly(self) -> None:
        """Give the project fewer samples."""
        path = self.config / "land_cover.toml"
        text = path.read_text()
        path.write_text(text.replace("samples_per_class = 1000", "samples_per_class = 200"))

    def stop_model_server(self) -> None:
        """Stop what `serve --detach` left running."""
        for process in self.processes():
            with suppress(psutil.NoSuchProcess):  # which the one before may have ended
                if {"terraflow.process.supervise", "model-server"} <= set(process.cmdline()):
                    process.terminate()
                    process.resume()  # which a test may have suspended
                    process.wait(10)

    def wait_until_gone(self, seconds: float) -> None:
        """Fail if a process is left after so many seconds."""
        deadline = time.monotonic() + seconds
        while left := self.processes():
            told = [" ".join(p.cmdline()) for p in left if p.is_running()]
            assert time.monotonic() < deadline, told
            time.sleep(0.1)

    def close(self) -> None:
        """Stop whatever still runs."""
        self.run("down")
        for process in self.processes():
            process.kill()
        shutil.rmtree(socket_folder(Settings(var=self.var)), ignore_errors=True)


#: Stacks that the tests of a group share; they end with it.
SHARED: list[Stack] = []


@contextmanager
def shared(stack: Stack) -> Iterator[Stack]:
    """Keep a stack for the tests of a group."""
    SHARED.append(stack)
    try:
        yield stack
    finally:
        stack.close()
        SHARED.remove(stack)


def interrupt(process: subprocess.Popen[bytes]) -> None:
    """Press Ctrl+C."""
    os.killpg(process.pid, signal.SIGINT)


def run_id(output: str) -> str:
    """Find the run id in what `train` printed."""
    found = re.search(r"^Run (\w+)", output, re.MULTILINE)
    assert found, output
    return found[1]
