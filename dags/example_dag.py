"""## An example to copy

Copy `dags/example_dag.py` under another name, give the function that name, and change it. A DAG
file is wiring only: what a task does belongs into `src/`, where it can be tested.
"""

from airflow.sdk import chain, dag, task

from terraflow.orchestration import CONFIG, DAG_DEFAULTS, StepOperator


@dag(
    schedule=None,  # by hand; "@daily", or scenes("land_cover") for whenever new images are there
    params=CONFIG,  # what the form behind "Trigger" asks for
    tags=["example"],
    doc_md=__doc__,  # the text above, on the DAG's page
    **DAG_DEFAULTS,  # retries, time limit, one run at a time
)
def example_dag() -> None:
    # A step of the platform, or one of the project's own (PROJECT's `steps` in src/), by its name.
    # It returns URIs and small values, which the task after it gets.
    ingest = StepOperator(step="ingest")

    # A function of your own. It imports what it needs inside: Airflow reads this file often.
    @task
    def count_items(images: dict[str, str]) -> int:
        from terraflow.eo import open_project, read_items

        return len(read_items(images["items"], open_project().storage))

    chain(ingest, count_items(ingest.output))


example_dag()
