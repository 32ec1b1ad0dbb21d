"""The stack beside its parts at their defaults: seconds to start and stop, memory, idle load.

    python benchmarks/stack_speed.py --folder /tmp/bench [--runs 3]

Both run on free ports, in turn, with state of their own that was prepared before; one start of each
that does not count warms the caches.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil

from terraflow import probes
from terraflow.console import stop_on_sigterm
from terraflow.stack import minio
from terraflow.stack.status import memory_mb
from terraflow.state import manager_pid

__all__ = ["PROCFILE", "ROOT", "TerraFlow", "free_ports", "measure"]

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
SETTLE_S, IDLE_S, START_S, STOP_S = 10, 30, 600, 60
PORTS = ("airflow", "mlflow", "jupyter", "minio", "minio_console", "serving")
#: Each part as one starts it first. What is given is where to listen and that root may.
PROCFILE = """\
airflow-api: exec airflow api-server --host {host} --port {airflow}
airflow-scheduler: exec airflow scheduler
airflow-dag-processor: exec airflow dag-processor
airflow-triggerer: exec airflow triggerer
mlflow: exec mlflow server --port {mlflow}
jupyter: exec jupyter lab --no-browser --allow-root --port {jupyter}
minio: exec minio server --address {host}:{minio} --console-address {host}:{minio_console} data
"""
#: Tasks that start no service and read no model, beside a running stack.
TASKS = (["--list"], ["status"], ["logs", "mlflow"], ["setup"], ["doctor"])
HIDDEN = (
    "TERRAFLOW_",
    "AWS_",
    "AIRFLOW",
    "_AIRFLOW",
    "MLFLOW_",
    "_MLFLOW",
    "JUPYTER",
    "MINIO_",
    "IPYTHON",
)


class Naive:
    """The parts under honcho, at their defaults."""

    def __init__(self, folder: Path, ports: dict[str, int]) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "Procfile").write_text(PROCFILE.format(host="127.0.0.1", **ports))
        self.environment = _environment() | {
            "AIRFLOW_HOME": str(folder / "airflow"),
            "AIRFLOW__API__BASE_URL": f"http://localhost:{ports['airflow']}",
        }
        self._run("airflow", "db", "migrate")

    def start(self) -> None:
        """Start them and return at once."""
        with (self.folder / "honcho.log").open("wb") as log:
            self.honcho = subprocess.Popen(
                [BIN / "honcho", "start"],
                stdout=log,
                stderr=log,
                start_new_session=True,
                **self._where,
            )

    @property
    def pid(self) -> int:
        """Process above all others."""
        return self.honcho.pid

    def stop(self) -> None:
        """Do what Ctrl+C does, and wait for honcho."""
        self.honcho.terminate()
        self.honcho.wait(STOP_S)

    @property
    def _where(self) -> dict[str, Any]:
        return {"cwd": self.folder, "env": self.environment, "stdin": subprocess.DEVNULL}

    def _run(self, *command: str) -> None:
        subprocess.run(
            [BIN / command[0], *command[1:]],
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            **self._where,
        )


class TerraFlow:
    """`invoke up --detach` and `invoke down`."""

    def __init__(self, folder: Path, ports: dict[str, int]) -> None:
        self.var = folder / "var"
        self.environment = _environment() | {
            "TERRAFLOW_VAR": str(self.var),
            "TERRAFLOW_ARTIFACTS": str(folder / "artifacts"),
            **{f"TERRAFLOW_{name.upper()}_PORT": str(port) for name, port in ports.items()},
        }
        self.run(["setup"])

    def start(self) -> None:
        """Start it and return at once."""
        self._start(["up", "--detach"])

    @property
    def pid(self) -> int:
        """Process above all others."""
        pid = manager_pid(self.var / "run")
        if not pid:
            raise SystemExit(f"The stack in {self.var} does not run; see its logs.")
        return pid

    def stop(self) -> None:
        """Stop it by its task."""
        self.run(["down"])

    def run(self, words: list[str]) -> float:
        """Run a task; return its seconds."""
        began = time.monotonic()
        code = self._start(words).wait()
        if code:
            raise SystemExit(f"invoke {' '.join(words)} ended with code {code}.")
        return time.monotonic() - began

    def _start(self, words: list[str]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [BIN / "invoke", *words],
            cwd=ROOT,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )


def measure(folder: Path, runs: int = 3) -> dict[str, Any]:
    """Start, watch and stop both in turn.

    Returns
    -------
    dict
        "naive" and "terraflow": lists with a figure for each run, by ready_s, memory_mb,
        idle_cores, stop_s and, of TerraFlow, the seconds of tasks.
    """
    ports = free_ports()
    stacks = {
        "naive": Naive(folder / "naive", ports),
        "terraflow": TerraFlow(folder / "terraflow", ports),
    }
    figures: dict[str, dict[str, list[float]]] = {name: {} for name in stacks}
    for number in range(runs + 1):
        for name, stack in stacks.items():
            with _running(stack, ports) as taken:
                if number == 0:
                    continue
                _watch(stack, taken)
            for key, value in taken.items():
                figures[name].setdefault(key, []).append(round(value, 3))
    return figures


@contextmanager
def _running(stack: Naive | TerraFlow, ports: dict[str, int]) -> Iterator[dict[str, float]]:
    """Start a stack, wait until all of it answers, and stop it; yields its figures."""
    began = time.time()
    stack.start()
    figures: dict[str, float] = {}
    try:
        while not _healthy(ports, began):
            if time.time() - began > START_S:
                raise SystemExit(f"{type(stack).__name__} did not answer in {START_S} s.")
            time.sleep(0.1)
        figures["ready_s"] = time.time() - began
        yield figures
    finally:
        processes = _tree(stack.pid)
        stopped = time.monotonic()
        stack.stop()
        while any(map(_is_alive, processes)) and time.monotonic() - stopped < STOP_S:
            time.sleep(0.02)
        figures["stop_s"] = time.monotonic() - stopped
        for process in filter(_is_alive, processes):
            process.kill()


def _watch(stack: Naive | TerraFlow, figures: dict[str, float]) -> None:
    time.sleep(SETTLE_S)
    figures["memory_mb"] = memory_mb(stack.pid)
    before = _cpu_s(stack.pid)
    time.sleep(IDLE_S)
    figures["idle_cores"] = (_cpu_s(stack.pid) - before) / IDLE_S
    if isinstance(stack, TerraFlow):
        figures |= {f"invoke {' '.join(words)}": stack.run(words) for words in TASKS}


def _healthy(ports: dict[str, int], began: float) -> bool:
    """Ask every health endpoint; Airflow's components for a heartbeat since the start."""
    at = {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
    for url in (
        at["minio"] + "/minio/health/ready",
        at["mlflow"] + "/health",
        at["jupyter"] + "/api",
    ):
        if not probes.answers(url):
            return False
    health = probes.get_json(at["airflow"] + "/api/v2/monitor/health") or {}
    for name in ("scheduler", "dag_processor", "triggerer"):
        component = health.get(name) or {}
        beat = component.get(f"latest_{name}_heartbeat")
        if component.get("status") != "healthy" or not beat:
            return False
        if datetime.fromisoformat(beat).timestamp() < began:
            return False
    return True


def _tree(pid: int) -> list[psutil.Process]:
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


def _is_alive(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):  # a zombie has ended; whoever adopted it may be slow
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def _cpu_s(pid: int) -> float:
    """Seconds of CPU of a tree, with those of its processes that have ended."""
    total = 0.0
    for process in _tree(pid):
        with suppress(psutil.Error):
            total += sum(process.cpu_times()[:4])
    return total


def free_ports() -> dict[str, int]:
    """Find a free port for each service."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in PORTS]
        return {name: s.getsockname()[1] for name, s in zip(PORTS, sockets, strict=True)}


def _environment() -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(HIDDEN)}
    return kept | {"PATH": os.pathsep.join([str(BIN), kept["PATH"], str(minio.cached().parent)])}


def main() -> None:
    """Measure, and print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    stop_on_sigterm()  # so that what runs is stopped
    figures = measure(options.folder.absolute() / "stack", options.runs)
    print(json.dumps(figures, indent=1))  # noqa: T201


if __name__ == "__main__":
    main()
