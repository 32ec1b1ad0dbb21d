"""## Watch for new images

The triggerer looks every ten seconds into the store, and every ten minutes into the source of the
images (a STAC catalogue, or files); `[watch]` of the project file changes that. No task waits
meanwhile. What is new starts this DAG:

- items that wait in the source are **ingested**
- a collection that `ingest` wrote, by whomever, is **announced** once, as `remember` notes: that
  starts `land_cover_mapping` and `land_cover_monitoring`
"""

from airflow.sdk import dag

from terraflow.orchestration import (
    DAG_DEFAULTS,
    AnnounceOperator,
    ArrivedOperator,
    RememberOperator,
    StepOperator,
    arrivals,
    scenes,
)


@dag(schedule=[arrivals("land_cover")], tags=["land cover"], doc_md=__doc__, **DAG_DEFAULTS)
def land_cover_watch() -> None:
    arrived = ArrivedOperator(scenes=scenes("land_cover"))
    announce = AnnounceOperator(
        task_id="announce", when="collections", outlets=[scenes("land_cover")]
    )
    arrived >> StepOperator(step="ingest", when="waiting")
    arrived >> announce >> RememberOperator(scenes=scenes("land_cover"))


land_cover_watch()
