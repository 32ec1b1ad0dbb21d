"""Tasks of the steps: one for each row of `terraflow.eo.step_table.STEPS`, made from it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from invoke.context import Context

from terraflow.console import command, say
from terraflow.eo import steps
from terraflow.eo.step_table import STEPS, Step
from terraflow.errors import ConfigError
from terraflow.stack.lifecycle.readiness import wait_for, watched
from terraflow.stack.lifecycle.work import working
from terraflow.stack.services import SERVICES
from terraflow.tasks.task import task

if TYPE_CHECKING:
    from terraflow.eo.project import OpenProject

__all__ = ["STEP_TASKS", "step"]

CONFIG = "a project file instead of config/PROJECT.toml"
#: Services that steps need, and that a DAG's run needs beside them.
STORES = ("minio", "mlflow")
AIRFLOW = (*STORES, *(name for name, service in SERVICES.items() if service.group == "airflow"))
#: What the DAGs that steps name know as parameters.
CONF = {
    "training": ("config", "items", "tune", "model_name", "start", "end"),
    "mapping": ("config", "items"),
}


def _make_task(row: Step) -> Any:
    """Make the task of a step; the names of its options are those of the row."""

    def body(c: Context, **given: Any) -> int:
        return _run(row, given)

    Parameter = inspect.Parameter
    parameters = [Parameter("c", Parameter.POSITIONAL_OR_KEYWORD, annotation=Context)]
    help_texts = {}
    for option in row.options:
        default: Any = Parameter.empty if option.required else option.kind != "flag" and ""
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
    if airflow:
        _check_for_dag(row, options)
    config, files = options.pop("config", None) or "", options.pop("files", None) or ""
    project = open_project(config, files=files)
    settings = project.storage.settings
    wait_for(settings, AIRFLOW if airflow else STORES)
    if airflow:
        with watched(settings, ("airflow-api",)):
            return _run_dag(row, project, options, config)
    with working(settings), watched(settings, STORES):
        outputs = steps.run_up_to(row.name, project, options)
        code = steps.show(row.name, project, outputs)
    _announce(project, outputs)
    return code


def _check_for_dag(row: Step, options: Mapping[str, Any]) -> None:
    """Refuse options that the step's DAG has no parameter for."""
    for name, value in options.items():
        if value is not None and name not in CONF[row.dag]:
            known = ", ".join(f"--{each}" for each in CONF[row.dag] if each in options)
            raise ConfigError(
                f"--{name.replace('_', '-')} {value} goes with {row.name} in the shell alone; a "
                f"DAG takes {known}: leave it out, or leave out --airflow."
            )


def _run_dag(row: Step, project: OpenProject, options: dict[str, Any], config: str) -> int:
    from terraflow.config import user_path
    from terraflow.orchestration.rest.dag_runs import run_dag

    steps.check(row.name, project, options)
    conf = {"config": str(user_path(config)) if config else ""}
    conf |= {name: value for name, value in options.items() if value is not None}
    dag_id = f"{project.project.name}_{row.dag}"
    result_tasks = [row.name, *row.then]
    outputs = run_dag(project.storage.settings, dag_id, conf, result_tasks=result_tasks)
    if not outputs:
        say(
            f"Nothing was left to do for {row.name}, whose task was skipped; "
            f"`{command('dags', 'logs', dag_id)}` tells why."
        )
    found = outputs.pop("mapped", []) or [outputs] * bool(outputs)
    codes = [steps.show(row.name, project, each) for each in found]
    return next((code for code in codes if code), 0)


def _announce(project: OpenProject, outputs: Mapping[str, Any]) -> None:
    """Tell Airflow, where it runs, of a new champion: that starts the DAG that maps."""
    if outputs.get("promoted") is True and outputs.get("name") and outputs.get("version"):
        from terraflow.orchestration.rest.events import announce

        model = f"models:/{outputs['name']}/{outputs['version']}"
        asset = f"{project.project.name}_champion"
        extra = {"model": model, "why": outputs.get("reason", "")}
        if announce(project.storage.settings, asset, extra):
            dag_id = f"{project.project.name}_mapping"
            say(f"Airflow was told of the champion; `{command('dags')}` shows {dag_id}.")


#: Name of a step to its task.
STEP_TASKS = {name: _make_task(row) for name, row in STEPS.items()}


@task(help={"name": "a step of the project's own", "config": CONFIG})
def step(c: Context, name: str, config: str = "") -> int:
    """Run a step of the project's own, or one of the above, by its name."""
    from terraflow.eo.project import open_project

    project = open_project(config)
    wait_for(project.storage.settings, STORES)
    settings = project.storage.settings
    with working(settings), watched(settings, STORES):
        return steps.show(name, project, steps.run_up_to(name, project, {}))
