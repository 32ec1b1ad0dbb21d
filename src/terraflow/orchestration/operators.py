"""Tasks of DAGs: each runs one step of the project, or updates an asset.

Importing this module imports Airflow's SDK alone: a DAG file is read often, and wires only.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator, BaseOperatorLink
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

if TYPE_CHECKING:
    from airflow.sdk import Context

    from terraflow.eo.project import OpenProject

__all__ = [
    "DAG_DEFAULTS",
    "AnnounceOperator",
    "StepOperator",
    "WiredOperator",
    "each",
    "told_to_airflow",
]

#: Of every DAG: one run at a time, and none for dates that have passed. Of every task: what may
#: pass (the store, the network, a killed process) is tried again after growing pauses; what can't,
#: a wrong configuration or wrong data, fails at once.
DAG_DEFAULTS: dict[str, Any] = {
    "catchup": False,
    "max_active_runs": 1,
    "default_args": {
        "retries": 3,
        "retry_delay": timedelta(seconds=10),
        "retry_exponential_backoff": 2,
        "max_retry_delay": timedelta(minutes=2),
        "execution_timeout": timedelta(hours=6),
    },
}
#: Pools keep heavy steps from fighting over the cores; setup fits them to the machine.
_POOL_OF = {"train": "training", "map": "mapping"}


class ResultLink(BaseOperatorLink):
    """A button on a task's page: its MLflow run, or its map."""

    name = "Result"

    def get_link(self, operator: BaseOperator, *, ti_key: Any) -> str:
        """Give the address that the task found while it ran."""
        return getattr(operator, "link", "")


class WiredOperator(BaseOperator):
    """A task that takes what the tasks right before it returned.

    Parameters
    ----------
    when : str
        Name of an output of a task before; where that is false or empty the task is skipped.
    """

    def __init__(self, *, when: str = "", **options: Any) -> None:
        super().__init__(**options)
        self.when = when

    def before(self, context: Context) -> dict[str, Any]:
        """Collect the outputs of the tasks before; of mapped ones a list of each."""
        found: dict[str, Any] = {}
        for task_id in sorted(self.upstream_task_ids):
            value = context["ti"].xcom_pull(task_ids=task_id)
            if isinstance(value, Mapping):
                found |= value
            elif value is not None:
                rows = [row for row in value if row]
                found |= {key: [row[key] for row in rows] for key in (rows[0] if rows else ())}
        if self.when and not found.get(self.when):
            raise AirflowSkipException(
                f"Nothing to do: {self.when} is {found.get(self.when)!r} before. "
                f"{found.get('reason', '')}".strip()
            )
        return found


class StepOperator(WiredOperator):
    """Run one step of the project.

    Parameters
    ----------
    step : str
        Name of the step, as `invoke --list` tells it; also the task's id, where none is given.
    inputs : dict
        For the step, over what the tasks before returned and the DAG run's parameters.
    returns : str
        Name of a list among the outputs, to be mapped over by `each`; "" returns all of them.
    when : str
        As in `WiredOperator`.
    """

    template_fields = ("inputs",)
    ui_color = "#e8f0e4"
    operator_extra_links = (ResultLink(),)

    def __init__(
        self,
        *,
        step: str,
        inputs: Mapping[str, Any] | None = None,
        returns: str = "",
        **options: Any,
    ) -> None:
        options.setdefault("task_id", step)
        options.setdefault("pool", _POOL_OF.get(step, "default_pool"))
        super().__init__(**options)
        self.step, self.returns = step, returns
        self.inputs: Any = dict(inputs) if isinstance(inputs, Mapping) else inputs
        self.link = ""

    def execute(self, context: Context) -> Any:
        """Open the project, and run the step on its inputs."""
        from terraflow.eo.steps import check_steps, run_step
        from terraflow.orchestration.reasons import event_inputs, event_whys, order, result_link
        from terraflow.orchestration.rest.events import note_run

        mapped = context["ti"].map_index is not None and context["ti"].map_index >= 0
        before = {} if mapped else self.before(context)
        params = {key: value for key, value in context["params"].items() if value is not None}
        inputs = params | event_inputs(context) | before | dict(self.inputs or {})
        inputs["key"] = order(context)
        with told_to_airflow(), _no_former_names():
            project = open_with(params)
            if not self.upstream_task_ids:
                check_steps(self._steps(), project, inputs)
                if why := event_whys(context):
                    run = context["dag_run"]
                    note_run(project.storage.settings, run.dag_id, run.run_id, why)
            outputs = run_step(self.step, project, inputs)
        self.link = result_link(outputs, project.storage.settings)
        if scene := inputs.get("scene"):
            context["scene"] = scene  # type: ignore[typeddict-unknown-key] # for map_index_template
        return plain(outputs[self.returns] if self.returns else outputs)

    def _steps(self) -> list[str]:
        """List the steps of this DAG, so that mistakes of all are told before the first works."""
        tasks = self.dag.tasks if self.dag else []
        return [str(found) for task in tasks if (found := getattr(task, "step", ""))]


