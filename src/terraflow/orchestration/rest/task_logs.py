"""What tasks of a DAG run wrote."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from terraflow.console import command
from terraflow.orchestration.rest.api import AirflowApi

__all__ = ["LOG_LINES", "log_end", "skip_reason"]

#: So many lines of each log are shown.
LOG_LINES = 15
#: What Airflow's scheduler notes of a task whose process could not tell it.
NOTED = (
    "state mismatch",
    "heartbeat timeout",
    "stuck in queued reschedule",
    "stuck in queued tries exceeded",
)
#: How lines begin that say nothing: folds of Airflow's page, and that there is no log.
NOISE = ("::group::", "::endgroup::", "No logs available")
#: So much of the scheduler's log is looked through, in bytes, from its end.
SEEN_BYTES = 2_000_000


def log_end(api: AirflowApi, path: str, task: Mapping[str, Any]) -> list[str]:
    """Give the last lines of the log of a task's last try; where it is empty, of the scheduler's.

    Parameters
    ----------
    path : str
        Of the DAG run, as of `path_of`.
    task : mapping
        A task instance, as Airflow tells it.
    """
    text = "\n".join(map(_line, _content(api, path, task)))
    lines = [line for line in text.splitlines() if line.strip()][-LOG_LINES:]
    if lines or task["state"] not in ("failed", "up_for_retry"):
        return lines
    return _scheduler_says(api, path, task)[-LOG_LINES:]


def _scheduler_says(api: AirflowApi, path: str, task: Mapping[str, Any]) -> list[str]:
    """Give what the scheduler noted of a task, or else the lines of its log that name it."""
    _, _, dag_id, _, run_id = map(unquote, path.split("/"))
    name, index = task["task_id"], task.get("map_index", -1)
    rows = api.rows("/eventLogs", "event_logs", dag_id=dag_id, run_id=run_id, task_id=name)
    noted = [
        f"Airflow's scheduler: {row['event']}: {row.get('extra') or ''}".rstrip(": ")
        for row in rows
        if row["event"] in NOTED and row.get("map_index") in (index, None)
    ]
    log = api.settings.log_dir / "airflow-scheduler.log"
    see = f"Its log is empty; see `{command('logs', 'airflow-scheduler')}`."
    return noted or [line for line in _end(log) if run_id in line and name in line] or [see]


def _end(path: Path) -> list[str]:
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - SEEN_BYTES))
            return file.read().decode(errors="replace").splitlines()
    except OSError:
        return []


def skip_reason(api: AirflowApi, path: str, task: Mapping[str, Any]) -> str:
    """Give what a skipped task said of it, or ""; arguments as of `log_end`."""
    rows = [row for row in _content(api, path, task) if isinstance(row, dict)]
    reasons = [str(row["reason"]) for row in rows if "Skipping" in str(row.get("event"))]
    return reasons[-1].rstrip(".") if reasons else ""


def _content(api: AirflowApi, path: str, task: Mapping[str, Any]) -> list[Any]:
    """Read a log to its end, or as far as it is written: Airflow gives it in parts."""
    log = f"{path}/taskInstances/{task['task_id']}/logs/{task['try_number']}"
    params = {"full_content": "true", "map_index": task.get("map_index", -1)}
    rows: list[Any] = []
    while True:
        answer = api.call("GET", log, params=params)
        content = answer["content"]
        part = content if isinstance(content, list) else [content]
        told = [row for row in part if row and not _is_noise(row)]
        rows += told
        token = answer.get("continuation_token")
        if not token or not told:
            return rows
        params["token"] = token


def _is_noise(row: Any) -> bool:
    """Tell what says nothing of the task: folds of Airflow's page, warnings of libraries."""
    if not isinstance(row, dict):
        return False
    event = str(row.get("event", ""))
    return event.startswith(NOISE) or row.get("logger") == "py.warnings"


def _line(entry: Any) -> str:
    if not isinstance(entry, dict):
        return str(entry)
    details = entry.get("error_detail") or []
    told = "; ".join(f"{d.get('exc_type')}: {d.get('exc_value')}" for d in details)
    words = (entry.get("event"), entry.get("reason"), told)
    return " ".join(str(word) for word in words if word)
