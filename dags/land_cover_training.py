"""Train the land cover model: ingest, preprocess, train."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import dag, get_current_context, task
from airflow.sdk.exceptions import AirflowFailException


def _run(step: str, inputs: dict[str, Any]) -> dict[str, Any]:
    from terraflow.eo.project import open_project
    from terraflow.eo.steps import run_step
    from terraflow.errors import TerraFlowError

    params = get_current_context()["params"]
    try:
        return run_step(step, open_project(params["config"]), dict(params) | inputs)
    except TerraFlowError as error:  # another try would end the same way
        raise AirflowFailException(str(error)) from error


@dag(
    schedule=None,
    catchup=False,
    max_active_runs=1,
    params={"config": "", "items": "", "tune": 0},
    default_args={"retries": 1, "retry_delay": timedelta(seconds=10)},
    tags=["land cover"],
    doc_md=__doc__,
)
def land_cover_training() -> None:
    """Wire the steps; each passes URIs on."""

    @task
    def ingest() -> dict[str, Any]:
        return _run("ingest", {})

    @task
    def preprocess(images: dict[str, Any]) -> dict[str, Any]:
        return _run("preprocess", images)

    @task
    def train(prepared: dict[str, Any]) -> dict[str, Any]:
        return _run("train", prepared)

    train(preprocess(ingest()))  # type: ignore[arg-type] # each gets what the one before returns


land_cover_training()
