"""Processes and services that die while DAGs run: each task ends well once, no event is lost."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mlflow
import psutil
import pytest

from airflow_api import Airflow, configure, dag_file, task_process
from harness import Stack, open_folder, run_id, wait_for
from terraflow.stack.databases import postgres

pytestmark = [pytest.mark.exhaustive, pytest.mark.timeout(1500)]

MANY = """
import time
from pathlib import Path

from airflow.sdk import Asset, dag, task

from terraflow.orchestration import DAG_DEFAULTS

NUMBERED = Asset("{name}_numbered")


@dag(schedule=None, params={{"count": 8, "seconds": 8, "folder": ""}}, **DAG_DEFAULTS)
def {name}():
    @task
    def numbers(params):
        return list(range(params["count"]))

    @task(outlets=[NUMBERED], max_active_tis_per_dag=64)
    def sleep(number, params, outlet_events):
        time.sleep(params["seconds"])
        outlet_events[NUMBERED].extra = {{"number": number}}
        (Path(params["folder"]) / str(number)).write_text("done")

    sleep.expand(number=numbers())


@dag(schedule=[NUMBERED], dag_id="{name}_told", **DAG_DEFAULTS)
def told():
    @task
    def look():
        return "at what there is"

    look()


{name}()
told()
"""


@contextmanager
def started(folder: Path, **variables: str) -> Iterator[tuple[Stack, Airflow]]:
    """Start a stack with Airflow and MLflow, and wait until it knows the DAGs."""
    stack = Stack(folder, **variables)
    only = ["mlflow", "airflow"] + ["minio"] * (variables["TERRAFLOW_STORE"] == "minio")
    try:
        configure(stack, ("2024-09-30", "2024-04-30"), whole=True)
        stack.ok("up", "--detach", "--only", ",".join(only))
        stack.track()
        airflow = Airflow(stack)
        airflow.wait_for_dags()
        yield stack, airflow
    finally:
        stack.close()


@pytest.fixture(scope="module")
def eight(
    tmp_path_factory: pytest.TempPathFactory, minio_binary: Path
) -> Iterator[tuple[Stack, Airflow]]:
    """A stack with MinIO that runs eight tasks at once."""
    folder = tmp_path_factory.mktemp("outages")
    here = {"TERRAFLOW_STORE": "minio", "TERRAFLOW_AIRFLOW_PARALLELISM": "12"}
    with started(folder, **here) as both:
        both[0].ok("ingest")
        wait_for(lambda: collections_told(both[1]), 120)
        yield both


@pytest.fixture(scope="module")
def many() -> Iterator[str]:
    with dag_file("outages_many", MANY) as name:
        yield name


def all_ready(stack: Stack) -> None:
    def states() -> set[str]:
        rows = stack.services().values()
        return {row["state"] for row in rows if row["service"] in names}

    names = {name for name, row in stack.services().items() if row["state"] != "stopped"}
    wait_for(lambda: states() == {"ready"}, 120)


def events_of(airflow: Airflow, asset: str) -> list[dict[str, Any]]:
    """All events of an asset, the oldest first; Airflow fails while a run of theirs is queued."""
    found = airflow.get("/assets", name_pattern=asset)["assets"]
    [asset_id] = [row["id"] for row in found if row["name"] == asset]
    rows: list[dict[str, Any]] = []
    total = 1
    while len(rows) < total:  # Airflow gives a hundred at once
        asked = {"asset_id": asset_id, "limit": 100, "offset": len(rows), "order_by": "timestamp"}
        page = wait_for(lambda asked=asked: events_page(airflow, asked), 120)
        total = page["total_entries"]
        rows += page["asset_events"]
    assert len({row["id"] for row in rows}) == total
    return sorted(rows, key=lambda row: row["id"])


def events_page(airflow: Airflow, asked: dict[str, Any]) -> dict[str, Any] | None:
    answer = airflow.client.get("/api/v2/assets/events", params=asked)
    return None if answer.status_code == 500 else dict(answer.json())


def collections_told(airflow: Airflow) -> Counter[str]:
    extras = [event["extra"] for event in events_of(airflow, "land_cover_scenes")]
    return Counter(uri for extra in extras for uri in extra.get("collections", ()))


def each_once(airflow: Airflow, name: str, run: str, *, folder: Path, before: int) -> None:
    """See that each mapped task succeeded, worked, and told its number once.

    Airflow names only some of the events that come at once to the run that they start, so that what
    counts is that a run started after the last one.
    """
    rows = airflow.tasks(name, run)["sleep"]
    count = airflow.get(f"/dags/{name}/dagRuns/{run}")["conf"]["count"]
    assert [row["map_index"] for row in rows] == list(range(count))
    assert {row["state"] for row in rows} == {"success"}
    assert {path.name for path in folder.iterdir()} == {str(n) for n in range(count)}
    events = events_of(airflow, f"{name}_numbered")[before:]
    assert sorted(event["extra"]["number"] for event in events) == list(range(count))

    def told() -> bool:
        runs = airflow.runs(f"{name}_told")
        last = max((run["start_date"] or "" for run in runs), default="")
        return last > events[-1]["timestamp"] and {run["state"] for run in runs} == {"success"}

    wait_for(told, 120)


@pytest.mark.parametrize(
    "service",
    ["airflow-scheduler", "airflow-triggerer", "airflow-dag-processor", "airflow-api"],
)
def test_component_killed_while_eight_tasks_run(
    service: str, eight: tuple[Stack, Airflow], many: str, tmp_path: Path
) -> None:
    stack, airflow = eight
    airflow.wait_for_dags(many, f"{many}_told")
    before = len(events_of(airflow, f"{many}_numbered"))
    told = collections_told(airflow)
    (folder := tmp_path / "done").mkdir()
    run = airflow.trigger(many, count=8, seconds=8, folder=str(folder))
    wait_for(
        lambda: (
            [row["state"] for row in airflow.tasks(many, run).get("sleep", ())] == ["running"] * 8
        ),
        120,
    )
    ends = {
        "airflow-scheduler": "05-31",
        "airflow-triggerer": "06-30",
        "airflow-dag-processor": "07-31",
        "airflow-api": "08-31",
    }
    configure(stack, ("2024-09-30", f"2024-{ends[service]}"))
    os.kill(stack.services()[service]["pid"], signal.SIGKILL)
    stack.ok("ingest")  # an event while the component is away
    all_ready(stack)
    airflow.finished(many, run, 400)
    each_once(airflow, many, run, folder=folder, before=before)
    wait_for(lambda: collections_told(airflow) != told, 120)
    time.sleep(30)  # an event told twice would be told by now
    [(_, count)] = (collections_told(airflow) - told).items()
    assert count == 1


@contextmanager
def away(stack: Stack, service: str) -> Iterator[None]:
    """Kill a service, and keep its supervisor from starting it again for a while."""
    process = psutil.Process(stack.services()[service]["pid"])
    supervisor = process.parent()
    assert supervisor
    supervisor.suspend()
    try:
        process.kill()
        yield
    finally:
        supervisor.resume()


@pytest.mark.parametrize(
    ("service", "task"),
    [("mlflow", "train"), ("minio", "ingest"), ("minio", "train"), ("mlflow", "promote")],
)
def test_service_away_for_30_s_in_the_midst_of_a_training(
    service: str, task: str, eight: tuple[Stack, Airflow]
) -> None:
    stack, airflow = eight
    month = {"ingest": "2024-09-30", "train": "2024-08-31", "promote": "2024-07-31"}[task]
    configure(stack, ("2024-09-30", month))
    run = airflow.trigger("land_cover_training")

    def state() -> str:
        rows = airflow.tasks("land_cover_training", run).get(task, ())
        return str(rows[0]["state"]) if rows else ""

    wait_for(lambda: state() == "running", 300)
    with away(stack, service):
        time.sleep(30)
    all_ready(stack)
    airflow.finished("land_cover_training", run, 600)
    result = airflow.result("land_cover_training", run, "train")
    client = mlflow.MlflowClient()
    assert client.get_run(result["run_id"]).info.status == "FINISHED"
    experiment = client.get_experiment_by_name("land-cover")
    assert experiment
    assert not client.search_runs([experiment.experiment_id], "attributes.status = 'RUNNING'")
    versions = client.search_model_versions("name = 'land-cover'")
    assert [v.run_id for v in versions].count(result["run_id"]) == 1


def of_service(name: str) -> Callable[[Stack, psutil.Process], psutil.Process]:
    return lambda stack, task: psutil.Process(stack.services()[name]["pid"])


def ancestor(steps: int) -> Callable[[Stack, psutil.Process], psutil.Process]:
    def find(stack: Stack, task: psutil.Process) -> psutil.Process:
        return [task, *task.parents()][steps]

    return find


VICTIMS = {
    "task": ancestor(0),
    "worker": ancestor(1),
    "scheduler": of_service("airflow-scheduler"),
    "api-server": of_service("airflow-api"),
    "triggerer": of_service("airflow-triggerer"),
    "dag-processor": of_service("airflow-dag-processor"),
    "mlflow": of_service("mlflow"),
    "minio": of_service("minio"),
}


@pytest.mark.parametrize("victim", list(VICTIMS))
def test_train_airflow_tells_the_truth_within_three_minutes(
    victim: str,
    eight: tuple[Stack, Airflow],
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    stack, airflow = eight
    configure(stack)
    log = tmp_path / "train.log"
    before = {run["dag_run_id"] for run in airflow.runs("land_cover_training")}
    train = stack.start("train", "--airflow", log=log)

    def running() -> psutil.Process | None:
        new = [r["dag_run_id"] for r in airflow.runs("land_cover_training")]
        for run in set(new) - before:
            for row in airflow.tasks("land_cover_training", run).get("train", ()):
                if row["state"] == "running":
                    return task_process(stack, row["id"])
        return None

    process = wait_for(running, 300)
    time.sleep(2)
    VICTIMS[victim](stack, process).kill()
    began = time.monotonic()
    code = train.wait(240)
    took = time.monotonic() - began
    all_ready(stack)
    said = log.read_text()
    record_property("seconds", took)
    assert took < 180, said
    assert "Traceback" not in said
    assert code == 0, said
    assert mlflow.get_run(run_id(said)).info.status == "FINISHED"
    [run] = {r["dag_run_id"] for r in airflow.runs("land_cover_training")} - before
    assert airflow.get(f"/dags/land_cover_training/dagRuns/{run}")["state"] == "success"


def run_64(
    both: tuple[Stack, Airflow], many: str, folder: Path, while_they_run: Callable[[Stack], object]
) -> float:
    """Run 64 short tasks, do something once a third has ended; return the seconds."""
    stack, airflow = both
    folder.mkdir()
    airflow.wait_for_dags(many, f"{many}_told")
    before = len(events_of(airflow, f"{many}_numbered"))
    began = time.monotonic()
    run = airflow.trigger(many, count=64, seconds=0.2, folder=str(folder))
    wait_for(lambda: len(list(folder.iterdir())) > 20, 300)
    while_they_run(stack)
    all_ready(stack)
    airflow.finished(many, run, 900)
    took = time.monotonic() - began
    each_once(airflow, many, run, folder=folder, before=before)
    return took


def nothing_locked(stack: Stack) -> None:
    logs = [*stack.var.rglob("*.log"), *stack.var.rglob("*.log.*")]
    assert len(logs) > 64
    locked = [path for path in logs if "database is locked" in path.read_text(errors="ignore")]
    assert locked == []


def test_64_short_tasks_on_sqlite(
    many: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    with started(tmp_path / "stack", TERRAFLOW_STORE="local") as both:
        took = run_64(both, many, tmp_path / "undisturbed", lambda stack: None)
        record_property("seconds", took)
        nothing_locked(both[0])


def test_64_short_tasks_on_postgresql_and_again_with_a_kill(
    many: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    if not postgres.candidates():
        pytest.skip("there is no postgres program, neither of the system nor of the extra")

    def kill(stack: Stack) -> None:
        os.kill(stack.services()["postgresql"]["pid"], signal.SIGKILL)
        time.sleep(10)  # Airflow's API server fails while its database is away

    here = {"TERRAFLOW_STORE": "local", "TERRAFLOW_DATABASE_KIND": "postgresql"}
    with open_folder() as folder, started(folder, **here) as both:
        took = run_64(both, many, tmp_path / "undisturbed", lambda stack: None)
        record_property("seconds", took)
        took = run_64(both, many, tmp_path / "killed", kill)
        record_property("seconds with a kill", took)
