"""Answer a task that waits for a person."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

from terraflow.console import command, say
from terraflow.errors import ConfigError
from terraflow.orchestration.rest.api import AirflowApi, RefusedError, path_of
from terraflow.orchestration.rest.dags import find_dag, find_run

__all__ = ["approve"]

PAUSE_S, AGE_S = 3.0, 10.0
#: What the tasks that ask for an approval offer.
YES, NO = "Approve", "Reject"


def approve(
    api: AirflowApi, dag_id: str, run_id: str = "", *, reject: bool = False, reason: str = ""
) -> None:
    """Print what is asked, and answer it.

    Raises
    ------
    ConfigError
        Nothing waits, several runs do, or the task offers other answers or asks for no reason.
    """
    find_dag(api, dag_id)
    if run_id:
        find_run(api, dag_id, run_id)
    waiting = _waiting(api, dag_id, run_id)
    if not waiting:
        of = f"run {run_id} of {dag_id}" if run_id else dag_id
        raise ConfigError(f"No task of {of} waits for a person; `{command('dags')}` lists runs.")
    runs = list(dict.fromkeys(row["task_instance"]["dag_run_id"] for row in waiting))
    if len(runs) > 1:
        raise ConfigError(
            f"{len(runs)} runs of {dag_id} wait for a person ({', '.join(runs)}); name one with "
            "--run."
        )
    for question in waiting:
        _answer(api, dag_id, question, NO if reject else YES, reason)


def _waiting(api: AirflowApi, dag_id: str, run_id: str) -> list[dict[str, Any]]:
    path = path_of(dag_id, "dagRuns", run_id or "~", "hitlDetails")
    states = ["awaiting_input", "deferred"]
    rows = api.rows(path, "hitl_details", response_received="false", state=states)
    return [row for row in rows if row["task_instance"]["state"] in states]


def _answer(
    api: AirflowApi, dag_id: str, question: dict[str, Any], option: str, reason: str
) -> None:
    task = question["task_instance"]
    say(f"{question['subject']}\n")
    if question.get("body"):
        say(f"{question['body']}\n")
    if option not in question["options"]:
        raise ConfigError(
            f"Task {task['task_id']} offers {', '.join(question['options'])}, not {option}; answer "
            f"it at {api.settings.airflow_url}/required_actions."
        )
    given = {name: param["value"] for name, param in (question.get("params") or {}).items()}
    if reason and "reason" not in given:
        raise ConfigError(f"Task {task['task_id']} asks for no reason; leave --reason out.")
    if "reason" in given:
        given["reason"] = reason
    words = ("dagRuns", task["dag_run_id"], "taskInstances", task["task_id"])
    path = path_of(dag_id, *words, str(task["map_index"]), "hitlDetails")
    answer = {"chosen_options": [option], "params_input": given}
    _await_age(question)
    try:
        _send(api, path, answer)
    except RefusedError as error:
        if error.status == 409:
            raise ConfigError(
                f"Task {task['task_id']} of run {task['dag_run_id']} was answered meanwhile; see "
                f"`{command('dags', 'logs', dag_id)}`."
            ) from error
        raise
    done = "approved" if option == YES else "rejected"
    say(f"Task {task['task_id']} of run {task['dag_run_id']}: {done}.")


def _await_age(question: dict[str, Any]) -> None:
    """Wait until Airflow's scheduler knows that the task waits.

    Airflow 3.3.2 takes a task that is answered before for one that was lost, and asks again.
    """
    asked = datetime.fromisoformat(question["created_at"])
    while (datetime.now(UTC) - asked).total_seconds() < AGE_S:
        time.sleep(0.5)


def _send(api: AirflowApi, path: str, answer: dict[str, Any]) -> None:
    """Send an answer, once more where Airflow itself failed, as a busy database lets it."""
    try:
        api.call("PATCH", path, json=answer)
    except RefusedError as error:
        if error.status != 500:
            raise
        time.sleep(PAUSE_S)
        api.call("PATCH", path, json=answer)
