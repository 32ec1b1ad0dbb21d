"""The fast path of a request whose model takes doubles alone: one array from JSON to the answer.

Whatever does not fit into it goes the general way of `server`, with the same answer.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import simdjson
from joblib import cpu_count
from mlflow.types import DataType, Schema

__all__ = ["as_doubles", "direct_predict", "only_doubles", "read_doubles"]

Predict = Callable[[pd.DataFrame], Any]

KEYS = ["columns", "data"]
#: Of trees: an answer depends on its own row alone, to the last bit, and scikit-learn walks them
#: without the GIL. A matrix product rounds by its number of rows, and is fast enough.
FORESTS = (
    "ExtraTreesClassifier",
    "ExtraTreesRegressor",
    "RandomForestClassifier",
    "RandomForestRegressor",
)
#: With fewer rows in each, several threads take longer than one.
MIN_ROWS = 500


def only_doubles(schema: Schema | None) -> bool:
    """Tell whether a signature has named columns, all required and of type double."""
    if not schema or not schema.has_input_names():
        return False
    return all(spec.required and spec.type == DataType.double for spec in schema.inputs)


def read_doubles(body: bytes | bytearray) -> pd.DataFrame | None:
    """Read a dataframe_split of numbers without making a Python object of each.

    Parameters
    ----------
    body : bytes
        JSON of any form, or none.

    Returns
    -------
    DataFrame or None
        float64; None where there is anything but rows of numbers, one a column.
    """
    try:
        document: Any = simdjson.Parser().parse(body)
        split = document["dataframe_split"]
        columns, rows = split["columns"].as_list(), split["data"]
        index = split.get("index", rows)
        lengths = set(map(len, rows))
        values = np.frombuffer(rows.as_buffer(of_type="d"))  # flat, and of numbers only
    except (AttributeError, KeyError, RuntimeError, TypeError, ValueError):
        return None
    keys = sorted(split)  # a key that comes twice is there twice
    if list(document) != ["dataframe_split"] or keys not in (KEYS, [*KEYS, "index"]):
        return None
    nested = body.count(b"[") != len(keys) + len(rows)
    if nested or lengths != {len(columns)} or len(index) != len(rows):
        return None
    table = values.reshape(len(rows), len(columns)).copy()  # the parser's own can't be written
    return pd.DataFrame(table, columns=columns)


def as_doubles(table: pd.DataFrame) -> pd.DataFrame | None:
    """Look at all columns of a table at once.

    Returns
    -------
    DataFrame or None
        float64; None where some value is no finite number.
    """
    if not all(isinstance(dtype, np.dtype) and dtype.kind in "fiu" for dtype in table.dtypes):
        return None
    values = np.ascontiguousarray(table.to_numpy("float64"))  # rows stay together for the model
    return pd.DataFrame(values, columns=table.columns) if np.isfinite(values).all() else None


def direct_predict(model: Any) -> Predict:
    """Choose how to predict from checked tables of doubles.

    Parameters
    ----------
    model : mlflow.pyfunc.PyFuncModel

    Returns
    -------
    callable
        Answers as `model.predict`. A scikit-learn model is asked itself: what MLflow does before
        changes nothing in a checked table. A forest is asked by blocks of rows, one a core.
    """
    flavors = model.metadata.flavors
    if "sklearn" not in flavors:
        return model.predict  # type: ignore[no-any-return]
    estimator = model.get_raw_model()
    name = flavors["python_function"].get("predict_fn", "predict")
    predict: Predict = getattr(estimator, name)
    by_blocks = type(estimator).__name__ in FORESTS and name == "predict"
    return _by_blocks(predict) if by_blocks else predict


def _by_blocks(predict: Predict) -> Predict:
    cores = cpu_count()
    pool = ThreadPoolExecutor(cores, thread_name_prefix="predict")

    def predict_blocks(table: pd.DataFrame) -> Any:
        blocks = min(cores, len(table) // MIN_ROWS)
        if blocks < 2:
            return predict(table)
        edges = np.linspace(0, len(table), blocks + 1, dtype=int)
        parts = [table.iloc[start:stop] for start, stop in pairwise(edges)]
        return np.concatenate(list(pool.map(predict, parts)))

    return predict_blocks
