"""The Earth Observation library: what notebooks and projects import.

Each name is imported when it is asked for: neither `invoke status` nor Airflow's DAG processor
loads xarray. The rooms below hold everything else; docs/develop.md tells where.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

#: Public name to the module that holds it.
EXPORTS = {
    "Band": "terraflow.eo.targets.parts",
    "Classification": "terraflow.eo.built_in",
    "FeatureSource": "terraflow.eo.features.windows",
    "Numbers": "terraflow.eo.targets.numbers",
    "OpenProject": "terraflow.eo.project",
    "Project": "terraflow.eo.project",
    "Target": "terraflow.eo.targets.target",
    "add_indices": "terraflow.eo.features.indices",
    "apply_model": "terraflow.eo.models.apply",
    "ask": "terraflow.serving.client",
    "load_model": "terraflow.eo.models.model",
    "map_figure": "terraflow.eo.targets.figures",
    "mean_per_area": "terraflow.eo.targets.area.zonal",
    "open_project": "terraflow.eo.project",
    "percentile": "terraflow.eo.features.time.composites",
    "pixel_table": "terraflow.eo.samples.draw",
    "read_items": "terraflow.eo.images.collection",
    "read_report": "terraflow.eo.samples.preprocess",
    "run_up_to": "terraflow.eo.steps",
    "statistic": "terraflow.eo.features.time.composites",
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
