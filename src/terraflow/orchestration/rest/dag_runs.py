"""Run a DAG and follow it to its end."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from terraflow.console import command, say
from terraflow.errors import ConfigError, ServiceError, did_you_mean
from terraflow.orchestration.rest.api import AirflowApi, RefusedError, path_of
from terraflow.orchestration.rest.pauses import check_not_paused
from terraflow.orchestration.rest.scheduler import SchedulerWatch
from terraflow.orchestration.rest.task_logs import log_end
from terraflow.settings import Settings

__all__ = [
    "await_dag",
    "check_conf",
    "follow",
    "instance_name",
    "results",
    "run_dag",
    "start",
    "trigger",
]

POLL_S = 1.0
PARSE_S = 90.0


def run_dag(
    settings: Settings, dag_id: str, conf: Mapping[str, Any], *, result_tasks: Sequence[str]
) -> dict[str, Any]:
    """Trigger a DAG, print its tasks' states as they change, return what tasks returned.

    Parameters
    ----------
    conf : mapping
        The DAG's parameters.
    result_tasks : sequence of str
        Whose return values to merge, the last one over the others.

    Returns
    -------
    dict
        As `results`.

    Raises
    ------
    ServiceError
        Airflow does not answer, does not know the DAG or has paused it, or the DAG run failed.
    """
    with AirflowApi(settings) as api:
        check_not_paused(api, await_dag(api, dag_id))
        run_id = trigger(api, dag_id, conf)
        tasks = follow(api, dag_id, run_id)
        return results(api, dag_id, run_id, tasks, result_tasks)


def start(api: AirflowApi, dag_id: str, conf: Mapping[str, Any], *, wait: bool) -> None:
    """Trigger a DAG that Airflow knows, and follow the run if that is asked for.

    Raises
    ------
    ConfigError
        A parameter is wrong.
    ServiceError
        The DAG is paused, or the run that is followed failed.
    """
    check_not_paused(api, api.call("GET", path_of(dag_id)))
    check_conf(api, dag_id, conf)
    run_id = trigger(api, dag_id, conf)
    if wait:
        follow(api, dag_id, run_id)


def await_dag(api: AirflowApi, dag_id: str) -> dict[str, Any]:
    """Wait until the DAG processor has read the file: after a first start that takes a while.

    Returns
    -------
    dict
        What Airflow knows of the DAG.

    Raises
    ------
    ServiceError
        The file can't be imported, or Airflow does not know the DAG after a while.
    """
    deadline = time.monotonic() + PARSE_S
    said = False
    while True:
        found = next((dag for dag in api.rows("/dags", "dags") if dag["dag_id"] == dag_id), None)
        if found:
            return found
        for error in api.rows("/importErrors", "import_errors"):
            if Path(error.get("filename") or "").stem == dag_id:
                last = error["stack_trace"].strip().splitlines()[-1]
                raise ServiceError(
                    f"{error['filename']} can't be imported by Airflow: {last}; mend it there."
                )
        if time.monotonic() > deadline:
            raise ServiceError(
                f"Airflow does not know the DAG {dag_id} after {PARSE_S:.0f} s; see "
                f"`{command('logs', 'airflow-dag-processor')}`."
            )
        if not said:
            say("Waiting for Airflow to read the DAG")
            said = True
        time.sleep(POLL_S)


def check_conf(api: AirflowApi, dag_id: str, conf: Mapping[str, Any]) -> None:
    """See that a DAG has the parameters that are given: Airflow takes any.

    Raises
    ------
    ConfigError
        It does not have one.
    """
    known = api.call("GET", path_of(dag_id, "details")).get("params") or {}
    for name in conf:
        if name not in known:
            told = f"it has {', '.join(known)}" if known else "it has none"
            raise ConfigError(
                f"The DAG {dag_id} has no parameter {name!r}{did_you_mean(name, known)}; {told}."
            )


def trigger(api: AirflowApi, dag_id: str, conf: Mapping[str, Any]) -> str:
    """Start a run by hand, once, also where the answer is lost and the request repeated.

    Returns
    -------
    str
        The run's id.

    Raises
    ------
    ConfigError
        Airflow refused a parameter's value.
    """
    now = datetime.now(UTC).isoformat(timespec="seconds")
    run_id = f"manual__{now}_{secrets.token_hex(4)}"
    body = {"dag_run_id": run_id, "logical_date": None, "conf": dict(conf)}
    try:
        api.call("POST", path_of(dag_id, "dagRuns"), again=True, json=body)
    except RefusedError as error:
        if error.status in (400, 422):
            told = error.detail.partition(" Failed validating")[0]
            raise ConfigError(
                f"The DAG {dag_id} was not started with {_told(conf)}: {told}; correct it."
            ) from error
        if error.status != 409:  # of a repetition: the first request had arrived
            raise
    say(f"DAG run {run_id}: {api.settings.airflow_url}/dags/{dag_id}/runs/{run_id}")
    return run_id


def _told(conf: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value!r}" for name, value in conf.items()) or "no parameters"


def follow(api: AirflowApi, dag_id: str, run_id: str) -> list[dict[str, Any]]:
    """Print the states of a run's tasks as they change, until it has ended.

    Returns
    -------
    list of dict
        The task instances, as Airflow tells them.

    Raises
    ------
    ServiceError
        The run failed, no scheduler goes on with it, or the DAG was paused.
    """
    path = path_of(dag_id, "dagRuns", run_id)
    seen: dict[tuple[str, int], str] = {}
    scheduler = SchedulerWatch(api)
    while True:
        state = api.call("GET", path)["state"]
        tasks = list(api.rows(f"{path}/taskInstances", "task_instances"))
        for task in sorted(tasks, key=lambda task: task["start_date"] or "~"):
            key = task["task_id"], task["map_index"]
            if task["state"] and seen.get(key) != task["state"]:
                seen[key] = task["state"]
                say(f"  {_line(task, tasks, dag_id)}")
        if state == "success":
            return tasks
        if state == "failed":
            failed = next((task for task in tasks if task["state"] == "failed"), None)
            raise ServiceError(_why(api, path, failed))
        scheduler.check((state, *sorted(seen.items())), dag_id, run_id, tasks)
        time.sleep(POLL_S)


def instance_name(task: Mapping[str, Any], tasks: Sequence[Mapping[str, Any]]) -> str:
    """Name a task instance of a run: of a mapped task also which of how many."""
    name, index = task["task_id"], task["map_index"]
    if index < 0:
        return str(name)
    size = sum(other["task_id"] == name and other["map_index"] >= 0 for other in tasks)
    return f"{name} {index + 1}/{size}"


def _line(task: Mapping[str, Any], tasks: Sequence[Mapping[str, Any]], dag_id: str) -> str:
    name = instance_name(task, tasks)
    if task["state"] == "awaiting_input":
        answer = command("dags", "approve", dag_id)
        return f"{name}: waits for a person; answer with `{answer}`"
    took = f" after {task['duration']:.1f} s" if task["duration"] else ""
    return f"{name}: {task['state']}{took}"


def results(
    api: AirflowApi,
    dag_id: str,
    run_id: str,
    tasks: Sequence[Mapping[str, Any]],
    result_tasks: Sequence[str],
) -> dict[str, Any]:
    """Merge what tasks returned; those that were skipped or returned no dict are left out.

    Returns
    -------
    dict
        Where a task is mapped, `mapped` is the list of what its instances returned.
    """
    merged: dict[str, Any] = {}
    for name in result_tasks:
        done = [t for t in tasks if t["task_id"] == name and t["state"] == "success"]
        for task in sorted(done, key=lambda task: task["map_index"]):
            value = _returned(api, path_of(dag_id, "dagRuns", run_id), task)
            if not isinstance(value, dict):
                continue
            if task["map_index"] >= 0:
                merged.setdefault("mapped", []).append(value)
            else:
                merged |= value
    return merged


def _returned(api: AirflowApi, path: str, task: Mapping[str, Any]) -> Any:
    entry = f"{path}/taskInstances/{task['task_id']}/xcomEntries/return_value"
    params = {"deserialize": "false", "stringify": "false", "map_index": task["map_index"]}
    try:
        return api.call("GET", entry, params=params)["value"]
    except RefusedError as error:
        if error.status == 404:  # it returned nothing
            return None
        raise


def _why(api: AirflowApi, path: str, task: dict[str, Any] | None) -> str:
    if not task:
        see = command("logs", "airflow-scheduler")
        return f"The DAG run failed before any task did; see `{see}`."
    tail = "\n".join(f"    {line}" for line in log_end(api, path, task))
    return f"Task {task['task_id']} failed; the end of its log:\n{tail}"
