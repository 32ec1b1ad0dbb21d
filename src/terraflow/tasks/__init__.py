"""The tasks of the platform, for a project's tasks.py: each parses, calls and prints."""

from __future__ import annotations

from types import ModuleType

from invoke.collection import Collection

from terraflow.checkout.start import is_task, shield
from terraflow.console import keep_streams, stop_on_hangup
from terraflow.tasks import dags, deploy, develop, new, serving, stack, validate
from terraflow.tasks.steps import STEP_TASKS, step

__all__ = ["namespace"]

if is_task():  # before anything is imported that reads variables, as GDAL and MLflow do
    keep_streams()
    stop_on_hangup()
    shield()


def _tasks(module: ModuleType) -> list[object]:
    return [getattr(module, name) for name in module.__all__]


#: All of them, by their names.
namespace = Collection(
    *_tasks(stack),
    *STEP_TASKS.values(),
    step,
    *_tasks(validate),
    *_tasks(dags),
    *_tasks(serving),
    *_tasks(deploy),
    *_tasks(new),
    *_tasks(develop),
)
