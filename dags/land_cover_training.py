"""## Train the land cover model

Brings images and samples up to date, trains a model, compares it with the champion, and lets it
take over if it is better. Runs every week; **Trigger** above starts it now, with a form for other
dates, another project file, another model or a search for parameters.

| task | what it does |
| --- | --- |
| ingest | copies new images of the area into the store |
| preprocess | makes samples of images and labels, unless they are there |
| train | scores a model by cross-validation, fits it, registers it as challenger |
| gate | compares challenger and champion on the pixels that both were tested on |
| approve | asks a person, where the project says `[promotion] approve = true` |
| promote | moves the alias `champion`, or says why not |
| announce | tells the DAG `land_cover_mapping` of a new champion |
| deploy | brings a new champion to the machine that `[serving] deploy_host` names, if any |

**Details** of a task has a button **Result**, which leads to the run in MLflow.
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
)


@dag(schedule="@weekly", params=TRAINING, tags=["land cover"], doc_md=__doc__, **DAG_DEFAULTS)
def land_cover_training() -> None:
    steps = [StepOperator(step=name) for name in ("ingest", "preprocess", "train", "gate")]
    announce = AnnounceOperator(
        task_id="announce", when="promoted", outlets=[champion("land_cover")]
    )
    chain(*steps, ApprovePromotion(), StepOperator(step="promote"), [announce, DeployOperator()])


land_cover_training()
