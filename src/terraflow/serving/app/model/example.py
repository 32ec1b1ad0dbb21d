"""A request that a model answers: of the example that was logged with it, or of its signature."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

from mlflow.exceptions import MlflowException
from mlflow.models import Model
from mlflow.models.utils import load_serving_example

__all__ = ["sample_request", "saved_example"]


def sample_request(uri: str, model: Model) -> dict[str, Any]:
    """Take the first row of the model's input example, or make one of the signature's types.

    Parameters
    ----------
    uri : str
        Where the model lies.

    Returns
    -------
    dict
        dataframe_split of one row.
    """
    schema = model.get_input_schema()
    names = schema.input_names()
    row = [("text" if kind.name == "string" else 0.5) for kind in schema.input_types()]
    example = saved_example(uri, model).get("dataframe_split", {})
    if example.get("columns") == names and example.get("data"):
        row = [round(v, 4) if isinstance(v, float) else v for v in example["data"][0]]
    return {"dataframe_split": {"columns": names, "data": [row]}}


def saved_example(uri: str, model: Model) -> dict[str, Any]:
    """Read the request that was logged as a model's input example, or {}."""
    if model.saved_input_example_info:
        with suppress(MlflowException, OSError, ValueError):
            example = json.loads(load_serving_example(uri))
            return example if isinstance(example, dict) else {}
    return {}
