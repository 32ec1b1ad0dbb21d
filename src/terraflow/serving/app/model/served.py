"""A loaded model, and its answers."""

from __future__ import annotations

import gc
import io
import json
import math
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import mlflow
import pandas as pd
from mlflow.pyfunc.scoring_server import predictions_to_json
from mlflow.types import Schema

from terraflow.serving.app.model.example import sample_request, saved_example
from terraflow.serving.app.model.fast_path import Predict, direct_predict, only_doubles
from terraflow.serving.app.model.table import InputError, check_table, parse_table

__all__ = ["Answer", "Current", "Served", "load"]


@dataclass(frozen=True)
class Answer:
    """What the model says to a request.

    Attributes
    ----------
    text : str
        JSON, as MLflow's servers send it.
    table : DataFrame
        The request's rows, as the model got them.
    predictions : sequence
        One for each row.
    """

    text: str
    table: pd.DataFrame
    predictions: Any


@dataclass(frozen=True, eq=False)
class Served:
    """A model that is asked.

    Attributes
    ----------
    model : mlflow.pyfunc.PyFuncModel
        With a signature its input is checked; without one it is passed on.
    name, version : str
        In the registry; "" where it was not named by it.
    sample : dict
        A request that it answers.
    folder : str
        Where it lies.
    """

    model: Any
    name: str = ""
    version: str = ""
    sample: dict[str, Any] = field(default_factory=dict)
    folder: str = ""
    schema: Schema | None = field(init=False)
    predict: Predict = field(init=False)

    def __post_init__(self) -> None:
        """Find out how the model is asked."""
        schema = self.model.metadata.get_input_schema()
        predict = direct_predict(self.model) if only_doubles(schema) else self.model.predict
        object.__setattr__(self, "schema", schema)
        object.__setattr__(self, "predict", predict)

    @property
    def title(self) -> str:
        """Name for people."""
        return " ".join(filter(None, [self.name or "Model", self.version]))

    @property
    def note(self) -> str:
        """What a reader must be told first, or ""."""
        return str((self.model.metadata.metadata or {}).get("note") or "")

    @property
    def run(self) -> str:
        """Id of the run that logged it, or ""."""
        return self.model.metadata.run_id or ""

    @property
    def project(self) -> str:
        """Name of the project that trained it, else the one in the registry."""
        with suppress(ValueError, KeyError, TypeError):
            return str(json.loads(self.model.metadata.metadata["config"])["name"])
        return self.name or "unnamed"

    @property
    def headers(self) -> dict[str, str]:
        """What an answer tells of the model."""
        told = {"model": self.name, "version": self.version, "run": self.run}
        return {f"terraflow-{key}": quote(value) for key, value in told.items() if value}

    def answer(self, body: bytes | bytearray, content_type: str, *, max_rows: int) -> Answer:
        """Predict.

        Raises
        ------
        InputError
            The request does not fit the model.
        """
        schema = self.schema
        table = parse_table(body, content_type, schema, max_rows=max_rows)
        checked = check_table(table, schema) if schema and schema.has_input_names() else table
        try:
            predictions = self.predict(checked)
        except ValueError as error:
            raise InputError(f"The model refuses these values: {error}") from error
        output = io.StringIO()
        predictions_to_json(
            predictions, output, metadata={"note": self.note} if self.note else None
        )
        return Answer(output.getvalue(), checked, predictions)

    def try_example(self, folder: str) -> None:
        """Ask the model as its first client would, by the example that was logged with it.

        Parameters
        ----------
        folder : str
            Where the model lies.

        Raises
        ------
        ValueError
            It fails, or answers otherwise than it did when it was logged.
        """
        example = saved_example(folder, self.model.metadata)
        if not example:
            return
        body = json.dumps(example).encode()
        try:
            text = self.answer(body, "application/json", max_rows=10**6).text
        except Exception as error:
            raise ValueError(
                f"The model fails on the input example that was logged with it: {error}; log it "
                "with one that it can predict."
            ) from error
        recorded = (self.model.metadata.metadata or {}).get("example_predictions")
        given = json.loads(text)["predictions"]
        if recorded and not _alike(given, recorded):
            raise ValueError(
                f"The model predicts {_short(given)} for its input example, and predicted "
                f"{_short(recorded)} when it was logged; serve it in its own environment, by "
                "--isolated."
            )


def _alike(given: Any, recorded: Any) -> bool:
    """Compare predictions: numbers as nearly the same, since libraries may sum in another order."""
    if isinstance(recorded, list):
        same = isinstance(given, list) and len(given) == len(recorded)
        return same and all(map(_alike, given, recorded))
    if isinstance(recorded, float):
        number = isinstance(given, int | float)
        return number and math.isclose(given, recorded, rel_tol=1e-4, abs_tol=1e-9)
    return bool(given == recorded)


def _short(values: Any) -> str:
    text = json.dumps(values)
    return text if len(text) <= 60 else f"{text[:60]}..."


def load(folder: str, name: str = "", version: str = "") -> Served:
    """Load a model, and try it.

    Raises
    ------
    ValueError
        It does not answer as it did when it was logged.
    """
    model = mlflow.pyfunc.load_model(folder)
    schema = model.metadata.get_input_schema()
    named = schema and schema.has_input_names()
    sample = sample_request(folder, model.metadata) if named else {}
    served = Served(model, name, version, sample, folder)
    served.try_example(folder)
    return served


class Current:
    """The model that is served now.

    Attributes
    ----------
    served : Served
        Take it once for a request: it may be another one at any time.
    swaps : int
        How often it has become another one.
    """

    def __init__(self, served: Served) -> None:
        self.served, self.swaps = served, 0

    def load(self, folder: str, name: str, version: str) -> None:
        """Load another model beside this one, and serve that from now on.

        Raises
        ------
        ValueError
            It does not answer as it did when it was logged; this one is served on.
        """
        self.served = load(folder, name, version)
        self.swaps += 1
        gc.collect()  # the model before may be held by a cycle
