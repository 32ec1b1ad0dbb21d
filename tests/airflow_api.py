"""Airflow's REST API, for tests that look at what its DAGs did."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from textwrap import indent
from typing import Any

import httpx
import psutil

from harness import A_PART, ROOT, Stack, wait_for

DAGS = {
    "example_dag",
    "land_cover_mapping",
    "land_cover_monitoring",
    "land_cover_retraining",
    "land_cover_training",
    "land_cover_training_yaml",
    "land_cover_watch",
}
#: What starts by itself when images come or a champion changes.
FOLLOWING = ("land_cover_mapping", "land_cover_monitoring", "land_cover_watch")


def configure(
    stack: Stack,
    *changes: tuple[str, str],
    weak: bool = False,
    whole: bool = False,
    more: str = "",
) -> None:
    """Write the project file of a stack anew, with a model that is quick, or that learns nothing.

    All labelled pixels of a part of the area, or of the whole, are taken, so that two models are
    tested on the same ones.
    """
    text = (ROOT / "config" / "land_cover.toml").read_text()
    model = (
        "hidden_layer_sizes = [1], max_iter = 3"
        if weak
        else "hidden_layer_sizes = [64], max_iter = 30"
    )
    ours = (
        ("[data]\n", "[data]\n" if whole else f"[data]\n{A_PART}"),
        ("samples_per_class = 1000\n", ""),
        ("hidden_layer_sizes = [64]", model),
    )
    for old, new in (*ours, *changes):
        assert old in text
        text = text.replace(old, new)
    (stack.config / "land_cover.toml").write_text(f"{text}\n{more}")


@contextmanager
def dag_file(name: str, text: str, stack: Stack | None = None) -> Iterator[str]:
    """Put a DAG file into dags/ for a while; {name} in its text is the name.

    All stacks of the checkout read it, and have its DAG unless it is for one of them.
    """
    path = ROOT / "dags" / f"{name}.py"
    code = text.format(name=name)
    if stack:
        mine = f"import os\nif os.environ['TERRAFLOW_VAR'] == {str(stack.var)!r}:\n"
        code = mine + indent(code, "    ")
    path.write_text(code)
    try:
        yield name
    finally:
        path.unlink()


def task_process(stack: Stack, ti_id: str) -> psutil.Process | None:
    """The process that runs a task's own code."""
    for process in stack.processes():
        if process.cmdline() and process.cmdline()[0] == f"airflow worker -- {ti_id}":
            return process
    return None


