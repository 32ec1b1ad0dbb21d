"""Parameters that Airflow's form asks for when a DAG is triggered by hand."""

from __future__ import annotations

from typing import Any

from airflow.sdk import Param

__all__ = ["CONFIG", "ITEMS", "MONTH", "TRAINING"]

#: Airflow's form takes no empty text for a text: what may stay empty may be null.
_TEXT = ["null", "string"]
_DATE: dict[str, Any] = {"type": _TEXT, "format": "date", "section": "Data"}

CONFIG: dict[str, Any] = {
    "config": Param(
        None,
        type=_TEXT,
        title="Project file",
        description="Path of a project file. Empty takes config/PROJECT.toml.",
        section="Data",
    )
}
ITEMS: dict[str, Any] = {
    "items": Param(
        None,
        type=_TEXT,
        title="Images",
        description="URI of a STAC collection. Empty takes the configured images.",
        section="Data",
    )
}
#: Of a training.
TRAINING: dict[str, Any] = {
    **CONFIG,
    "start": Param(
        None, **_DATE, title="First day", description="Empty takes [data] start of the project."
    ),
    "end": Param(
        None, **_DATE, title="Last day", description="Empty takes [data] end of the project."
    ),
    **ITEMS,
    "model_name": Param(
        None,
        type=_TEXT,
        title="Model",
        description="mlp, random_forest, lightgbm or the project's own. Empty takes [model].",
        examples=["mlp", "random_forest", "lightgbm"],
        section="Model",
    ),
    "tune": Param(
        0,
        type="integer",
        minimum=0,
        maximum=1000,
        title="Trials",
        description="Trials of a search for the model's parameters. 0 takes them as they are.",
        section="Model",
    ),
}
#: Of monitoring.
MONTH: dict[str, Any] = {
    "month": Param(
        "latest",
        type="string",
        pattern=r"^(latest|\d{4}-(0[1-9]|1[0-2]))$",
        title="Month",
        description="Whose scenes are measured, as 2024-05; latest takes that of the newest scene.",
    ),
    "served": Param(
        False,
        type="boolean",
        title="Requests",
        description="Measure what the model server was asked in the last 7 days, not images.",
    ),
}
