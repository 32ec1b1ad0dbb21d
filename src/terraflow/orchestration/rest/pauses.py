"""DAGs that are paused: no run of them starts or goes on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from terraflow.console import ask, command, say
from terraflow.errors import ServiceError
from terraflow.orchestration.rest.api import AirflowApi, path_of

__all__ = ["check_not_paused", "go_on", "write_paused"]


def check_not_paused(api: AirflowApi, dag: Mapping[str, Any]) -> None:
    """See that runs of a DAG start; offer to unpause it.

    Raises
    ------
    ServiceError
        It is paused, and stays so.
    """
    if dag["is_paused"]:
        go_on(api, dag["dag_id"], "is paused, so that no run of it would start", "then repeat")


def go_on(api: AirflowApi, dag_id: str, why: str, then: str) -> None:
    """Say that a DAG is paused, and unpause it if somebody at the terminal wants that.

    Parameters
    ----------
    why : str
        What follows from it, as "is paused, so that no run of it would start".
    then : str
        What to do, or what happens, after it was unpaused by hand.

    Raises
    ------
    ServiceError
        Nobody wants it, or there is no terminal to ask.
    """
    if ask(f"The DAG {dag_id} {why}. Unpause it and go on?"):
        write_paused(api, dag_id, paused=False)
        return
    unpause = command("dags", "unpause", dag_id)
    raise ServiceError(f"The DAG {dag_id} {why}; run `{unpause}`, {then}.")


def write_paused(api: AirflowApi, dag_id: str, *, paused: bool) -> None:
    """Pause a DAG that Airflow knows, or let it run again."""
    params = {"update_mask": "is_paused"}
    api.call("PATCH", path_of(dag_id), again=True, params=params, json={"is_paused": paused})
    say(f"{dag_id} is paused." if paused else f"{dag_id} is not paused any more.")
