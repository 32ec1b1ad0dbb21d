"""The DAGs on a running stack: what one tells another, from new images to a new champion's maps."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
import rasterio

from airflow_api import DAGS, Airflow, configure
from harness import Stack, holders, wait_for


def known(airflow: Airflow, dag: str) -> set[str]:
    return {run["dag_run_id"] for run in airflow.runs(dag)}


def champion() -> str:
    client = mlflow.MlflowClient()
    return str(client.get_model_version_by_alias("land-cover", "champion").version)


def test_dags_are_all_there_unpaused_with_a_text(airflow: Airflow) -> None:
    assert airflow.get("/importErrors")["import_errors"] == []
    dags = airflow.get("/dags")["dags"]
    assert {dag["dag_id"] for dag in dags} == DAGS
    for dag in dags:
        assert not dag["is_paused"]
        details = airflow.get(f"/dags/{dag['dag_id']}/details")
        assert details["doc_md"].startswith("## ")
        assert details["catchup"] is False
    assert not any(
        run["state"] == "failed" for dag in DAGS for run in airflow.runs(dag)
    )  # nothing fails on a stack without images and models


def test_pools_are_there(airflow: Airflow) -> None:
    pools = {pool["name"]: pool["slots"] for pool in airflow.get("/pools")["pools"]}
    assert pools["training"] >= 1
    assert pools["mapping"] >= 1


def test_training_runs_each_step_and_announces_the_first_champion(
    trained: str, airflow: Airflow, dag_stack: Stack
) -> None:
    states = airflow.states("land_cover_training", trained)
    assert states.pop("deploy") == ["skipped"]  # no machine is named
    assert set(states) == {
        *("ingest", "preprocess", "train", "gate", "approve", "promote", "announce")
    }
    assert all(state == ["success"] for state in states.values())
    result = airflow.result("land_cover_training", trained, "train")
    run = mlflow.get_run(result["run_id"])
    assert run.info.status == "FINISHED"
    assert f"Run {trained} of land_cover_training" in run.data.tags["mlflow.note.content"]
    assert champion() == "1"
    link = airflow.get(f"/dags/land_cover_training/dagRuns/{trained}/taskInstances/train/links")[
        "extra_links"
    ]
    assert link == {"Result": result["url"]}
    # skops looks for functions in all that is imported, and Airflow warned a thousand times
    assert not holders(dag_stack.var / "airflow" / "logs", "attribute is deprecated")


@pytest.mark.slow
def test_new_champion_maps_every_scene_and_reports(
    trained: str, airflow: Airflow, dag_stack: Stack
) -> None:
    def with_maps() -> str | None:
        for run in airflow.runs("land_cover_mapping", "asset_triggered"):
            tasks = airflow.tasks("land_cover_mapping", run["dag_run_id"])
            if len(tasks.get("map", ())) == 4 and run["state"] in ("success", "failed"):
                return str(run["dag_run_id"])
        return None

    run = wait_for(with_maps, 400, 1)
    tasks = airflow.tasks("land_cover_mapping", run)
    assert {row["state"] for rows in tasks.values() for row in rows} == {"success"}
    names = [row["rendered_map_index"] for row in tasks["map"]]
    # August lies too far from April to be filled from it ([features] max_gap_days)
    assert names == [f"2024-0{month}-14" for month in range(5, 9)]
    reported = airflow.result("land_cover_mapping", run, "report")
    assert len([name for name in reported["files"] if name.startswith("quicklook")]) == 4
    maps = sorted((dag_stack.var / "eo-data" / "land-cover" / "maps").glob("*/map.tif"))
    assert len(maps) == 4
    for path in maps:
        item = json.loads(path.with_suffix(".json").read_text())
        assert item["properties"]["terraflow:model"] == "models:/land-cover/1"
        with rasterio.open(path) as file:
            assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        areas = json.loads(path.with_name("map_area.json").read_text())
        assert "forest" in json.dumps(areas)


@pytest.mark.slow
def test_ingest_in_the_shell_is_all_that_a_new_map_needs(
    trained: str, airflow: Airflow, dag_stack: Stack
) -> None:
    before = known(airflow, "land_cover_mapping")
    configure(dag_stack)
    dag_stack.ok("ingest")

    def one_map(run: str) -> bool:
        rows = airflow.tasks("land_cover_mapping", run).get("map", ())
        return [row["rendered_map_index"] for row in rows] == ["2024-09-14"]

    run = airflow.next_run("land_cover_mapping", before, one_map)
    airflow.finished("land_cover_mapping", run)
    [event] = airflow.events("land_cover_mapping", run)
    assert event["name"] == "land_cover_scenes"
    assert "New images came into the store" in event["extra"]["why"]


def drifted_catalogue(stack: Stack, folder: Path) -> Path:
    """Copy the simulated images with other reflectances, as of a dry year."""
    [source] = (stack.var / "eo-data").glob("simulated-*")
    shutil.copytree(source, folder)
    for path in folder.rglob("*.tif"):
        if path.stem == "SCL":
            continue
        with rasterio.open(path, "r+", IGNORE_COG_LAYOUT_BREAK="YES") as file:
            values = file.read(1)
            file.write(np.where(values == file.nodata, values, values // 3 + 2500), 1)
    return folder / "catalog.json"


@pytest.mark.slow
def test_drift_retrains_asks_a_person_and_maps_with_the_new_champion(
    trained: str, airflow: Airflow, dag_stack: Stack, tmp_path: Path
) -> None:
    """Drifted scene, drift, retraining, approval, new champion, new maps."""
    catalogue = drifted_catalogue(dag_stack, tmp_path / "dry")
    before = {dag: known(airflow, dag) for dag in DAGS}
    configure(dag_stack, more="[promotion]\napprove = true\n")
    drifted = dag_stack.config / "drifted.toml"
    text = (dag_stack.config / "land_cover.toml").read_text()
    text = text.replace('catalogue = "simulated"', f'catalogue = "{catalogue}"', 1)
    drifted.write_text(text.replace("2024-09-30", "2024-08-31"))  # the model knows no September
    [items] = re.findall(r"Collection: (\S+)", dag_stack.ok("ingest", "--config", str(drifted)))

    run = airflow.next_run("land_cover_retraining", before["land_cover_retraining"], bool)
    [event] = airflow.events("land_cover_retraining", run)
    assert event["name"] == "land_cover_drift"
    assert "The images of 2024-08 have drifted" in event["extra"]["why"]
    page = f"/dags/land_cover_retraining/dagRuns/{run}"
    note = wait_for(lambda: airflow.get(page)["note"], 120, 1)
    assert "The images of 2024-08 have drifted" in note

    words = ("monitor", "--items", items, "--model", "models:/land-cover/1")
    assert "Drifted: look at the map" in dag_stack.fails(*words, code=3)

    assert champion() == "1"
    page = airflow.answer("land_cover_retraining", run, "Approve", "Better in all fields.")
    assert page["subject"] == "Shall version 2 of land-cover become the champion?"
    for told in ("95 % interval", "| macro F1 |", dag_stack.url("mlflow"), "[version 1]"):
        assert told in page["body"]
    airflow.finished("land_cover_retraining", run)
    assert champion() == "2"
    version = mlflow.MlflowClient().get_model_version("land-cover", "2")
    assert version.tags["promotion_reason"].startswith(
        "admin approved version 2: Better in all fields. Better, comparing"
    )
    note = mlflow.get_run(version.run_id).data.tags["mlflow.note.content"]
    assert "since: The images of 2024-08 have drifted" in note

    def by_new_champion(run: str) -> bool:
        rows = airflow.tasks("land_cover_mapping", run).get("map", ())
        return len(rows) >= 4

    run = airflow.next_run("land_cover_mapping", before["land_cover_mapping"], by_new_champion)
    airflow.finished("land_cover_mapping", run)


@pytest.mark.exhaustive
def test_rejected_model_leaves_the_champion(
    trained: str, airflow: Airflow, dag_stack: Stack
) -> None:
    configure(dag_stack, more="[promotion]\napprove = true\n")
    client = mlflow.MlflowClient()
    client.set_registered_model_alias("land-cover", "champion", "1")  # which is easily beaten
    run = airflow.trigger("land_cover_training")
    airflow.answer("land_cover_training", run, "Reject", "Wrong labels.")
    states: dict[str, Any] = airflow.finished("land_cover_training", run)
    assert states["announce"] == ["skipped"]
    assert champion() == "1"
    [version] = client.search_model_versions(
        "name = 'land-cover'", order_by=["version_number DESC"], max_results=1
    )
    assert version.tags["promotion"] == "rejected"
    assert version.tags["promotion_reason"].startswith("admin rejected version")
    assert "Wrong labels." in version.tags["promotion_reason"]
