"""Kill -9 any process of a running stack, with work under way: nothing is lost, nothing is left.

`TERRAFLOW_CHAOS_ROUNDS=60 TERRAFLOW_CHAOS_SEED=7 invoke test -m chaos` for more rounds than the
ten of each change, or other ones.
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import mlflow
import psutil
import pytest

from harness import Stack, wait_for
from terraflow.stack import minio
from terraflow.state import is_same
from terraflow.tracking.abandoned import PID, STARTED

pytestmark = [pytest.mark.chaos, pytest.mark.services]
ROUNDS = int(os.environ.get("TERRAFLOW_CHAOS_ROUNDS", "10"))
SEED = int(os.environ.get("TERRAFLOW_CHAOS_SEED", "1"))
#: Within so many seconds all services answer again, by themselves or after one `up`.
RECOVERY_S = 60.0
#: What runs while something is killed.
WORK = ("nothing", "train", "train --airflow", "map", "map --airflow", "serve", "up --detach")
#: What Airflow calls the process of a task, and the one that watches it.
TASK = re.compile("airflow (supervisor: |worker -- [0-9a-f]{8}-)")
#: Kind of victim to how often it is one, among those that are there.
WEIGHTS = {
    "service": 4,
    "supervisor": 3,
    "honcho": 2,
    "helper": 2,
    "worker": 4,
    "task": 8,
    "command": 2,
    "model server": 2,
}


@dataclass
class Round:
    """What was killed during what, and how long it took to recover."""

    work: str
    kind: str
    signal: str
    victim: str
    seconds: float = 0.0
    by_up: bool = False


@dataclass
class Chaos:
    """A stack that is killed, and what is known of it."""

    stack: Stack
    random: random.Random
    rounds: list[Round] = field(default_factory=list)
    commands: list[tuple[subprocess.Popen[bytes], Path]] = field(default_factory=list)
    finished: set[str] = field(default_factory=set)

    def start(self, work: str) -> None:
        """Begin some work, and let it get somewhere."""
        if work == "serve":
            self.stack.ok("serve", "--model", "models:/land-cover@champion", "--detach")
        elif work != "nothing":
            if work.startswith("up"):
                self.stack.ok("down")
            log = self.stack.var / f"work-{len(self.rounds)}.log"
            more = ("--output", str(self.stack.var / "chaos.tif")) if work == "map" else ()
            self.commands.append((self.stack.start(*work.split(), *more, log=log), log))
        time.sleep(self.random.uniform(0.5, 12))

    def kinds(self) -> dict[str, list[psutil.Process]]:
        """Sort the processes of the stack by what they are."""
        found: dict[str, list[psutil.Process]] = {kind: [] for kind in WEIGHTS}
        services = {row["pid"] for row in self.stack.services().values() if row["pid"]}
        for process in self.stack.processes():
            with suppress(psutil.Error):
                found[self._kind(process, services)].append(process)
        return {kind: some for kind, some in found.items() if some}

    def _kind(self, process: psutil.Process, services: set[int]) -> str:
        words = " ".join(process.cmdline())
        parents = process.parents()
        if process.pid in services:
            return "service"
        if "honcho_start" in words:
            return "helper" if "honcho_start" in " ".join(parents[0].cmdline()) else "honcho"
        if "serving" in words or "model-server" in words:
            return "model server"
        if "terraflow.process.supervise" in words:
            return "supervisor"
        if TASK.search(words):
            return "task"
        return "worker" if {parent.pid for parent in parents} & services else "command"

    def kill(self, work: str) -> Round:
        """Kill one process, and everything that depends on it as its end does."""
        kinds = self.kinds()
        kind = self.random.choices(list(kinds), [WEIGHTS[kind] for kind in kinds])[0]
        victim = self.random.choice(kinds[kind])
        number = self.random.choice([signal.SIGKILL] * 4 + [signal.SIGSTOP])
        if kind == "task":  # suspended, it would run into its time limit, of hours
            number = signal.SIGKILL
        told = Round(work, kind, number.name, " ".join(victim.cmdline())[:100])
        with suppress(psutil.NoSuchProcess):
            victim.send_signal(number)
        self.rounds.append(told)
        return told

    def recover(self, told: Round) -> None:
        """Wait until all services answer, or start the stack once."""
        began = time.monotonic()
        time.sleep(2)
        while not self.is_well():
            passed = time.monotonic() - began
            gone = not any("honcho_start" in " ".join(p.cmdline()) for p in self.stack.processes())
            if not told.by_up and (gone or passed > RECOVERY_S / 2):
                told.by_up = True
                self.stack.ok("down")
                self.stack.ok("up", "--detach")
            assert passed < RECOVERY_S + 60 * told.by_up, told
            time.sleep(0.5)
        told.seconds = time.monotonic() - began

    def is_well(self) -> bool:
        return {row["state"] for row in self.stack.services().values()} == {"ready"}

    def end_work(self) -> None:
        """Let commands end: by themselves, or by Ctrl+C."""
        for command, log in self.commands:
            with suppress(ProcessLookupError):
                os.killpg(command.pid, signal.SIGCONT)  # it may be the one that was suspended
            with suppress(subprocess.TimeoutExpired):
                command.wait(200)
            if command.poll() is None:
                os.killpg(command.pid, signal.SIGINT)
                command.wait(30)
            said = log.read_text()
            assert command.returncode in (0, 1, 130, -signal.SIGKILL), said
            assert "Traceback" not in said, said
        self.commands.clear()
        self.stack.stop_model_server()

    def check(self) -> None:
        """See that databases are whole, no run is left running, and all objects can be read."""
        self.stack.ok("status")
        for database in ("airflow/airflow.db", "mlflow/mlflow.db"):
            with closing(sqlite3.connect(self.stack.var / database)) as connection:
                assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        self.stack.track()
        client = mlflow.MlflowClient()
        experiments = [each.experiment_id for each in client.search_experiments()]
        open_runs = client.search_runs(experiments, "attributes.status = 'RUNNING'")
        tags = [run.data.tags for run in open_runs]  # a DAG's task may have been begun anew
        assert all(is_same(int(t[PID]), float(t[STARTED])) for t in tags), tags
        done = client.search_runs(experiments, "attributes.status = 'FINISHED'")
        before, self.finished = self.finished, {run.info.run_id for run in done}
        assert before <= self.finished
        version = client.get_model_version_by_alias("land-cover", "champion")
        assert client.download_artifacts(version.run_id, "", str(self.stack.var / "tmp"))


@pytest.fixture(scope="module")
def chaos(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chaos]:
    store = "minio" if minio.find() else "local"
    folder = tmp_path_factory.mktemp("chaos")
    stack = Stack(folder, TERRAFLOW_STORE=store, TERRAFLOW_SERVICES_HUNG_S="15")
    stack.train_quickly()
    try:
        stack.ok("up", "--detach")
        stack.ok("train", timeout=600)
        stack.ok("train", "--airflow", timeout=600)  # what is killed later works without
        yield Chaos(stack, random.Random(SEED))
    finally:
        stack.close()


@pytest.mark.timeout(300 + 300 * ROUNDS)
def test_kills_lose_nothing_and_leave_nothing(chaos: Chaos) -> None:
    for number in range(ROUNDS):
        work = chaos.random.choice(WORK)
        chaos.start(work)
        told = chaos.kill(work)
        row = f"{number + 1:>3} {told.work:<16} {told.signal} {told.kind:<13}"
        sys.stdout.write(f"{row} {told.victim}\n")
        sys.stdout.flush()  # before anything fails
        chaos.recover(told)
        chaos.end_work()
        wait_for(chaos.is_well, RECOVERY_S)
        chaos.check()
        sys.stdout.write(f"    {told.seconds:5.1f} s {'by up' if told.by_up else ''}\n")
    chaos.stack.ok("map", "--output", str(chaos.stack.var / "last.tif"))  # all images can be read
    chaos.stack.ok("down")
    chaos.stack.wait_until_gone(5)
    seconds = sorted(told.seconds for told in chaos.rounds)
    summary = {"rounds": ROUNDS, "median_s": median(seconds), "longest_s": seconds[-1]}
    sys.stdout.write(f"{json.dumps(summary)}\n")
