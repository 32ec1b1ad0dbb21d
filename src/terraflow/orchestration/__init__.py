"""Airflow: tasks, assets, parameters and schedules for DAG files; its DAG runs from the shell.

Each name is imported when it is asked for: the shell's commands never import Airflow.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

#: Public name to the module that holds it.
EXPORTS = {
    "CONFIG": "terraflow.orchestration.parameters",
    "DAG_DEFAULTS": "terraflow.orchestration.operators",
    "ITEMS": "terraflow.orchestration.parameters",
    "MONTH": "terraflow.orchestration.parameters",
    "TRAINING": "terraflow.orchestration.parameters",
    "AnnounceOperator": "terraflow.orchestration.operators",
    "ApprovePromotion": "terraflow.orchestration.approval",
    "ArrivedOperator": "terraflow.orchestration.watch",
    "DailyOrAssets": "terraflow.orchestration.schedules",
    "DeployOperator": "terraflow.orchestration.deployment",
    "RememberOperator": "terraflow.orchestration.watch",
    "StepOperator": "terraflow.orchestration.operators",
    "arrivals": "terraflow.orchestration.assets",
    "champion": "terraflow.orchestration.assets",
    "drift": "terraflow.orchestration.assets",
    "each": "terraflow.orchestration.operators",
    "scenes": "terraflow.orchestration.assets",
}

__all__ = list(EXPORTS)


def __getattr__(name: str) -> Any:
    """Import a public name when it is asked for."""
    if name not in EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(EXPORTS[name]), name)
    return value


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(EXPORTS)
