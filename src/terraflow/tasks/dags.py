"""Task dags: Airflow's DAGs from the shell."""

from __future__ import annotations

from invoke.context import Context

from terraflow.errors import ConfigError, did_you_mean
from terraflow.tasks.task import optional_argument, task

__all__ = ["dags"]

#: Actions to the options that each takes.
ACTIONS = {
    "list": (),
    "trigger": ("conf", "wait"),
    "pause": (),
    "unpause": (),
    "logs": ("run", "task"),
    "backfill": ("from", "to"),
    "approve": ("run", "reject", "reason"),
}
VALUED = ("--conf", "--run", "--task", "--from", "--to", "--reason")


@task(
    positional=optional_argument("dags", "action", "name", valued=VALUED),
    iterable=["conf"],
    auto_shortflags=False,
    help={
        "action": "list, trigger, pause, unpause, logs, backfill or approve",
        "name": "a DAG, as land_cover_training",
        "conf": "of trigger: a parameter, as --conf tune=5",
        "wait": "of trigger: follow the run to its end",
        "run": "of logs and approve: the id of a run",
        "task": "of logs: one task alone",
        "from_": "of backfill: the first day, as 2024-01-01",
        "to": "of backfill: the last day",
        "reject": "of approve: say no",
        "reason": "of approve: why",
    },
)
def dags(
    c: Context,
    conf: list[str],
    action: str | None = None,
    name: str | None = None,
    wait: bool = False,
    run: str = "",
    task: str = "",
    from_: str = "",
    to: str = "",
    reject: bool = False,
    reason: str = "",
) -> int:
    """List Airflow's DAGs, or trigger, pause, unpause, backfill, approve one, or show its logs."""
    action, name = action or "list", name or ""
    given = {"conf": conf, "wait": wait, "run": run, "task": task, "from": from_, "to": to}
    given |= {"reject": reject, "reason": reason}
    _check(action, name, [option for option, value in given.items() if value])
    from terraflow import settings
    from terraflow.orchestration.rest import approvals, backfill, dag_runs
    from terraflow.orchestration.rest import dags as known
    from terraflow.orchestration.rest.api import AirflowApi
    from terraflow.stack.lifecycle.readiness import watched

    loaded = settings.load()
    days = backfill.read_days(from_, to) if action == "backfill" else None
    with watched(loaded, ("airflow-api",)), AirflowApi(loaded) as api:
        if action == "list":
            known.print_dags(api)
        elif action == "trigger":
            values = known.read_conf(known.find_dag(api, name), conf)
            dag_runs.start(api, name, values, wait=wait)
        elif action in ("pause", "unpause"):
            known.set_paused(api, name, paused=action == "pause")
        elif action == "logs":
            known.print_task_logs(api, name, run, task)
        elif action == "approve":
            approvals.approve(api, name, run, reject=reject, reason=reason)
        elif days:
            from terraflow.stack.environment import environment

            return backfill.backfill(api, name, days, environment(loaded))
    return 0


def _check(action: str, name: str, options: list[str]) -> None:
    """Refuse an action that is not known, lacks a DAG, or does not take an option."""
    if action not in ACTIONS:
        raise ConfigError(
            f"dags {action} is not known{did_you_mean(action, ACTIONS)}; write one of "
            f"{', '.join(ACTIONS)}."
        )
    if action != "list" and not name:
        raise ConfigError(f"dags {action} lacks the name of a DAG; write dags {action} NAME.")
    if action == "list" and name:
        raise ConfigError(f"dags list takes no name, but got {name!r}; write dags logs {name}.")
    for option in options:
        if option not in ACTIONS[action]:
            raise ConfigError(f"dags {action} takes no --{option}; leave it out.")
