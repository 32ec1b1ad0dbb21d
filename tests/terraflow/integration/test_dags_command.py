"""`invoke dags` on the running stack."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from airflow_api import dag_file
from harness import Stack, wait_for

ASKS = """
from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.sdk import Param, dag

@dag(schedule=None, params={{"n": Param(1, type="integer", minimum=0)}})
def {name}():
    HITLOperator(
        task_id="ask", subject="Shall it?", body="Some **text**", options=["Approve", "Reject"],
        params={{"reason": Param("", type="string")}},
    )

{name}()
"""
MAPS = """
import pendulum
from airflow.sdk import dag, task
from airflow.sdk.exceptions import AirflowSkipException

@dag(schedule="@monthly", start_date=pendulum.datetime(2024, 1, 1), catchup=False)
def {name}():
    @task
    def odd(number):
        if number % 2 == 0:
            raise AirflowSkipException("Even numbers are left out.")
        print("number", number)

    odd.expand(number=[1, 2, 3])

{name}()
"""
BROKEN = "from airflow.sdk import dag\n\ny = 1 / 0\n"


@pytest.fixture(scope="module")
def asks(dag_stack: Stack) -> Iterator[str]:
    with dag_file("dags_command_asks", ASKS, dag_stack) as name:
        wait_for(lambda: name in dag_stack.ok("dags"), 90, 1)
        yield name


@pytest.fixture(scope="module")
def maps(dag_stack: Stack) -> Iterator[str]:
    with dag_file("dags_command_maps", MAPS, dag_stack) as name:
        wait_for(lambda: name in dag_stack.ok("dags"), 90, 1)
        yield name


def test_dags_lists_dags_with_schedules(dag_stack: Stack, asks: str) -> None:
    lines = {line.split()[0]: line for line in dag_stack.ok("dags").splitlines() if line.strip()}
    assert "when updated: land_cover_champion, land_cover_scenes" in lines["land_cover_mapping"]
    assert "daily at 05:00, and when updated: land_cover_scenes" in lines["land_cover_monitoring"]
    assert "by hand" in lines[asks]


def test_dags_names_a_broken_file_with_line_and_error(dag_stack: Stack) -> None:
    with dag_file("dags_command_broken", BROKEN, dag_stack):
        said = wait_for(
            lambda: "dags_command_broken" in (told := dag_stack.ok("dags")) and told, 90, 1
        )
    assert "dags_command_broken.py, line 5 can't be imported: ZeroDivisionError" in said


def test_dags_mistakes_are_sentences(dag_stack: Stack, asks: str) -> None:
    assert "write one of dags_command_asks" in dag_stack.fails("dags", "trigger", f"{asks}s")
    assert "has no parameter 'm'" in dag_stack.fails("dags", "trigger", asks, "--conf", "m=1")
    said = dag_stack.fails("dags", "trigger", asks, "--conf", "n=-1")
    assert "n -1: Invalid input for param n: -1 is less than the minimum of 0; correct it." in said
    assert f"No task of {asks} waits" in dag_stack.fails("dags", "approve", asks)
    dates = ("--from", "2024-01-01", "--to", "2024-02-01")
    assert "no schedule by date" in dag_stack.fails("dags", "backfill", asks, *dates)


def test_dags_pause_holds_a_run_back_and_unpause_lets_it_go(dag_stack: Stack, maps: str) -> None:
    dag_stack.ok("dags", "pause", maps)
    assert f"invoke dags unpause {maps}" in dag_stack.fails("dags", "trigger", maps)
    dag_stack.ok("dags", "unpause", maps)
    said = dag_stack.ok("dags", "trigger", maps, "--wait")
    assert "  odd 1/3: success" in said
    assert "  odd 2/3: skipped" in said
    logs = dag_stack.ok("dags", "logs", maps, "--task", "odd")
    assert "number 3" in logs
    assert "Even numbers are left out." in logs
    assert "has no task 'even'" in dag_stack.fails("dags", "logs", maps, "--task", "even")


@pytest.mark.slow
def test_dags_backfill_follows_each_run_and_leaves_what_is_there(
    dag_stack: Stack, maps: str
) -> None:
    words = ("dags", "backfill", maps, "--from", "2024-01-01", "--to", "2024-02-28")
    said = dag_stack.ok(*words)
    assert said.count(": success (odd was skipped: Even numbers are left out)") == 2
    again = dag_stack.ok(*words)
    assert again.count("there is run backfill__") == 2
    assert f"No run of {maps} was left to make" in again


def both_wait(dag_stack: Stack, dag_id: str, runs: list[str]) -> str:
    """Give the refusal to choose between two runs, once both wait; until then answer none."""
    wrong = "--reason", "x", "--run", "none"
    assert "has no run 'none'" in dag_stack.fails("dags", "approve", dag_id, *wrong)
    ready = wait_for(lambda: all(waits(dag_stack, dag_id, run) for run in runs), 180)
    assert ready
    return dag_stack.fails("dags", "approve", dag_id)


def waits(dag_stack: Stack, dag_id: str, run: str) -> bool:
    return "ask: awaiting_input" in dag_stack.ok("dags", "logs", dag_id, "--run", run)


@pytest.mark.slow
def test_dags_approve_answers_the_run_that_is_named(dag_stack: Stack, asks: str) -> None:
    runs = []
    for _ in range(2):
        said = dag_stack.ok("dags", "trigger", asks)
        runs.append(said.splitlines()[0].split(": ")[0].removeprefix("DAG run "))
    said = both_wait(dag_stack, asks, runs)
    assert all(run in said for run in runs)
    said = dag_stack.ok("dags", "approve", asks, "--run", runs[0], "--reason", "Seen.")
    assert "Shall it?\n\nSome **text**\n" in said
    assert f"Task ask of run {runs[0]}: approved." in said
    assert f"{runs[1]}: rejected." in dag_stack.ok("dags", "approve", asks, "--reject")
    assert "waits for a person" in dag_stack.fails("dags", "approve", asks)
