"""What Airflow knows of its DAGs: the list, one by its name, pauses, logs."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from terraflow.console import command, say, table
from terraflow.errors import ConfigError, nearest
from terraflow.orchestration.rest.api import AirflowApi, RefusedError, path_of
from terraflow.orchestration.rest.dag_runs import instance_name
from terraflow.orchestration.rest.pauses import write_paused
from terraflow.orchestration.rest.task_logs import log_end

__all__ = ["find_dag", "find_run", "print_dags", "print_task_logs", "read_conf", "set_paused"]


def find_dag(api: AirflowApi, dag_id: str) -> dict[str, Any]:
    """Give what Airflow knows of a DAG.

    Raises
    ------
    ConfigError
        It knows no such DAG; the nearest are told.
    """
    try:
        found: dict[str, Any] = api.call("GET", path_of(dag_id, "details"))
    except RefusedError as error:
        if error.status != 404:
            raise
        known = [dag["dag_id"] for dag in api.rows("/dags", "dags")]
        near = nearest(dag_id, known) or sorted(known)
        told = f"write one of {', '.join(near)}" if near else "Airflow has read no DAG yet"
        raise ConfigError(f"The DAG {dag_id!r} is not known to Airflow; {told}.") from error
    return found


def read_conf(dag: Mapping[str, Any], words: Sequence[str]) -> dict[str, Any]:
    """Read parameters that are written as key=value, by the types that the DAG gives them.

    Raises
    ------
    ConfigError
        A word is no key=value.
    """
    conf: dict[str, Any] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals or not name:
            raise ConfigError(f"--conf {word} is no key=value; write it as --conf tune=5.")
        schema = ((dag.get("params") or {}).get(name) or {}).get("schema") or {}
        kinds = schema.get("type", "string")
        try:
            conf[name] = text if "string" in kinds and text != "null" else json.loads(text)
        except ValueError:
            conf[name] = text  # Airflow tells what it expects
    return conf


def print_dags(api: AirflowApi) -> None:
    """Print a table of the DAGs and why each ran last, and below it files that are broken."""
    rows = []
    assets = _starting_assets(api)
    for dag in api.rows("/dags", "dags", order_by="dag_id"):
        dag_id = dag["dag_id"]
        last = _runs(api, dag_id, 1)
        state = (
            f"{last[0]['state']} {_minute(last[0]['start_date'] or last[0]['run_after'])}"
            if last
            else "never ran"
        )
        why = _why(api, last[0]) if last else ""
        following = "" if dag["is_paused"] else _minute(dag["next_dagrun_run_after"])
        paused = "yes" if dag["is_paused"] else ""
        schedule = _schedule(dag, assets.get(dag_id, ()))
        rows.append([dag_id, paused, schedule, state, following, why])
    if rows:
        table(("DAG", "paused", "schedule", "last run (UTC)", "next run", "why it ran last"), rows)
    else:
        say(f"Airflow has read no DAG yet; see `{command('logs', 'airflow-dag-processor')}`.")
    for error in api.rows("/importErrors", "import_errors"):
        say(f"\n{_place(error)} can't be imported: {_last_line(error)}")


def _starting_assets(api: AirflowApi) -> dict[str, list[str]]:
    """Give the names of the assets that start each DAG."""
    found: dict[str, list[str]] = {}
    for asset in api.rows("/assets", "assets", order_by="name"):
        for dag in asset["scheduled_dags"]:
            found.setdefault(dag["dag_id"], []).append(asset["name"])
    return found


def _schedule(dag: Mapping[str, Any], assets: Sequence[str]) -> str:
    """Write a schedule as one reads it."""
    summary, told = dag["timetable_summary"] or "", dag["timetable_description"] or ""
    if not summary or summary.startswith("Never"):
        return "by hand"
    updated = f"when updated: {', '.join(assets)}" if assets else "when assets are updated"
    if summary == "Asset":
        return updated
    if summary.startswith("Asset or "):
        return f"{summary.removeprefix('Asset or ')}, and {updated}"
    return told[:1].lower() + told[1:] or summary


def _why(api: AirflowApi, run: Mapping[str, Any]) -> str:
    """Tell what started a run."""
    kind = run["run_type"]
    if kind == "manual":
        by = run.get("triggering_user_name")
        return f"by hand by {by}" if by else "by hand"
    if kind == "backfill":
        return "backfill"
    if kind != "asset_triggered":
        return "schedule"
    path = path_of(run["dag_id"], "dagRuns", run["dag_run_id"], "upstreamAssetEvents")
    try:
        events = api.call("GET", path)["asset_events"]
    except RefusedError as error:
        if error.status != 500:
            raise
        # Airflow 3.3.2 fails over an event as long as a run that it started waits in the queue
        return "assets that were updated; Airflow names them when all runs that they started began"
    names = dict.fromkeys(event["name"] or event["uri"] for event in events)
    whys = dict.fromkeys(
        str(e["extra"]["why"]) for e in events if (e.get("extra") or {}).get("why")
    )
    return ", ".join(names) + (f": {' '.join(whys)}" if whys else "")


def _minute(time: str | None) -> str:
    return f"{datetime.fromisoformat(time):%Y-%m-%d %H:%M}" if time else ""


def _last_line(error: Mapping[str, Any]) -> str:
    return str((error["stack_trace"].strip().splitlines() or [""])[-1])


def _place(error: Mapping[str, Any]) -> str:
    """Give file and line: the last line of the file that the traceback names."""
    file, trace = error["filename"] or "A DAG file", error["stack_trace"]
    name = re.escape(file.rpartition("/")[2])
    lines = re.findall(rf'{name}", line (\d+)', trace)
    return f"{file}, line {lines[-1]}" if lines else str(file)


def _runs(api: AirflowApi, dag_id: str, count: int) -> list[dict[str, Any]]:
    params = {"limit": count, "order_by": "-id"}
    return list(api.call("GET", path_of(dag_id, "dagRuns"), params=params)["dag_runs"])


def set_paused(api: AirflowApi, dag_id: str, *, paused: bool) -> None:
    """Pause a DAG, or let it run again."""
    find_dag(api, dag_id)
    write_paused(api, dag_id, paused=paused)


def find_run(api: AirflowApi, dag_id: str, run_id: str = "") -> dict[str, Any]:
    """Give a run of a DAG, the last one by default.

    Raises
    ------
    ConfigError
        There is no such run; the last ones are told.
    """
    find_dag(api, dag_id)
    last = _runs(api, dag_id, 5)
    if not run_id and last:
        return last[0]
    if not last:
        raise ConfigError(
            f"{dag_id} has not run yet; start it with `{command('dags', 'trigger', dag_id)}`."
        )
    try:
        found: dict[str, Any] = api.call("GET", path_of(dag_id, "dagRuns", run_id))
    except RefusedError as error:
        if error.status != 404:
            raise
        told = ", ".join(run["dag_run_id"] for run in last)
        raise ConfigError(f"{dag_id} has no run {run_id!r}; its last are {told}.") from error
    return found


def print_task_logs(api: AirflowApi, dag_id: str, run_id: str = "", task_id: str = "") -> None:
    """Print the ends of the logs of a run's tasks.

    Raises
    ------
    ConfigError
        The DAG has no such run, or the run no such task.
    """
    run = find_run(api, dag_id, run_id)
    path = path_of(dag_id, "dagRuns", run["dag_run_id"])
    tasks = list(api.rows(f"{path}/taskInstances", "task_instances"))
    names = list(dict.fromkeys(task["task_id"] for task in tasks))
    if task_id and task_id not in names:
        near = nearest(task_id, names) or names
        raise ConfigError(f"{dag_id} has no task {task_id!r}; write one of {', '.join(near)}.")
    say(f"Run {run['dag_run_id']} of {dag_id}: {run['state']}")
    for task in sorted(tasks, key=lambda task: task["start_date"] or "~"):
        if task_id in ("", task["task_id"]):
            say(f"\n{instance_name(task, tasks)}: {task['state'] or 'not started'}")
            for line in log_end(api, path, task) if task["try_number"] else ():
                say(f"    {line}")
