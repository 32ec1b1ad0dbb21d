from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow.types import ColSpec, DataType, Schema

from terraflow.serving.app.model.table import InputError, TooLargeError, check_table, parse_table

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


def wide(columns: int) -> list[tuple[str, bytes]]:
    """One row of so many columns, in every form."""
    names = [f"c{i}" for i in range(columns)]
    forms: list[Any] = [
        {"dataframe_split": {"columns": names, "data": [[1] * columns]}},
        {"dataframe_records": [dict.fromkeys(names, 1)]},
        {"inputs": {name: [1] for name in names}},
        {"instances": [dict.fromkeys(names, 1)]},
    ]
    csv = ",".join(names) + "\n" + ",".join("1" * columns)
    documents = [("application/json", json.dumps(form).encode()) for form in forms]
    return [("text/csv", csv.encode()), *documents]


TEXTS = [
    ("text/csv", ("a,b\n" + "1," * 60_000).encode()),  # a row that is wider than its header
    ("text/csv", ("a," * 60_000 + "\n1\n").encode()),  # one name again and again
    *wide(60_000),
]


@pytest.mark.parametrize(("kind", "body"), TEXTS, ids=range(len(TEXTS)))
def test_parse_table_far_too_wide_is_refused_before_pandas_reads_it(
    kind: str, body: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("terraflow.serving.app.model.table.pd", None)
    with pytest.raises(InputError, match=r"A row has 6\d{4} columns, of which at most 106 are"):
        parse_table(body, kind, SCHEMA)


@pytest.mark.parametrize(("kind", "body"), wide(100), ids=range(5))
def test_parse_table_a_little_too_wide_is_named_by_its_columns(kind: str, body: bytes) -> None:
    with pytest.raises(InputError, match="Missing column ndvi, count; the model needs"):
        check_table(parse_table(body, kind, SCHEMA), SCHEMA)


def parquet(table: pd.DataFrame) -> bytes:
    return table.to_parquet(index=False)


def test_parse_table_too_many_rows_are_refused_before_they_are_read() -> None:
    frame = pd.DataFrame({"ndvi": np.zeros(11), "count": np.zeros(11, int)})
    bodies = [
        ("text/csv", frame.to_csv(index=False).encode()),
        ("application/vnd.apache.parquet", parquet(frame)),
        ("application/json", json.dumps({"dataframe_split": frame.to_dict("split")}).encode()),
        ("application/json", json.dumps({"dataframe_records": frame.to_dict("records")}).encode()),
        ("application/json", json.dumps({"inputs": frame.to_dict("list")}).encode()),
    ]
    for kind, body in bodies:
        assert len(parse_table(body, kind, SCHEMA, max_rows=11)) == 11
        with pytest.raises(TooLargeError, match="has 11 rows, and this server takes at most 10"):
            parse_table(body, kind, SCHEMA, max_rows=10)


def test_parse_table_text_in_a_number_of_parquet_is_refused_before_it_is_read() -> None:
    frame = pd.DataFrame({"ndvi": ["x" * 2**20] * 2000, "count": 1})  # 2 GB from a few kB
    with pytest.raises(InputError, match=r"Column ndvi is of type large_string .* \(double\)"):
        parse_table(parquet(frame), "application/vnd.apache.parquet", SCHEMA)
