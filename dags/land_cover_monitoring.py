"""## Monitor drift

Compares the scenes of the newest month with those that the champion was trained on: every day, and
when new images lie in the store. What was measured before is not measured again. Past
`[monitor] max_psi` or `max_outside_range` the drift is announced, which starts
`land_cover_retraining`.

A backfill measures past months, one run each:
`invoke dags backfill land_cover_monitoring --from 2024-04-01 --to 2024-09-30`.
"""

from airflow.sdk import chain, dag

from terraflow.orchestration import (
    CONFIG,
    DAG_DEFAULTS,
    MONTH,
    AnnounceOperator,
    DailyOrAssets,
    StepOperator,
    drift,
    scenes,
)

OF_RUN = (
    "{{ data_interval_start.strftime('%Y-%m') if dag_run.run_type == 'backfill' "
    "else params.month }}"
)


@dag(
    schedule=DailyOrAssets(scenes("land_cover")),
    params=CONFIG | MONTH,
    tags=["land cover"],
    doc_md=__doc__,
    **DAG_DEFAULTS,
)
def land_cover_monitoring() -> None:
    monitor = StepOperator(step="monitor", inputs={"month": OF_RUN})
    announce = AnnounceOperator(task_id="announce", when="new_drift", outlets=[drift("land_cover")])
    chain(monitor, announce)


land_cover_monitoring()