class Airflow:
    """The API server of a running stack, logged in as its admin."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.client = httpx.Client(base_url=stack.url("airflow"), timeout=30, trust_env=False)
        login = {"username": "admin", "password": stack.credentials()["airflow password"]}
        token = self.client.post("/auth/token", json=login).json()["access_token"]
        self.client.headers["Authorization"] = f"Bearer {token}"

    @classmethod
    def at_rest(cls, stack: Stack) -> Airflow:
        """Let no DAG of a stack start by itself, where its tests look at other things."""
        api = cls(stack)
        api.wait_for_dags()
        for dag in FOLLOWING:
            api.send("PATCH", f"/dags/{dag}", {"is_paused": True})
        return api

    def wait_for_dags(self, *more: str) -> None:
        """Wait until Airflow has read the DAGs of the checkout, and others."""
        wanted = {*DAGS, *more}
        wait_for(lambda: {dag["dag_id"] for dag in self.get("/dags")["dags"]} >= wanted, 120, 1)

    def get(self, path: str, **params: Any) -> Any:
        answer = self.client.get(f"/api/v2{path}", params=params)
        assert answer.is_success, answer.text
        return answer.json()

    def send(self, method: str, path: str, body: dict[str, Any]) -> Any:
        answer = self.client.request(method, f"/api/v2{path}", json=body)
        assert answer.is_success, answer.text
        return answer.json()

    def trigger(self, dag: str, **conf: Any) -> str:
        """Start a run by hand."""
        body = {"logical_date": None, "conf": conf}
        return str(self.send("POST", f"/dags/{dag}/dagRuns", body)["dag_run_id"])

    def runs(self, dag: str, kind: str = "") -> list[dict[str, Any]]:
        """Runs of a DAG, the latest first; of one type, as "asset_triggered", if asked."""
        found = self.get(f"/dags/{dag}/dagRuns", order_by="-run_after", limit=100)["dag_runs"]
        return [run for run in found if not kind or run["run_type"] == kind]

    def tasks(self, dag: str, run_id: str) -> dict[str, list[dict[str, Any]]]:
        """Task id to its instances: one, or those of a mapped task in their order."""
        rows = self.get(f"/dags/{dag}/dagRuns/{run_id}/taskInstances", limit=100)
        found: dict[str, list[dict[str, Any]]] = {}
        for row in sorted(rows["task_instances"], key=lambda row: row["map_index"]):
            found.setdefault(row["task_id"], []).append(row)
        return found

    def states(self, dag: str, run_id: str) -> dict[str, list[str]]:
        """Task id to the states of its instances."""
        return {
            name: [row["state"] for row in rows] for name, rows in self.tasks(dag, run_id).items()
        }

    def answer(self, dag: str, run_id: str, option: str, reason: str) -> dict[str, Any]:
        """Answer the task `approve` as a person would, some seconds after it asks; give its page.

        Airflow loses an answer that comes before its scheduler knows that the task waits.
        """
        wait_for(lambda: self.states(dag, run_id).get("approve") == ["awaiting_input"], 400, 1)
        path = f"/dags/{dag}/dagRuns/{run_id}/taskInstances/approve/-1/hitlDetails"
        page = dict(self.get(path))
        time.sleep(10)
        body = {"chosen_options": [option], "params_input": {"reason": reason}}
        self.send("PATCH", path, body)
        return page

    def events(self, dag: str, run_id: str) -> list[dict[str, Any]]:
        """Asset events that started a run; Airflow fails while a run of theirs is queued."""
        path = f"/api/v2/dags/{dag}/dagRuns/{run_id}/upstreamAssetEvents"
        answer = wait_for(lambda: (got := self.client.get(path)).status_code != 500 and got, 120, 1)
        return list(answer.json()["asset_events"])

    def result(self, dag: str, run_id: str, task: str) -> Any:
        """What a task returned."""
        path = f"/dags/{dag}/dagRuns/{run_id}/taskInstances/{task}/xcomEntries/return_value"
        return self.get(path, deserialize="false", stringify="false")["value"]

    def finished(
        self, dag: str, run_id: str, seconds: float = 240, state: str = "success"
    ) -> dict[str, list[str]]:
        """Wait for a run's end, which must be this one; give the states of its tasks."""
        path = f"/dags/{dag}/dagRuns/{run_id}"
        ended = wait_for(
            lambda: (now := self.get(path)["state"]) in ("success", "failed") and now, seconds, 1
        )
        states = self.states(dag, run_id)
        assert ended == state, f"{dag}: {states}\n{self.failures(dag, run_id)}"
        return states

    def failures(self, dag: str, run_id: str) -> str:
        """The ends of the failed tasks' logs."""
        told = []
        for rows in self.tasks(dag, run_id).values():
            for row in rows:
                if row["state"] == "failed":
                    path = f"/dags/{dag}/dagRuns/{run_id}/taskInstances/{row['task_id']}"
                    log = self.get(
                        f"{path}/logs/{row['try_number']}",
                        map_index=row["map_index"],
                        full_content="true",
                    )["content"]
                    told.append(f"{row['task_id']}: {log[-8:]}"[-6000:])
        return "\n".join(told)

    def next_run(
        self, dag: str, known: set[str], where: Callable[[str], bool], seconds: float = 240
    ) -> str:
        """Wait for a run that is not known and whose id fulfils a condition."""

        def found() -> str | None:
            new = [r["dag_run_id"] for r in self.runs(dag) if r["dag_run_id"] not in known]
            return next((run for run in new if where(run)), None)

        return str(wait_for(found, seconds, 1))
