"""The training job: the same steps from the command line and, as a DAG, through Airflow."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from terraflow import orchestration, settings, tracking
from terraflow.config import user_path
from terraflow.console import say, table
from terraflow.storage import Storage

from .config import load_config

__all__ = ["DAG_ID", "run", "run_step"]

DAG_ID = "land_cover_training"
STEPS = ("ingest", "preprocess", "train")


def run(config: str = "", *, airflow: bool = False) -> int:
    """Run all steps and print run id, scores and link; return the exit code."""
    project = load_config(config)
    stack = settings.load()
    if airflow:
        path = str(user_path(config)) if config else ""
        result = orchestration.run_dag(stack, DAG_ID, {"config": path}, result_task="train")
    else:
        tracking.connect(stack)  # before minutes of work, not after
        value: dict[str, Any] = {}
        for step in STEPS:
            began = time.monotonic()
            say(f"{step}{' (simulated data)' if project.simulated else ''} ...")
            value = run_step(step, config, value)
            say(f"{step}: {time.monotonic() - began:.1f} s")
        result = value
    print_result(result)
    return 0


def run_step(step: str, config: str, value: Mapping[str, Any]) -> dict[str, Any]:
    """Run one step on what the step before it returned.

    Parameters
    ----------
    step : {"ingest", "preprocess", "train"}
    config : str
        A project file, or "" for config/land_cover.toml.
    value : dict
        URIs from the step before; empty for the first.

    Returns
    -------
    dict
        URIs; from the last step, the result.
    """
    project, storage = load_config(config), Storage(settings.load())
    steps: dict[str, Callable[[], dict[str, Any]]] = {
        "ingest": lambda: _ingest(project, storage),
        "preprocess": lambda: _preprocess(project, dict(value), storage),
        "train": lambda: _train(project, dict(value), storage),
    }
    return steps[step]()


def _ingest(project: Any, storage: Storage) -> dict[str, Any]:
    from .ingest import ingest  # noqa: PLC0415 - each step imports only what it needs

    return ingest(project, storage)


def _preprocess(project: Any, value: dict[str, Any], storage: Storage) -> dict[str, Any]:
    from .preprocess import preprocess  # noqa: PLC0415

    return preprocess(project, value, storage)


def _train(project: Any, value: dict[str, Any], storage: Storage) -> dict[str, Any]:
    from .train import train  # noqa: PLC0415

    return train(project, value, storage).to_dict()


def print_result(result: Mapping[str, Any]) -> None:
    """Print what a `TrainingResult` holds."""
    if result["simulated"]:
        say("\nSimulated data: these scores say nothing about any real place.")
    say(f"\nOverall accuracy {result['overall_accuracy']:.3f}, macro F1 {result['macro_f1']:.3f}, "
        "by cross-validation over spatial blocks")  # fmt: skip
    table(("class", "F1"), [(k, f"{v:.3f}") for k, v in result["f1_per_class"].items()])
    say(f"\nRun {result['run_id']}, model {result['model']} (alias challenger)")
    say(result["url"])
    say(f"Serve it: invoke serve --run-id {result['run_id']}")
