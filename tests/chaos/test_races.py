"""Two commands at once, at random distances: each pair ends as one of its serial orders would.

`TERRAFLOW_CHAOS_ROUNDS=20 TERRAFLOW_CHAOS_SEED=7 invoke test -m chaos -k races` for more rounds
than the two of each change, or other ones.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import mlflow
import pytest

from harness import Stack

pytestmark = [pytest.mark.chaos, pytest.mark.services]
ROUNDS = int(os.environ.get("TERRAFLOW_CHAOS_ROUNDS", "2"))
SEED = int(os.environ.get("TERRAFLOW_CHAOS_SEED", "1"))
#: Longest pause between two commands, where a test names no other, and longest run of both.
PAUSE_S, END_S = 3.0, 400.0
UP = ("up", "--detach", "--only", "mlflow")
#: A command that another one stopped exits as Ctrl+C does; all others as a task does.
STOPPED = 130


@dataclass
class Ended:
    """A command that has ended."""

    words: tuple[str, ...]
    code: int
    said: str

    @property
    def sentence(self) -> str:
        """The last line."""
        return (self.said.strip().splitlines() or [""])[-1]


@dataclass
class Races:
    """A stack on which commands race."""

    stack: Stack
    random: random.Random
    told: list[str] = field(default_factory=list)

    def race(self, *commands: Sequence[str], pause_s: float = PAUSE_S) -> list[Ended]:
        """Run commands beside each other, each begun some time after the one before."""
        began: list[tuple[Sequence[str], Path, subprocess.Popen[bytes]]] = []
        pauses = [round(self.random.uniform(0, pause_s), 2) for _ in commands[1:]]
        for number, words in enumerate(commands):
            log = self.stack.var.parent / f"race-{number}.log"
            began.append((words, log, self.stack.start(*words, log=log)))
            if number < len(pauses):
                time.sleep(pauses[number])
        deadline = time.monotonic() + END_S
        ended = []
        for words, log, process in began:
            code = process.wait(max(1.0, deadline - time.monotonic()))
            ended.append(Ended(tuple(words), code, log.read_text()))
        row = "; ".join(f"{' '.join(each.words)}: {each.code} {each.sentence}" for each in ended)
        self.told.append(f"after {pauses} s: {row}")
        sys.stdout.write(f"{self.told[-1]}\n")
        sys.stdout.flush()
        for each in ended:
            assert "Traceback" not in each.said, each.said
            assert "error of TerraFlow's own" not in each.said, each.said
            assert each.code in (0, 1, STOPPED), each.said
            assert each.sentence.endswith((".", "`", ")")) or not each.code, each.said
        return ended

    def down(self) -> None:
        """Stop the stack; nothing is left, and all databases are whole."""
        self.stack.ok("down")
        self.stack.wait_until_gone(5)
        for path in self.stack.var.glob("*/*.db"):
            with closing(sqlite3.connect(path)) as connection:
                assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)

    def runs(self) -> dict[str, str]:
        """Give all runs of MLflow and how they stand."""
        self.stack.track()
        found = mlflow.search_runs(search_all_experiments=True, output_format="list")
        return {run.info.run_id: run.info.status for run in found}

    def collections(self) -> list[Path]:
        return list((self.stack.var / "eo-data").glob("*/collection-*.json"))


@pytest.fixture
def new_races(migrated: Path, tmp_path: Path) -> Iterator[Callable[[int], Races]]:
    """Make a stack for a round, which is stopped; what a round before left is ended."""
    made: list[Races] = []

    def make(number: int) -> Races:
        for races in made[-1:]:
            races.stack.close()
            shutil.rmtree(races.stack.var.parent)
        stack = Stack(tmp_path / f"round-{number}", TERRAFLOW_STORE="local")
        stack.train_quickly()
        stack.take_databases(migrated)
        made.append(Races(stack, random.Random(f"{SEED} {number}")))
        return made[-1]

    yield make
    for races in made[-1:]:
        races.stack.close()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Races]:
    """A running stack with a champion."""
    stack = Stack(tmp_path_factory.mktemp("races"), TERRAFLOW_STORE="local")
    stack.train_quickly()
    try:
        stack.ok(*UP)
        stack.ok("train", timeout=600)
        yield Races(stack, random.Random(SEED))
        stack.ok("down")
        stack.wait_until_gone(5)
    finally:
        stack.close()


@pytest.mark.timeout(120 + 200 * ROUNDS)
def test_down_during_up(new_races: Callable[[int], Races]) -> None:
    for number in range(ROUNDS):
        races = new_races(number)
        up, down = races.race(UP, ("down",), pause_s=6)
        assert down.code == 0, down.said
        if "Nothing was running" in down.said or up.code == 0:  # one after the other
            assert up.code == 0, up.said
        if "Stopped" in down.said:
            races.stack.wait_until_gone(5)
        races.stack.run("down")
        races.stack.ok(*UP)
        races.down()


@pytest.mark.timeout(120 + 200 * ROUNDS)
def test_two_ups_at_once(new_races: Callable[[int], Races]) -> None:
    for number in range(ROUNDS):
        races = new_races(number)
        ended = races.race(UP, UP, pause_s=4)
        assert sorted(each.code for each in ended) == [0, 1], [each.said for each in ended]
        assert any("TerraFlow already runs here" in each.sentence for each in ended)
        assert races.stack.services()["mlflow"]["state"] == "ready"
        races.down()


@pytest.mark.timeout(120 + 200 * ROUNDS)
def test_two_downs_at_once_and_up(new_races: Callable[[int], Races]) -> None:
    for number in range(ROUNDS):
        races = new_races(number)
        races.stack.ok(*UP)
        *downs, up = races.race(("down",), ("down",), UP, pause_s=2)
        assert {each.code for each in downs} == {0}
        if up.code == 0:  # after them, or stopped by the second
            assert "Stopped." in "".join(each.said for each in downs)
        races.stack.run(*UP)
        assert races.stack.services()["mlflow"]["state"] == "ready"
        races.down()


@pytest.mark.timeout(120 + 200 * ROUNDS)
def test_reset_during_an_ingest(new_races: Callable[[int], Races]) -> None:
    for number in range(ROUNDS):
        races = new_races(number)
        pair = [("ingest",), ("reset", "--yes")]
        races.random.shuffle(pair)
        ingest, reset = sorted(races.race(*pair, pause_s=8), key=lambda each: each.words)
        assert ingest.code == 0, ingest.said
        if reset.code:  # it came while images were copied
            assert "wait for its end" in reset.sentence
        before = races.collections()
        assert before or reset.code == 0  # it came after the ingest
        races.stack.ok("preprocess")  # all that the collection names is there
        assert len(races.collections()) == 1
        assert not before or before == races.collections()


@pytest.mark.timeout(120 + 200 * ROUNDS)
def test_two_ingests_at_once(new_races: Callable[[int], Races]) -> None:
    for number in range(ROUNDS):
        races = new_races(number)
        ended = races.race(("ingest",), ("ingest",))
        assert [each.code for each in ended] == [0, 0]
        said = {re.findall(r"Collection: (\S+)", each.said)[-1] for each in ended}
        assert said == {str(path) for path in races.collections()}
        assert len(said) == 1


@pytest.mark.timeout(600 + 400 * ROUNDS)
def test_two_trainings_at_once(running: Races) -> None:
    for _ in range(ROUNDS):
        before = set(running.runs())
        ended = running.race(("train",), ("train",), pause_s=20)
        assert [each.code for each in ended] == [0, 0]
        runs = running.runs()
        assert [runs[new] for new in set(runs) - before] == ["FINISHED", "FINISHED"]
        assert champion(running)


@pytest.mark.timeout(120 + 400 * ROUNDS)
def test_two_first_trainings_at_once(new_races: Callable[[int], Races]) -> None:
    for number in range(ROUNDS):
        races = new_races(number)
        races.stack.ok(*UP)
        ended = races.race(("train",), ("train",), pause_s=6)
        assert [each.code for each in ended] == [0, 0]
        assert sorted(races.runs().values()) == ["FINISHED", "FINISHED"]
        assert champion(races)
        races.down()


@pytest.mark.timeout(600 + 400 * ROUNDS)
def test_two_promotes_at_once(running: Races) -> None:
    for _ in range(2):
        running.stack.ok("train", timeout=600)
    for _ in range(ROUNDS):
        runs = sorted(run for run, state in running.runs().items() if state == "FINISHED")
        one, other = running.random.sample(runs, 2)
        ended = running.race(("promote", "--run-id", one), ("promote", "--run-id", other))
        assert [each.code for each in ended] == [0, 0]
        assert champion(running) in (one, other)


@pytest.mark.timeout(600 + 600 * ROUNDS)
def test_train_with_map_and_reset(running: Races) -> None:
    output = str(running.stack.var.parent / "map.tif")
    for _ in range(ROUNDS):
        train, made, reset = running.race(
            ("train",), ("map", "--output", output), ("reset", "--yes"), pause_s=20
        )
        assert (train.code, made.code, reset.code) == (0, 0, 1)
        assert "stop it with `invoke down` first" in reset.sentence
        assert "RUNNING" not in running.runs().values()
        assert champion(running)


def champion(races: Races) -> str:
    """Give the run of the champion, whose model can be read."""
    races.stack.track()
    client = mlflow.MlflowClient()
    version = client.get_model_version_by_alias("land-cover", "champion")
    aliased = [
        each.version
        for each in client.search_model_versions("name = 'land-cover'")
        if "champion" in client.get_model_version("land-cover", each.version).aliases
    ]
    assert aliased == [version.version]
    assert client.download_artifacts(version.run_id, "", str(races.stack.var / "tmp"))
    return str(version.run_id)
