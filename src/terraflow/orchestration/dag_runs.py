"""Run a DAG through Airflow's REST API and follow it to its end."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import httpx

from terraflow.console import command, say
from terraflow.credentials import ADMIN, read_secrets
from terraflow.errors import ServiceError
from terraflow.settings import Settings

__all__ = ["run_dag"]

POLL_S = 1.0
PARSE_S = 90.0
LOG_LINES = 15


def run_dag(settings: Settings, dag_id: str, conf: dict[str, Any], *, result_task: str) -> Any:
    """Trigger a DAG, print its tasks' states as they change, return one task's result.

    Parameters
    ----------
    conf : dict
        The DAG's parameters.
    result_task : str
        Whose return value to fetch.

    Raises
    ------
    ServiceError
        Airflow does not answer, does not know the DAG, or the DAG run failed.
    """
    try:
        with httpx.Client(base_url=settings.airflow_url, timeout=30, trust_env=False) as client:
            _log_in(client, settings)
            _await_dag(client, dag_id)
            started = _call(
                client, "POST", f"/dags/{dag_id}/dagRuns", json={"logical_date": None, "conf": conf}
            )
            run_id = started["dag_run_id"]
            say(f"DAG run {run_id}: {settings.airflow_url}/dags/{dag_id}/runs/{run_id}")
            return _follow(client, f"/dags/{dag_id}/dagRuns/{run_id}", result_task)
    except httpx.TransportError as error:
        raise ServiceError(
            f"Airflow does not answer at {settings.airflow_url} ({error}); start the stack with "
            f"`{command('up')}`, or see `{command('status')}`."
        ) from error


def _log_in(client: httpx.Client, settings: Settings) -> None:
    password = read_secrets(settings)["airflow_password"]
    answer = client.post("/auth/token", json={"username": ADMIN, "password": password})
    if answer.status_code != 201:
        raise ServiceError(
            f"Airflow refused the login of {ADMIN} with status {answer.status_code}; restart it "
            f"with `{command('down')}` and `{command('up')}`."
        )
    client.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"


def _call(client: httpx.Client, method: str, path: str, **options: Any) -> Any:
    for attempt in range(8):  # the API server may be restarting
        try:
            answer = client.request(method, "/api/v2" + path, **options)
            break
        except httpx.TransportError:
            if attempt == 7 or method != "GET":
                raise
            time.sleep(2.0**attempt / 4)
    if answer.is_error:
        raise ServiceError(
            f"Airflow answered {method} {path} with status {answer.status_code}: "
            f"{answer.text[:300]}; see `{command('logs', 'airflow-api')}`."
        )
    return answer.json()


def _await_dag(client: httpx.Client, dag_id: str) -> None:
    """Wait until the DAG processor has read the file: after a first start that takes a while."""
    deadline = time.monotonic() + PARSE_S
    said = False
    while dag_id not in {d["dag_id"] for d in _call(client, "GET", "/dags")["dags"]}:
        errors = _call(client, "GET", "/importErrors")["import_errors"]
        mine = [e for e in errors if Path(e.get("filename") or "").stem == dag_id]
        if mine:
            last = mine[0]["stack_trace"].strip().splitlines()[-1]
            raise ServiceError(f"{mine[0]['filename']} can't be imported by Airflow: {last}.")
        if time.monotonic() > deadline:
            raise ServiceError(
                f"Airflow does not know the DAG {dag_id} after {PARSE_S:.0f} s; see "
                f"`{command('logs', 'airflow-dag-processor')}`."
            )
        if not said:
            say("Waiting for Airflow to read the DAG")
            said = True
        time.sleep(POLL_S)


def _follow(client: httpx.Client, path: str, result_task: str) -> Any:
    seen: dict[str, str] = {}
    while True:
        state = _call(client, "GET", path)["state"]
        tasks = _call(client, "GET", f"{path}/taskInstances")["task_instances"]
        for task in sorted(tasks, key=lambda t: t["start_date"] or "~"):
            if task["state"] and seen.get(task["task_id"]) != task["state"]:
                seen[task["task_id"]] = task["state"]
                took = f" after {task['duration']:.1f} s" if task["duration"] else ""
                say(f"  {task['task_id']}: {task['state']}{took}")
        if state == "success":
            entry = _call(
                client,
                "GET",
                f"{path}/taskInstances/{result_task}/xcomEntries/return_value",
                params={"deserialize": "false", "stringify": "false"},
            )
            return entry["value"]
        if state == "failed":
            failed = next((t for t in tasks if t["state"] == "failed"), None)
            raise ServiceError(_why(client, path, failed))
        time.sleep(POLL_S)


def _why(client: httpx.Client, path: str, task: dict[str, Any] | None) -> str:
    if not task:
        see = command("logs", "airflow-scheduler")
        return f"The DAG run failed before any task did; see `{see}`."
    logs = f"{path}/taskInstances/{task['task_id']}/logs/{task['try_number']}"
    content = _call(client, "GET", logs, params={"full_content": "true"})["content"]
    lines = [_line(entry) for entry in content]
    tail = "\n".join(f"    {line}" for line in lines if line.strip())
    tail = "\n".join(tail.splitlines()[-LOG_LINES:])
    return f"Task {task['task_id']} failed; the end of its log:\n{tail}"


def _line(entry: Any) -> str:
    if not isinstance(entry, dict):
        return str(entry)
    details = entry.get("error_detail") or []
    told = "; ".join(f"{d.get('exc_type')}: {d.get('exc_value')}" for d in details)
    return f"{entry.get('event', '')} {told}".rstrip()
