"""## Map new scenes

Runs when there is a **new champion** or when **new images** lie in the store. Each scene that the
champion has not mapped yet becomes a map: one mapped task a scene, some at a time. Then the report
of each new map is written: picture, areas, polygons.

A scene is the images of one day. Its map is made of the images of a year up to that day, as far as
the model composites them; `[map] scene_days` changes that.
"""

from airflow.sdk import chain, dag

from terraflow.orchestration import (
    CONFIG,
    DAG_DEFAULTS,
    ITEMS,
    StepOperator,
    champion,
    each,
    scenes,
)


@dag(
    schedule=champion("land_cover") | scenes("land_cover"),
    params=CONFIG | ITEMS,
    tags=["land cover"],
    doc_md=__doc__,
    **DAG_DEFAULTS,
)
def land_cover_mapping() -> None:
    found = StepOperator(step="scenes", inputs={"unmapped": True}, returns="scenes")
    chain(each("map", found), StepOperator(step="report", trigger_rule="all_done_min_one_success"))


land_cover_mapping()
