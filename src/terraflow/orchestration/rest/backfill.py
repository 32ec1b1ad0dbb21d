"""Run a DAG for days that have passed, and follow the runs to their end."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Mapping
from datetime import UTC, date, datetime
from datetime import time as clock
from typing import Any

from terraflow.console import command, say
from terraflow.errors import ConfigError, ServiceError
from terraflow.orchestration.rest import dag_runs
from terraflow.orchestration.rest.api import AirflowApi, path_of
from terraflow.orchestration.rest.dags import find_dag
from terraflow.orchestration.rest.pauses import check_not_paused
from terraflow.orchestration.rest.scheduler import SchedulerWatch
from terraflow.orchestration.rest.task_logs import skip_reason

__all__ = ["backfill", "read_days"]

ENDED = ("success", "failed")
#: Longest time of Airflow's command; how long and how often it is tried again while another
#: process writes into the database, or until the scheduler has closed a backfill whose runs ended.
CREATE_S, AGAIN_S, PAUSE_S = 180, 90, 2.0


def read_days(start: str, end: str) -> tuple[date, date]:
    """Read the first and the last day.

    Raises
    ------
    ConfigError
        One is missing, is no date or lies in the future, or they are in the wrong order.
    """
    days = []
    for option, text in (("--from", start), ("--to", end)):
        try:
            days.append(date.fromisoformat(text))
        except ValueError:
            told = f"{option} {text!r} is no date" if text else f"{option} is missing"
            raise ConfigError(f"{told}; write it as {option} 2024-01-31.") from None
    today = datetime.now(UTC).date()
    if days[0] > days[1]:
        raise ConfigError(f"--from {days[0]} lies after --to {days[1]}; exchange them.")
    if days[1] > today:
        raise ConfigError(f"--to {days[1]} lies in the future; give {today} or earlier.")
    return days[0], days[1]


def backfill(
    api: AirflowApi, dag_id: str, days: tuple[date, date], environment: Mapping[str, str]
) -> int:
    """Create a backfill with Airflow's own command, since its REST API refuses on SQLite.

    How the command is kept from failing there, too: `backfill_runs`.

    Parameters
    ----------
    days : tuple of date
        The first and the last one, as of `read_days`.
    environment : mapping
        Variables of a process of the stack.

    Returns
    -------
    int
        1 where a run failed.

    Raises
    ------
    ConfigError, ServiceError
        The DAG can't be backfilled, is paused or being backfilled, or Airflow fails.
    """
    dag = find_dag(api, dag_id)
    if not dag.get("is_backfillable", True):
        raise ConfigError(
            f"{dag_id} has no schedule by date, so that it can't be backfilled; start it with "
            f"`{command('dags', 'trigger', dag_id)}`."
        )
    check_not_paused(api, dag)
    first, last = days
    end = min(datetime.combine(last, clock.max, UTC), datetime.now(UTC))
    period = {"logical_date_gte": f"{first}T00:00:00Z", "logical_date_lte": end.isoformat()}
    path = path_of(dag_id, "dagRuns")
    before = {run["dag_run_id"]: run for run in api.rows(path, "dag_runs", **period)}
    deadline = time.monotonic() + AGAIN_S
    say(f"Backfill of {dag_id} from {first} to {last}")
    while refusal := _create(dag_id, days, end, environment):
        of_backfills = api.rows(path, "dag_runs", run_type="backfill", order_by="-id")
        if "AlreadyRunningBackfill" in refusal and any(map(_is_open, of_backfills)):
            raise ConfigError(
                f"A backfill of {dag_id} is running already; wait for its end, which "
                f"`{command('dags')}` shows."
            )
        if time.monotonic() > deadline:
            raise ServiceError(
                f"Airflow refused the backfill of {dag_id} ({refusal}); see "
                f"`{command('logs', 'airflow-scheduler')}`."
            )
        time.sleep(PAUSE_S)
    for run in before.values():
        say(f"  {_interval(run)}: there is run {run['dag_run_id']} already ({run['state']})")
    made = _follow(api, dag_id, period, set(before))
    if not made:
        say(f"No run of {dag_id} was left to make from {first} to {last}.")
    return int(any(run["state"] == "failed" for run in made))


def _is_open(run: Mapping[str, Any]) -> bool:
    return run["state"] not in ENDED


def _create(
    dag_id: str, days: tuple[date, date], end: datetime, environment: Mapping[str, str]
) -> str:
    """Make the runs; give why Airflow refused for now, or ""."""
    words = ["--dag-id", dag_id, "--from-date", f"{days[0]}T00:00:00+00:00"]
    words += ["--to-date", end.isoformat(timespec="seconds"), "--max-active-runs", "1"]
    try:
        done = subprocess.run(
            [sys.executable, "-m", "terraflow.orchestration.rest.backfill_runs", *words],
            env=dict(environment),
            capture_output=True,
            text=True,
            timeout=CREATE_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ServiceError(
            f"Airflow made no backfill of {dag_id} within {CREATE_S} s; see `{command('status')}`."
        ) from error
    if done.returncode == 0:
        return ""
    said = " ".join((done.stdout + done.stderr).split())
    for passing in ("AlreadyRunningBackfill", "database is locked"):
        if passing in said:
            return passing
    if "NoBackfillRunsToCreate" in said or "Warning:" in said:
        raise ConfigError(
            f"The schedule of {dag_id} has no run from {days[0]} to {days[1]}; give a longer time."
        )
    lines = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()
    last = re.sub(r"^[\w.]+\.(\w+): ", r"\1: ", lines[-1]).rstrip(".")
    raise ServiceError(
        f"Airflow refused the backfill of {dag_id} ({last}); see "
        f"`{command('logs', 'airflow-scheduler')}`."
    )


def _follow(
    api: AirflowApi, dag_id: str, period: Mapping[str, str], before: set[str]
) -> list[dict[str, Any]]:
    """Print the state of each run as it changes, until all have ended."""
    path = path_of(dag_id, "dagRuns")
    told: dict[str, str] = {}
    watch = SchedulerWatch(api)
    while True:
        rows = api.rows(path, "dag_runs", run_type="backfill", order_by="logical_date", **period)
        runs = [run for run in rows if run["dag_run_id"] not in before]
        for number, run in enumerate(runs, start=1):
            state, key = run["state"], run["dag_run_id"]
            if state != "queued" and told.get(key) != state:
                told[key] = state
                more = "" if _is_open(run) else _skipped(api, run)
                say(f"  {number}/{len(runs)} {_interval(run)}: {state}{more}")
        left = [run["dag_run_id"] for run in runs if _is_open(run)]
        if not left:
            return runs
        watch.check(sorted(told.items()), dag_id, left[0], [])
        time.sleep(dag_runs.POLL_S)


def _interval(run: Mapping[str, Any]) -> str:
    start = (run.get("data_interval_start") or run.get("logical_date") or "")[:10]
    end = (run.get("data_interval_end") or "")[:10]
    return f"{start} to {end}" if end and end != start else str(start)


def _skipped(api: AirflowApi, run: Mapping[str, Any]) -> str:
    """Tell why the first of the skipped tasks was skipped; of a failed run where to look."""
    if run["state"] == "failed":
        see = command("dags", "logs", run["dag_id"], "--run", run["dag_run_id"])
        return f"; see `{see}`"
    of_run = path_of(run["dag_id"], "dagRuns", run["dag_run_id"])
    tasks = list(api.rows(f"{of_run}/taskInstances", "task_instances"))
    skipped = [task for task in tasks if task["state"] == "skipped" and task["try_number"]]
    skipped.sort(key=lambda task: task["start_date"] or "~")
    reason = skip_reason(api, of_run, skipped[0]) if skipped else ""
    return f" ({skipped[0]['task_id']} was skipped: {reason})" if reason else ""
