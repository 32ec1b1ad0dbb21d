"""Requests as tables: read within limits, checked against a model's signature."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from mlflow.exceptions import MlflowException
from mlflow.pyfunc.scoring_server import infer_and_parse_data
from mlflow.types import DataType, Schema
from pyarrow import ArrowException
from pyarrow.types import is_boolean, is_decimal, is_floating, is_integer, is_null

from terraflow.serving.app.model.fast_path import as_doubles, only_doubles, read_doubles

__all__ = ["InputError", "TooLargeError", "check_table", "parse_table"]

NUMBERS = {
    DataType.integer: "int32",
    DataType.long: "int64",
    DataType.float: "float32",
    DataType.double: "float64",
}


#: Types of Parquet whose values may be numbers.
NUMERIC = (is_boolean, is_decimal, is_floating, is_integer, is_null)
#: Columns where no signature tells how many a model takes.
MAX_COLUMNS = 10_000


class InputError(ValueError):
    """The request's content does not fit the model; the message is the answer."""

    status = 400


class TooLargeError(InputError):
    """The request is larger than the server takes."""

    status = 413


def parse_table(
    body: bytes | bytearray,
    content_type: str,
    schema: Schema | None = None,
    *,
    max_rows: int = 1_000_000,
) -> pd.DataFrame:
    """Read a request's body.

    Parameters
    ----------
    content_type : str
        application/json in one of MLflow's forms (dataframe_split, dataframe_records, inputs,
        instances), text/csv, or application/vnd.apache.parquet.
    schema : Schema
        The model's signature. Where all its columns are doubles, a table of numbers is read
        faster; its integers become doubles.
    max_rows : int
        Looked at before the table is made, as is the number of columns: pandas takes minutes for
        some tens of thousands of columns.

    Raises
    ------
    InputError
        It is not what the content type says, or has far more columns than the model.
    TooLargeError
        It has too many rows.
    """
    named = schema is not None and schema.has_input_names()
    shape = Shape(max_rows, 2 * len(schema.inputs) + 100 if named else MAX_COLUMNS)  # type: ignore[union-attr]
    try:
        if content_type == "text/csv":
            shape.check_csv(body)
            return pd.read_csv(io.BytesIO(body))
        if content_type == "application/vnd.apache.parquet":
            return _read_parquet(body, shape, schema if named else None)
        if content_type == "application/json":
            if only_doubles(schema) and (table := read_doubles(body)) is not None:
                shape.check(*table.shape)
                return table
            document = json.loads(body)
            if not isinstance(document, dict):
                raise InputError(
                    'The JSON is no object; write {"dataframe_records": [{"column": value}]}.'
                )
            shape.check_json(document)
            return pd.DataFrame(infer_and_parse_data(document))
    except InputError:
        raise
    except MlflowException as error:
        raise InputError(error.message.partition(" IMPORTANT:")[0]) from error
    except (ValueError, TypeError, KeyError, OSError, RecursionError, ArrowException) as error:
        raise InputError(f"The body can't be read as {content_type}: {error}") from error
    raise InputError(
        f"Content type {content_type or 'none'} is not known; send application/json, text/csv or "
        "application/vnd.apache.parquet."
    )


@dataclass(frozen=True)
class Shape:
    """How many rows and columns a table may have."""

    rows: int
    columns: int

    def check(self, rows: int, columns: int) -> None:
        """Refuse a table of this shape where it is too large."""
        if columns > self.columns:
            raise InputError(
                f"A row has {columns} columns, of which at most {self.columns} are read; send the "
                "model's columns alone."
            )
        if rows > self.rows:
            raise TooLargeError(
                f"The request has {rows} rows, and this server takes at most {self.rows}; send it "
                "in parts."
            )

    def check_csv(self, body: bytes | bytearray) -> None:
        """Count lines, and the commas of the longest."""
        characters = np.frombuffer(body, np.uint8)
        ends = np.append(np.flatnonzero(characters == ord("\n")), len(characters))
        commas = np.searchsorted(np.flatnonzero(characters == ord(",")), ends)
        rows = len(ends) - 1 - body.endswith(b"\n")  # the first line names the columns
        self.check(rows, int(np.diff(commas, prepend=0).max()) + 1)

    def check_json(self, document: Mapping[str, Any]) -> None:
        """Count the rows and columns of one of MLflow's forms."""
        for form, content in document.items():
            if form == "dataframe_split" and isinstance(content, Mapping):
                self.check(_length(content.get("data")), _length(content.get("columns")))
            elif isinstance(content, list):
                self.check(len(content), max(map(_length, content), default=0))
            elif isinstance(content, Mapping):
                self.check(max(map(_length, content.values()), default=0), len(content))


def _length(value: object) -> int:
    return len(value) if isinstance(value, list | dict) else 0


def _read_parquet(body: bytes | bytearray, shape: Shape, schema: Schema | None) -> pd.DataFrame:
    file = pq.ParquetFile(io.BytesIO(body))
    shape.check(file.metadata.num_rows, file.metadata.num_columns)
    kinds: dict[str, Any] = {str(spec.name): spec.type for spec in schema.inputs} if schema else {}
    for column in file.schema_arrow:  # a text that is stored once may fill the memory when read
        number = kinds.get(column.name) in NUMBERS
        if number and not any(fits(column.type) for fits in NUMERIC):
            raise InputError(
                f"Column {column.name} is of type {column.type} in the Parquet file; a number "
                f"({kinds[column.name].name}) is expected."
            )
    return file.read().to_pandas()


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
    if twice := sorted(name for name, times in Counter(columns).items() if times > 1):
        raise InputError(f"Column {_some(twice)} comes twice; send it once.")
    required = {spec.name for spec in schema.inputs if spec.required}
    sent, known = set(columns), set(names)
    if missing := [name for name in names if name in required and name not in sent]:
        raise InputError(f"Missing column {_some(missing)}; the model needs {listed}.")
    if extra := [name for name in columns if name not in known]:
        raise InputError(f"Unknown column {_some(extra)}; remove it, the model needs {listed}.")
    table.columns = columns
    if only_doubles(schema) and (numbers := as_doubles(table)) is not None:
        return numbers if columns == names else numbers[names]
    present = [spec for spec in schema.inputs if spec.name in sent]
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
