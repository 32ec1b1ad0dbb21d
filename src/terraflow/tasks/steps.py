"""Tasks of the steps: one for each row of `terraflow.eo.step_table.STEPS`, made from it."""

from __future__ import annotations

import inspect
from typing import Any

from invoke.context import Context

from terraflow.eo import steps
from terraflow.eo.step_table import STEPS, Step
from terraflow.tasks.task import task

__all__ = ["STEP_TASKS", "step"]

CONFIG = "a project file instead of config/PROJECT.toml"


def _make_task(row: Step) -> Any:
    """Make the task of a step; the names of its options are those of the row."""

    def body(c: Context, **given: Any) -> int:
        return _run(row, given)

    Parameter = inspect.Parameter
    parameters = [Parameter("c", Parameter.POSITIONAL_OR_KEYWORD, annotation=Context)]
    help_texts = {}
    for option in row.options:
        default = Parameter.empty if option.required else ""
        kind = Parameter.POSITIONAL_OR_KEYWORD
        parameters.append(Parameter(option.name, kind, default=default))
        help_texts[option.name] = option.help
    if row.dag:
        parameters.append(Parameter("airflow", Parameter.POSITIONAL_OR_KEYWORD, default=False))
        help_texts["airflow"] = "run it as a DAG and wait for it"
    body.__name__ = row.name
    body.__doc__ = row.summary
    body.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return task(help=help_texts, aliases=row.aliases)(body)


def _run(row: Step, given: dict[str, Any]) -> int:
    from terraflow.eo.project import open_project

    airflow = given.pop("airflow", False)
    options = {option.name: option.read(given[option.name]) for option in row.options}
    config, files = options.pop("config", None) or "", options.pop("files", None) or ""
    project = open_project(config, files=files)
    if not airflow:
        return steps.show(row.name, project, steps.run_up_to(row.name, project, options))
    steps.check(row.name, project, options)
    from terraflow.config import user_path
    from terraflow.orchestration.dag_runs import run_dag

    conf = {"config": str(user_path(config)) if config else ""}
    conf |= {name: value for name, value in options.items() if value is not None}
    dag_id = f"{project.project.name}_{row.dag}"
    outputs = run_dag(project.storage.settings, dag_id, conf, result_task=row.name)
    return steps.show(row.name, project, outputs)


#: Name of a step to its task.
STEP_TASKS = {name: _make_task(row) for name, row in STEPS.items()}


@task(help={"name": "a step of the project's own", "config": CONFIG})
def step(c: Context, name: str, config: str = "") -> int:
    """Run a step of the project's own, or one of the above, by its name."""
    from terraflow.eo.project import open_project

    project = open_project(config)
    return steps.show(name, project, steps.run_up_to(name, project, {}))
