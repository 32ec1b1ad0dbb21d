"""Whether somebody goes on with a run."""

from __future__ import annotations

import time

from terraflow.console import command
from terraflow.errors import ServiceError
from terraflow.orchestration.rest.api import AirflowApi, path_of

__all__ = ["SchedulerWatch"]

#: How long a scheduler may be missing while nothing happens, and how often it is looked for.
MISSING_S, HEALTH_S = 120.0, 10.0


class SchedulerWatch:
    """Notices that nobody goes on with a run."""

    def __init__(self, api: AirflowApi) -> None:
        self.api = api
        self.next = time.monotonic() + HEALTH_S
        self.missing_since: float | None = None
        self.before: object = None

    def check(self, progress: object, dag_id: str, run_id: str, *, busy: bool) -> None:
        """Look at times whether somebody will go on.

        Parameters
        ----------
        progress : object
            Differs from the last look's where something has happened.
        busy : bool
            Whether a task works: a paused DAG ends that one, but starts no other.

        Raises
        ------
        ServiceError
            The scheduler is missing for long without progress, or the DAG is paused.
        """
        now = time.monotonic()
        if progress != self.before:
            self.before, self.missing_since = progress, None
        if now < self.next:
            return
        self.next = now + HEALTH_S
        if not busy and self.api.call("GET", path_of(dag_id))["is_paused"]:
            raise ServiceError(
                f"The DAG {dag_id} was paused, so that run {run_id} does not go on; run "
                f"`{command('dags', 'unpause', dag_id)}`, which lets it."
            )
        health = self.api.call("GET", "/monitor/health").get("scheduler") or {}
        if health.get("status") == "healthy":
            self.missing_since = None
            return
        self.missing_since = self.missing_since or now
        if now - self.missing_since > MISSING_S:
            raise ServiceError(
                f"Airflow's scheduler has been {health.get('status') or 'missing'} for more than "
                f"{MISSING_S:.0f} s, and run {run_id} of {dag_id} does not go on; see "
                f"`{command('logs', 'airflow-scheduler')}`."
            )
