"""A loaded model, and its answers."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import mlflow
from mlflow.pyfunc.scoring_server import predictions_to_json
from mlflow.types import Schema

from terraflow.serving.app.fast_path import Predict, direct_predict, only_doubles
from terraflow.serving.app.page import sample_request
from terraflow.serving.app.table import InputError, check_table, parse_table

__all__ = ["Served", "load"]


@dataclass(frozen=True)
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
    """

    model: Any
    name: str = ""
    version: str = ""
    sample: dict[str, Any] = field(default_factory=dict)
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
    def headers(self) -> dict[str, str]:
        """What an answer tells of the model."""
        told = {"model": self.name, "version": self.version, "run": self.run}
        return {f"terraflow-{key}": quote(value) for key, value in told.items() if value}

    def answer(
        self, body: bytes | bytearray, content_type: str, *, max_rows: int
    ) -> tuple[str, int]:
        """Predict.

        Returns
        -------
        str
            JSON, as MLflow's servers send it.
        int
            Number of rows.

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
        return output.getvalue(), len(checked)


def load(uri: str, name: str = "", version: str = "") -> Served:
    """Load a model by any URI that MLflow knows."""
    model = mlflow.pyfunc.load_model(uri)
    schema = model.metadata.get_input_schema()
    named = schema and schema.has_input_names()
    return Served(model, name, version, sample_request(uri, model.metadata) if named else {})
