"""End the runs of processes that are gone, without MLflow's client, which takes long to load."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

import requests

from terraflow.credentials import read_mlflow_token
from terraflow.settings import Settings
from terraflow.state import is_same, started_at

__all__ = ["end_abandoned_runs", "own_tags"]

HOST, PID, STARTED = "terraflow.host", "terraflow.pid", "terraflow.started"
TIMEOUT_S = 10.0
#: Rows of one answer, of which MLflow gives up to 50 000.
PAGE = 1000


def own_tags() -> dict[str, str]:
    """Give the tags of a run by which one sees later whether its process still lives."""
    pid = os.getpid()
    return {HOST: socket.gethostname(), PID: str(pid), STARTED: f"{started_at(pid):.2f}"}


def end_abandoned_runs(settings: Settings) -> list[str]:
    """Set what is RUNNING though its process on this machine is gone to KILLED.

    Returns
    -------
    list of str
        Ids of these runs; none where MLflow does not answer.
    """
    ended = []
    with suppress(requests.RequestException, ValueError, KeyError):
        for run_id in list(_abandoned(settings)):
            why = {"key": "terraflow.ended", "value": "its process was killed"}
            _post(settings, "runs/set-tag", {"run_id": run_id, **why})
            state = {"status": "KILLED", "end_time": int(time.time() * 1000)}
            _post(settings, "runs/update", {"run_id": run_id, **state})
            ended.append(run_id)
    return ended


def _abandoned(settings: Settings) -> Iterator[str]:
    found = _rows(settings, "experiments", {"view_type": "ACTIVE_ONLY"})
    query: dict[str, Any] = {"filter": "attributes.status = 'RUNNING'"}
    query["experiment_ids"] = [each["experiment_id"] for each in found]
    for run in _rows(settings, "runs", query):
        tags = {tag["key"]: tag["value"] for tag in run["data"].get("tags", [])}
        here = tags.get(HOST) == socket.gethostname()
        if here and not is_same(int(tags.get(PID, 0)), float(tags.get(STARTED, 0))):
            run_id = run["info"]["run_id"]
            again = f"{query['filter']} and attributes.run_id = '{run_id}'"
            if list(_rows(settings, "runs", {**query, "filter": again})):  # did not end meanwhile
                yield run_id


def _rows(settings: Settings, kind: str, query: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Give all that a search finds, page by page."""
    token = ""
    while True:
        page = {"max_results": PAGE} | ({"page_token": token} if token else {})
        found = _post(settings, f"{kind}/search", {**query, **page})
        yield from found.get(kind, [])
        token = found.get("next_page_token", "")
        if not token:
            return


def _post(settings: Settings, what: str, body: Mapping[str, Any]) -> dict[str, Any]:
    with requests.Session() as session:
        session.trust_env = False  # no proxy of the shell is for this machine
        url = f"{settings.mlflow_url}/api/2.0/mlflow/{what}"
        login = {"Authorization": f"Bearer {read_mlflow_token(settings)}"}
        answer = session.post(url, json=dict(body), headers=login, timeout=TIMEOUT_S)
    answer.raise_for_status()
    return dict(answer.json())
