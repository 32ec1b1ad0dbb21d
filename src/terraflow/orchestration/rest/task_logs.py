"""What tasks of a DAG run wrote."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from terraflow.orchestration.rest.api import AirflowApi

__all__ = ["LOG_LINES", "log_end"]

#: So many lines of each log are shown.
LOG_LINES = 15


def log_end(api: AirflowApi, path: str, task: Mapping[str, Any]) -> list[str]:
    """Give the last lines of the log of a task's last try.

    Parameters
    ----------
    path : str
        Of the DAG run, as of `path_of`.
    task : mapping
        A task instance, as Airflow tells it.
    """
    log = f"{path}/taskInstances/{task['task_id']}/logs/{task['try_number']}"
    params = {"full_content": "true", "map_index": task.get("map_index", -1)}
    content = api.call("GET", log, params=params)["content"]
    text = "\n".join(map(_line, content if isinstance(content, list) else [content]))
    return [line for line in text.splitlines() if line.strip()][-LOG_LINES:]


def _line(entry: Any) -> str:
    if not isinstance(entry, dict):
        return str(entry)
    details = entry.get("error_detail") or []
    told = "; ".join(f"{d.get('exc_type')}: {d.get('exc_value')}" for d in details)
    return f"{entry.get('event', '')} {told}".rstrip()
