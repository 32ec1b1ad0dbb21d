"""Whether somebody goes on with a run."""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping, Sequence
from typing import Any

import psutil

from terraflow.console import command, say
from terraflow.errors import ServiceError
from terraflow.orchestration.rest.api import AirflowApi, path_of
from terraflow.orchestration.rest.pauses import go_on

__all__ = ["SchedulerWatch"]

#: How long a scheduler may be missing while nothing happens, and untold; pause between looks.
MISSING_S, UNTOLD_S, HEALTH_S = 120.0, 20.0, 10.0
#: After so many seconds in which nothing happened it is said what a run waits for.
QUIET_S = 60.0

#: How long the process of a task may be gone, in seconds, without Airflow's noticing.
LOST_S = 120.0
#: By which Airflow may call this machine.
NAMES = {socket.gethostname(), socket.getfqdn()}


class SchedulerWatch:
    """Notices that nobody goes on with a run."""

    def __init__(self, api: AirflowApi) -> None:
        self.api = api
        self.next = time.monotonic() + HEALTH_S
        self.missing_since: float | None = None
        self.before: object = None
        self.quiet_since: float | None = time.monotonic()
        self.told = False
        self.lost: dict[object, float] = {}

    def check(
        self, progress: object, dag_id: str, run_id: str, tasks: Sequence[Mapping[str, Any]]
    ) -> None:
        """Look at times whether somebody will go on.

        Parameters
        ----------
        progress : object
            Differs from the last look's where something has happened.
        tasks : sequence of mapping
            The run's task instances: while one works, a paused DAG ends that one, but starts no
            other.

        Raises
        ------
        ServiceError
            The scheduler is missing for long without progress, or the DAG is paused and stays so.
        """
        now, api = time.monotonic(), self.api
        if progress != self.before:
            self.before, self.missing_since, self.quiet_since = progress, None, now
        if now < self.next:
            return
        self.next = now + HEALTH_S
        busy = any(task["state"] in ("queued", "running") for task in tasks)
        self._look_for_lost(tasks, run_id)
        if not busy and api.call("GET", path_of(dag_id))["is_paused"]:
            go_on(api, dag_id, f"was paused, so that run {run_id} does not go on", "which lets it")
        self._tell_why_quiet(now, dag_id, run_id, tasks)
        health = api.call("GET", "/monitor/health").get("scheduler") or {}
        if health.get("status") == "healthy":
            self.missing_since = None
            return
        self.missing_since = self.missing_since or now
        if now - self.missing_since > UNTOLD_S and not self.told:
            self.told = True
            say(
                f"  Airflow's scheduler has had no heartbeat for {now - self.missing_since:.0f} s; "
                f"waiting {MISSING_S:.0f} s for it. See `{command('status')}`."
            )
        if now - self.missing_since > MISSING_S:
            raise ServiceError(
                f"Airflow's scheduler has been {health.get('status') or 'missing'} for more than "
                f"{MISSING_S:.0f} s, and run {run_id} of {dag_id} does not go on; see "
                f"`{command('logs', 'airflow-scheduler')}`."
            )

    def _tell_why_quiet(
        self, now: float, dag_id: str, run_id: str, tasks: Sequence[Mapping[str, Any]]
    ) -> None:
        """Say once, where nothing has happened for a while, what a run waits for."""
        told_already = ("queued", "running", "awaiting_input", "deferred", "up_for_retry")
        waits = any(task["state"] in told_already for task in tasks)
        if waits or self.quiet_since is None or now - self.quiet_since < QUIET_S:
            return
        path = path_of(dag_id, "dagRuns")
        running = [run["dag_run_id"] for run in self.api.rows(path, "dag_runs", state="running")]
        others = [other for other in running if other != run_id]
        if others and run_id not in running:
            why = f"run {', '.join(others)} of {dag_id} goes before it"
        else:
            why = f"see `{command('logs', 'airflow-scheduler')}`"
        say(f"  Nothing has happened for {now - self.quiet_since:.0f} s: {why}.")
        self.quiet_since = None

    def _look_for_lost(self, tasks: Sequence[Mapping[str, Any]], run_id: str) -> None:
        """Tell of tasks that Airflow takes for running though their process here is gone."""
        now = time.monotonic()
        for task in tasks:
            key = task["task_id"], task["map_index"], task.get("try_number")
            pid, here = task.get("pid"), task.get("hostname") in NAMES
            if task["state"] != "running" or not here or not pid or psutil.pid_exists(int(pid)):
                continue
            if key not in self.lost:
                self.lost[key] = now
                say(
                    f"  {task['task_id']}: its process is gone; Airflow notices that within a "
                    "minute, and then tries it again or fails it."
                )
            if now - self.lost[key] > LOST_S:
                raise ServiceError(
                    f"The process of task {task['task_id']} has been gone for {LOST_S:.0f} s, and "
                    f"Airflow has not noticed, so that run {run_id} does not go on; see "
                    f"`{command('logs', 'airflow-scheduler')}`, and start the run again."
                )
