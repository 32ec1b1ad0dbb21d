"""What tasks of a DAG run wrote."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from terraflow.orchestration.rest.api import AirflowApi

__all__ = ["LOG_LINES", "log_end", "skip_reason"]

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
    text = "\n".join(map(_line, _content(api, path, task)))
    return [line for line in text.splitlines() if line.strip()][-LOG_LINES:]


def skip_reason(api: AirflowApi, path: str, task: Mapping[str, Any]) -> str:
    """Give what a skipped task said of it, or ""; arguments as of `log_end`."""
    rows = [row for row in _content(api, path, task) if isinstance(row, dict)]
    reasons = [str(row["reason"]) for row in rows if "Skipping" in str(row.get("event"))]
    return reasons[-1].rstrip(".") if reasons else ""


def _content(api: AirflowApi, path: str, task: Mapping[str, Any]) -> list[Any]:
    log = f"{path}/taskInstances/{task['task_id']}/logs/{task['try_number']}"
    params = {"full_content": "true", "map_index": task.get("map_index", -1)}
    content = api.call("GET", log, params=params)["content"]
    rows = content if isinstance(content, list) else [content]
    return [row for row in rows if not _is_noise(row)]


def _is_noise(row: Any) -> bool:
    """Tell what says nothing of the task: folds of Airflow's page, warnings of libraries."""
    if not isinstance(row, dict):
        return False
    event = str(row.get("event", ""))
    return event.startswith(("::group::", "::endgroup::")) or row.get("logger") == "py.warnings"


def _line(entry: Any) -> str:
    if not isinstance(entry, dict):
        return str(entry)
    details = entry.get("error_detail") or []
    told = "; ".join(f"{d.get('exc_type')}: {d.get('exc_value')}" for d in details)
    words = (entry.get("event"), entry.get("reason"), told)
    return " ".join(str(word) for word in words if word)
