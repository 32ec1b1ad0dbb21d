"""The short way of a request whose model takes doubles alone: one array from JSON to the answer.

Whatever does not fit into it goes the general way of `scoring`, with the same answer.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, pairwise
from typing import Any

import numpy as np
import pandas as pd
from joblib import cpu_count
from mlflow.types import DataType, Schema

__all__ = ["as_doubles", "direct_predict", "only_doubles", "read_doubles"]

Predict = Callable[[pd.DataFrame], Any]

#: Of trees: an answer depends on its own row alone, to the last bit, and scikit-learn walks them
#: without the GIL. A matrix product rounds by its number of rows, and has threads of its own.
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


def read_doubles(document: Any) -> pd.DataFrame | None:
    """Read a dataframe_split of numbers into one array.

    Parameters
    ----------
    document : object
        Any parsed JSON.

    Returns
    -------
    DataFrame or None
        float64; None where there is anything but rows of numbers, one a column.
    """
    match document:
        case {"dataframe_split": {"columns": [*columns], "data": [*_]} as split}:
            rows, index = split["data"], split.get("index", split["data"])
        case _:
            return None
    if len(document) > 1 or split.keys() - {"columns", "data", "index"}:
        return None
    if type(index) is not list or len(index) != len(rows):
        return None
    full = set(map(type, rows)) == {list} and set(map(len, rows)) == {len(columns)}
    if not full or not set(map(type, chain.from_iterable(rows))) <= {int, float}:
        return None  # as for true, "0.5" and null
    shape = len(rows), len(columns)
    try:
        values = np.fromiter(chain.from_iterable(rows), "float64", shape[0] * shape[1])
    except OverflowError:
        return None
    return pd.DataFrame(values.reshape(shape), columns=columns)


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
