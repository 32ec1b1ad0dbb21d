"""The model server: MLflow's scoring protocol, with input errors that name the column.

`mlflow models serve` drops unknown columns silently and reports text in a number's place by a
traceback; this server answers both with status 400 and a sentence. Everything else is as there:
/ping, /health, /version and /invocations with JSON, CSV or Parquet.
"""

from __future__ import annotations

import argparse
import io
import json
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from mlflow.exceptions import MlflowException
from mlflow.pyfunc.scoring_server import infer_and_parse_data, predictions_to_json
from mlflow.types import DataType, Schema
from threadpoolctl import threadpool_limits

from terraflow.serving.fast_path import as_doubles, direct_predict, only_doubles, read_doubles

__all__ = ["InputError", "check_table", "create_app", "parse_table"]

NUMBERS = {
    DataType.integer: "int32",
    DataType.long: "int64",
    DataType.float: "float32",
    DataType.double: "float64",
}


class InputError(ValueError):
    """The request's content does not fit the model; the message is the answer."""


def create_app(model: Any) -> FastAPI:
    """Make the web application.

    Parameters
    ----------
    model : mlflow.pyfunc.PyFuncModel
        With a signature its input is checked; without one it is passed on.
    """
    app = FastAPI(title="TerraFlow model server", docs_url=None, redoc_url=None)
    schema = model.metadata.get_input_schema()
    text = (model.metadata.metadata or {}).get("note")
    note = {"note": text} if text else None
    doubles = only_doubles(schema)
    predict = direct_predict(model) if doubles else model.predict

    def answer(body: bytes | bytearray, content_type: str) -> str:
        table = parse_table(body, content_type, doubles=doubles)
        checked = check_table(table, schema) if schema and schema.has_input_names() else table
        try:
            predictions = predict(checked)
        except ValueError as error:
            raise InputError(f"The model refuses these values: {error}") from error
        output = io.StringIO()
        predictions_to_json(predictions, output, metadata=note)
        return output.getvalue()

    @app.post("/invocations")
    async def invocations(request: Request) -> Response:
        content_type = request.headers.get("content-type", "").partition(";")[0].strip()
        body = bytearray()  # request.body() holds every chunk until the last has come
        async for chunk in request.stream():
            body += chunk
        try:
            text = await run_in_threadpool(answer, body, content_type)
        except InputError as error:
            message = json.dumps({"error_code": "BAD_REQUEST", "message": str(error)})
            return Response(message, status_code=400, media_type="application/json")
        return Response(text, media_type="application/json")

    @app.get("/ping")
    @app.get("/health")
    async def health() -> Response:
        return Response("\n", media_type="application/json")

    @app.get("/version")
    async def version() -> Response:
        return Response(mlflow.__version__, media_type="application/json")

    return app


def parse_table(
    body: bytes | bytearray, content_type: str, *, doubles: bool = False
) -> pd.DataFrame:
    """Read a request's body.

    Parameters
    ----------
    content_type : str
        application/json in one of MLflow's forms (dataframe_split, dataframe_records, inputs,
        instances), text/csv, or application/vnd.apache.parquet.
    doubles : bool
        Integers may become doubles, which lets a table of numbers be read faster.

    Raises
    ------
    InputError
        It is not what the content type says.
    """
    try:
        if content_type == "text/csv":
            return pd.read_csv(io.BytesIO(body))
        if content_type == "application/vnd.apache.parquet":
            return pd.read_parquet(io.BytesIO(body))
        if content_type == "application/json":
            if doubles and (table := read_doubles(body)) is not None:
                return table
            document = json.loads(body)
            if not isinstance(document, dict):
                raise InputError(
                    'The JSON is no object; write {"dataframe_records": [{"column": value}]}.'
                )
            return pd.DataFrame(infer_and_parse_data(document))
    except InputError:
        raise
    except MlflowException as error:
        raise InputError(error.message.partition(" IMPORTANT:")[0]) from error
    except (ValueError, TypeError, KeyError, OSError, RecursionError) as error:
        raise InputError(f"The body can't be read as {content_type}: {error}") from error
    raise InputError(
        f"Content type {content_type or 'none'} is not known; send application/json, text/csv or "
        "application/vnd.apache.parquet."
    )


def check_table(table: pd.DataFrame, schema: Schema) -> pd.DataFrame:
    """Check the columns against a model's signature and give them its types.

    Returns
    -------
    DataFrame
        The model's columns in its order.

    Raises
    ------
    InputError
        No row; a column missing, unknown or empty; a value of another type.
    """
    names = [str(name) for name in schema.input_names()]
    listed = ", ".join(names[:5]) + (f", ... ({len(names)} in all)" if len(names) > 5 else "")
    if table.empty:
        raise InputError(f"There is no row; send at least one with the columns {listed}.")
    columns = [str(column) for column in table.columns]
    if twice := sorted({name for name in columns if columns.count(name) > 1}):
        raise InputError(f"Column {_some(twice)} comes twice; send it once.")
    required = {spec.name for spec in schema.inputs if spec.required}
    if missing := [name for name in names if name in required and name not in columns]:
        raise InputError(f"Missing column {_some(missing)}; the model needs {listed}.")
    if extra := [name for name in columns if name not in names]:
        raise InputError(f"Unknown column {_some(extra)}; remove it, the model needs {listed}.")
    table.columns = columns
    if only_doubles(schema) and (numbers := as_doubles(table)) is not None:
        return numbers if columns == names else numbers[names]
    present = [spec for spec in schema.inputs if spec.name in columns]
    return pd.DataFrame({spec.name: _typed(table[spec.name], spec) for spec in present})


def _typed(column: pd.Series, spec: Any) -> pd.Series:
    if spec.required and column.isna().any():
        row = int(np.flatnonzero(column.isna())[0])
        raise InputError(f"Column {spec.name} has no value in row {row}; give one.")
    dtype = NUMBERS.get(spec.type)
    if dtype is None:
        return column
    try:
        numbers = pd.to_numeric(column, errors="coerce")
    except OverflowError as error:
        raise InputError(
            f"Column {spec.name} has an integer that is too large; a number ({spec.type.name}) is "
            "expected."
        ) from error
    wrong = (numbers.isna() & column.notna()) | np.isinf(numbers.astype("float64"))
    if not wrong.any():
        wrong = column.map(lambda value: isinstance(value, str | bool))  # as "0.5" in JSON
    if dtype.startswith("int"):
        wrong |= numbers.notna() & (numbers % 1 != 0)
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise InputError(
            f"Column {spec.name} has {column.astype(object).iloc[row]!r} in row {row}; a number "
            f"({spec.type.name}) is expected."
        )
    return numbers.astype(dtype) if spec.required else numbers


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def main() -> None:
    """Load a model and serve it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model-uri", required=True)
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args()
    model = mlflow.pyfunc.load_model(options.model_uri)
    # threads of BLAS, once done, spin for a while on the cores that the next request needs
    with threadpool_limits(limits=1, user_api="blas"):
        uvicorn.run(create_app(model), host=options.host, port=options.port, access_log=False)


if __name__ == "__main__":
    main()
