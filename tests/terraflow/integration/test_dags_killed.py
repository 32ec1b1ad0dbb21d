"""Tasks of DAGs whose processes are killed: the next try ends well, and nothing is there twice."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable

import mlflow
import pytest

from airflow_api import Airflow, configure, task_process
from harness import Stack, wait_for


def kill_task(
    airflow: Airflow, dag: str, run: str, task: str, *, once: Callable[[], object], after_s: float
) -> None:
    """Kill -9 a task's process, some seconds after it has come to a point of its work."""

    def running() -> str | None:
        rows = airflow.tasks(dag, run).get(task, ())
        return next((row["id"] for row in rows if row["state"] == "running"), None)

    ti_id = wait_for(running, 400)
    process = wait_for(lambda: task_process(airflow.stack, ti_id), 60)
    wait_for(once, 100)
    time.sleep(after_s)
    os.kill(process.pid, signal.SIGKILL)


@pytest.mark.exhaustive
def test_training_killed_ends_well_with_one_version_and_no_run_left_running(
    dag_stack: Stack, airflow: Airflow
) -> None:
    configure(dag_stack)
    client = mlflow.MlflowClient()
    before = {v.version for v in client.search_model_versions("name = 'land-cover'")}
    run = airflow.trigger("land_cover_training")
    mine = f"tags.`mlflow.note.content` LIKE '%{run}%'"

    def runs() -> list[mlflow.entities.Run]:
        experiment = client.get_experiment_by_name("land-cover")
        return list(client.search_runs([experiment.experiment_id], mine)) if experiment else []

    kill_task(airflow, "land_cover_training", run, "train", once=runs, after_s=3)
    airflow.finished("land_cover_training", run, 600)
    [task] = airflow.tasks("land_cover_training", run)["train"]
    assert task["try_number"] == 2
    versions = {v.version for v in client.search_model_versions("name = 'land-cover'")}
    assert len(versions - before) == 1
    assert sorted(found.info.status for found in runs()) == ["FINISHED", "KILLED"]
    assert not client.search_runs([runs()[0].info.experiment_id], "attributes.status = 'RUNNING'")
    [finished] = [found for found in runs() if found.info.status == "FINISHED"]

    again = airflow.trigger("land_cover_training")  # undisturbed
    airflow.finished("land_cover_training", again, 600)
    result = airflow.result("land_cover_training", again, "train")
    assert client.get_run(result["run_id"]).data.metrics == finished.data.metrics


@pytest.mark.exhaustive
def test_mapping_killed_ends_with_the_same_map(
    trained: str, dag_stack: Stack, airflow: Airflow
) -> None:
    configure(dag_stack)
    first = airflow.trigger("land_cover_mapping")  # whatever is not mapped yet
    airflow.finished("land_cover_mapping", first, 600)
    version = mlflow.MlflowClient().get_model_version_by_alias("land-cover", "champion").version
    items = (dag_stack.var / "eo-data" / "land-cover" / "maps").glob("*/map.json")
    maps = [
        path.with_suffix(".tif")
        for path in items
        if json.loads(path.read_text())["properties"]["terraflow:model"].endswith(f"/{version}")
    ]
    assert maps
    latest = max(maps, key=lambda path: path.stat().st_mtime)
    undisturbed = latest.read_bytes()
    for path in latest.parent.iterdir():
        path.unlink()
    run = airflow.trigger("land_cover_mapping")
    kill_task(airflow, "land_cover_mapping", run, "map", once=lambda: True, after_s=2)
    airflow.finished("land_cover_mapping", run, 600)
    [task] = airflow.tasks("land_cover_mapping", run)["map"]
    assert task["try_number"] == 2
    assert latest.read_bytes() == undisturbed
    left = [path for path in (dag_stack.var / "tmp").iterdir() if "map.tif" in path.name]
    assert left == []
