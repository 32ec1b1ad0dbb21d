"""## Train again after drift

Runs when `land_cover_monitoring` announced drift: the same tasks as `land_cover_training`. The note
of the run in MLflow says why it ran.
"""

from airflow.sdk import chain, dag

from terraflow.orchestration import (
    DAG_DEFAULTS,
    TRAINING,
    AnnounceOperator,
    ApprovePromotion,
    DeployOperator,
    StepOperator,
    champion,
    drift,
)


@dag(
    schedule=[drift("land_cover")],
    params=TRAINING,
    tags=["land cover"],
    doc_md=__doc__,
    **DAG_DEFAULTS,
)
def land_cover_retraining() -> None:
    steps = [StepOperator(step=name) for name in ("ingest", "preprocess", "train", "gate")]
    announce = AnnounceOperator(
        task_id="announce", when="promoted", outlets=[champion("land_cover")]
    )
    chain(*steps, ApprovePromotion(), StepOperator(step="promote"), [announce, DeployOperator()])


land_cover_retraining()