class AnnounceOperator(WiredOperator):
    """Update the assets of `outlets`; `when` says whether there is something to tell."""

    ui_color = "#e4e8f0"

    def execute(self, context: Context) -> None:
        """Tell what the tasks before returned, as far as it is small."""
        told = self.before(context)
        extra = {key: told[key] for key in ("model", "collections", "why") if told.get(key)}
        extra.setdefault("why", str(told.get("reason", "")))
        for asset in self.outlets:
            context["outlet_events"][asset].extra = extra


@contextmanager
def _no_former_names() -> Iterator[None]:
    """Keep warnings of Airflow's former names out of the log.

    skops looks for each of some hundred functions in all that is imported.
    """
    from airflow.utils.deprecation_tools import DeprecatedImportWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecatedImportWarning)
        yield


@contextmanager
def told_to_airflow() -> Iterator[None]:
    """Let Airflow try again what may pass, and neither what can't nor what is not to be done."""
    from terraflow.disks.problems import disk_errors
    from terraflow.errors import NothingToDoError, ServiceError, StorageError, TerraFlowError
    from terraflow.settings import load

    try:
        with disk_errors(lambda: load(strict=False).folders):
            yield
    except (ServiceError, StorageError):
        raise
    except NothingToDoError as error:
        raise AirflowSkipException(str(error)) from error
    except TerraFlowError as error:  # another try would end the same way
        raise AirflowFailException(str(error)) from error


def each(step: str, found: StepOperator, **options: Any) -> Any:
    """Make a mapped task: one instance of a step for each of a list that a task returns.

    Parameters
    ----------
    found : StepOperator
        The task that returns the list; each of its rows becomes the inputs of one instance, and
        `scene` in it the instance's name.
    """
    options = {"task_id": step, "pool": _POOL_OF.get(step, "default_pool")} | options
    mapped = StepOperator.partial(step=step, map_index_template="{{ scene }}", **options)
    return mapped.expand(inputs=found.output)


def plain(value: Any) -> Any:
    """Write numbers that JSON lacks as text, as "nan" for a score that is undefined.

    Records read such text as the number again.
    """
    if isinstance(value, Mapping):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def open_with(params: Mapping[str, Any]) -> OpenProject:
    """Open the project as a DAG run's parameters ask for it.

    Parameters
    ----------
    params : mapping
        config, a project file; start and end, dates in place of [data]'s; model_name, of a model
        in place of [model]'s; all may be missing or empty.

    Raises
    ------
    ConfigError
        The configuration, a date or the model is wrong.
    """
    from terraflow.eo.project import open_project

    project = open_project(params.get("config") or "")
    if params.get("start") or params.get("end"):
        project = project.with_dates(params.get("start"), params.get("end"))
    if params.get("model_name"):
        project = project.with_model(params["model_name"])
    return project
