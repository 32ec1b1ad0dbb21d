"""Other reasons for DAGs to run: a schedule, a backfill, a catalogue that grows."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import mlflow
import pytest

from airflow_api import Airflow, configure, dag_file
from harness import Stack

MONITORING = "land_cover_monitoring"
MINUTELY = """
from airflow.sdk import dag

from terraflow.orchestration import DAG_DEFAULTS, StepOperator


@dag(schedule="* * * * *", **DAG_DEFAULTS)
def {name}():
    StepOperator(step="monitor", inputs={{"month": "2024-05"}})


{name}()
"""


def known(airflow: Airflow, dag: str) -> set[str]:
    return {run["dag_run_id"] for run in airflow.runs(dag)}


@pytest.mark.exhaustive
def test_backfill_gives_one_drift_figure_for_each_month(
    trained: str, airflow: Airflow, dag_stack: Stack
) -> None:
    configure(dag_stack)
    dag_stack.ok("ingest")
    before = known(airflow, MONITORING)
    words = ("--from", "2024-04-01", "--to", "2024-06-30")
    dag_stack.ok("dags", "backfill", MONITORING, *words, timeout=500)
    runs = [run for run in airflow.runs(MONITORING, "backfill") if run["dag_run_id"] not in before]
    assert [run["state"] for run in runs] == ["success"] * 3
    found = [airflow.result(MONITORING, run["dag_run_id"], "monitor") for run in runs]
    assert sorted(each["month"] for each in found) == ["2024-04", "2024-05", "2024-06"]
    assert all(each["psi"] and each["pixels"] > 1000 for each in found)
    assert len({mlflow.get_run(each["run_id"]).info.run_id for each in found}) == 3


@pytest.mark.slow
def test_schedule_starts_a_run_when_its_time_has_come(
    trained: str, airflow: Airflow, dag_stack: Stack
) -> None:
    configure(dag_stack)
    with dag_file("dags_reasons_minutely", MINUTELY, dag_stack) as name:
        airflow.wait_for_dags(name)
        run = airflow.next_run(name, set(), bool)
        assert [each["run_type"] for each in airflow.runs(name)][-1] == "scheduled"
        airflow.finished(name, run)
    assert airflow.result(name, run, "monitor")["month"] == "2024-05"


@pytest.mark.exhaustive
def test_item_that_a_catalogue_gets_is_ingested_and_mapped(
    trained: str, airflow: Airflow, dag_stack: Stack, tmp_path: Path
) -> None:
    [source] = (dag_stack.var / "eo-data").glob("simulated-*")
    shutil.copytree(source, tmp_path / "growing")
    catalogue = tmp_path / "growing" / "catalog.json"
    full = json.loads(catalogue.read_text())
    last = max(link["href"] for link in full["links"] if link["rel"] == "item")
    item = catalogue.parent / last
    fields = json.loads(item.read_text())
    fields["id"] += "-later"
    fields["properties"]["datetime"] = "2024-09-24T10:00:00Z"
    item.write_text(json.dumps(fields))
    links = [link for link in full["links"] if link["href"] != last]
    catalogue.write_text(json.dumps(full | {"links": links}))
    configure(
        dag_stack,
        ('catalogue = "simulated"', f'catalogue = "{catalogue}"'),
        more="[watch]\ncatalogue_s = 5\n",
    )
    before = known(airflow, "land_cover_mapping")
    dag_stack.ok("ingest")
    catalogue.write_text(json.dumps(full))

    def of_the_item(run: str) -> bool:
        rows = airflow.tasks("land_cover_mapping", run).get("map", ())
        return "2024-09-24" in [row["rendered_map_index"] for row in rows]

    run = airflow.next_run("land_cover_mapping", before, of_the_item)
    airflow.finished("land_cover_mapping", run)
