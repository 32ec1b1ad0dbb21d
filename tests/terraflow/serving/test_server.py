from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow.types import ColSpec, DataType, Schema

from terraflow.serving.server import InputError, check_table, parse_table

SCHEMA = Schema(
    [
        ColSpec(DataType.double, "ndvi"),
        ColSpec(DataType.long, "count"),
        ColSpec(DataType.string, "name", required=False),
    ]
)


def test_check_table_orders_columns_and_gives_types() -> None:
    table = check_table(pd.DataFrame({"count": [1.0], "ndvi": [1]}), SCHEMA)
    assert list(table.columns) == ["ndvi", "count"]
    assert [str(dtype) for dtype in table.dtypes] == ["float64", "int64"]


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=5))
def test_check_table_keeps_every_number(values: list[float]) -> None:
    table = check_table(pd.DataFrame({"ndvi": values, "count": 1}), SCHEMA)
    assert table["ndvi"].tolist() == values


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"ndvi": [0.5]}, "Missing column count"),
        ({"ndvi": [0.5], "count": [1], "evi": [1]}, "Unknown column evi"),
        ({"ndvi": [0.5, "x"], "count": [1, 1]}, "Column ndvi has 'x' in row 1"),
        ({"ndvi": [0.5], "count": [1.5]}, "Column count has"),
        ({"ndvi": ["0.5"], "count": [1]}, "Column ndvi has '0.5' in row 0"),
        ({"ndvi": [0.5, np.inf], "count": [1, 1]}, "Column ndvi has inf in row 1"),
        ({"ndvi": [None], "count": [1]}, "Column ndvi has no value in row 0"),
        ({"ndvi": [10**400], "count": [1]}, "Column ndvi has an integer that is too large"),
        ({"ndvi": [], "count": []}, "There is no row; send at least one with the columns ndvi"),
    ],
)
def test_check_table_names_what_is_wrong(columns: dict[str, list[object]], expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        check_table(pd.DataFrame(columns), SCHEMA)


def test_check_table_column_sent_twice_is_refused() -> None:
    table = pd.DataFrame([[0.5, 0.6, 1]], columns=["ndvi", "ndvi", "count"])
    with pytest.raises(InputError, match="Column ndvi comes twice"):
        check_table(table, SCHEMA)


@given(st.binary(max_size=40))
def test_parse_table_any_bytes_are_a_table_or_a_sentence(body: bytes) -> None:
    for kind in ("application/json", "text/csv", "application/vnd.apache.parquet", ""):
        try:
            table = parse_table(body, kind)
        except InputError:
            continue
        assert isinstance(table, pd.DataFrame)


@pytest.mark.parametrize(
    "document",
    [
        {"dataframe_split": {"columns": ["a", "b"], "data": [[1, 2]]}},
        {"dataframe_records": [{"a": 1, "b": 2}]},
        {"inputs": {"a": [1], "b": [2]}},
        {"instances": [{"a": 1, "b": 2}]},
    ],
)
def test_parse_table_takes_every_form_of_mlflow(document: dict[str, object]) -> None:
    table = parse_table(json.dumps(document).encode(), "application/json")
    assert table.astype(int).to_dict("records") == [{"a": 1, "b": 2}]


def test_parse_table_csv_and_parquet() -> None:
    frame = pd.DataFrame({"a": [1], "b": [np.pi]})
    csv = parse_table(frame.to_csv(index=False).encode(), "text/csv")
    parquet = parse_table(frame.to_parquet(), "application/vnd.apache.parquet")
    assert csv.equals(frame)
    assert parquet.equals(frame)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_parse_table_takes_json_as_editors_save_it(encoding: str) -> None:
    table = parse_table('{"inputs": {"a": [1]}}'.encode(encoding), "application/json")
    assert table.to_dict("records") == [{"a": 1}]


def test_parse_table_nested_too_deep_is_a_sentence() -> None:
    with pytest.raises(InputError, match="can't be read as application/json"):
        parse_table(b"[" * 100_000, "application/json")
