from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import httpx
import mlflow
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow.types import ColSpec, DataType, Schema
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_info, threadpool_limits

from terraflow.serving.app import server as scoring
from terraflow.serving.app.application import create_app
from terraflow.serving.app.model import fast_path as doubles
from terraflow.serving.app.model.fast_path import direct_predict, only_doubles, read_doubles
from terraflow.serving.app.model.served import Current, Served
from terraflow.serving.app.model.table import InputError, check_table, parse_table

NAMES = ["ndvi", "evi", "red"]
DOUBLES = [ColSpec(DataType.double, name) for name in NAMES]
SHORT = Schema(DOUBLES)
#: The same, but its requests go the general way.
GENERAL = Schema([*DOUBLES, ColSpec(DataType.string, "note", required=False)])

numbers = st.floats() | st.integers(-(2**63), 2**64 - 1)
cells = numbers | st.booleans() | st.none() | st.sampled_from(["0.5", "x", [], [1.0], {}])


def rows(of: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    return st.lists(st.lists(of, min_size=3, max_size=3), min_size=1, max_size=4)


def encode(document: object) -> bytes:
    return json.dumps(document).encode()


def outcome(document: object, schema: Schema) -> pd.DataFrame | str:
    try:
        table = parse_table(encode(document), "application/json", schema)
        return check_table(table, schema)
    except InputError as error:
        return str(error)


@given(rows(numbers) | rows(cells), st.permutations(NAMES), st.booleans())
def test_short_way_has_the_outcome_of_the_general_way(
    data: list[Any], columns: list[str], indexed: bool
) -> None:
    split = {"columns": columns, "data": data}
    if indexed:
        split["index"] = list(range(7, 7 + len(data)))
    short, general = (outcome({"dataframe_split": split}, schema) for schema in (SHORT, GENERAL))
    if isinstance(short, str):
        assert short == general
    else:
        assert list(short.columns) == NAMES
        assert short.equals(general.reset_index(drop=True))


@given(rows(st.floats(allow_nan=False, allow_infinity=False)))
def test_read_doubles_takes_every_number_as_it_was_sent(data: list[list[float]]) -> None:
    table = read_doubles(encode({"dataframe_split": {"columns": NAMES, "data": data}}))
    assert table is not None
    assert table.to_numpy().tolist() == data


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        {},
        {"dataframe_split": None},
        {"dataframe_split": {"data": [[1]]}},
        {"dataframe_split": {"columns": ["a"], "data": []}},
        {"dataframe_split": {"columns": ["a"], "data": [[1], 2]}},
        {"dataframe_split": {"columns": ["a"], "data": [[1], [1, 2]]}},
        {"dataframe_split": {"columns": ["a", "b"], "data": ["12"]}},
        {"dataframe_split": {"columns": ["a"], "data": [1]}},
        {"dataframe_split": {"columns": ["a"], "data": [[[1]]]}},
        {"dataframe_split": {"columns": ["a"], "data": [[[1, 2]], [[]]]}},
        {"dataframe_split": {"columns": ["a"], "data": [{"a": 1}]}},
        {"dataframe_split": {"columns": [["a"]], "data": [[1]]}},
        {"dataframe_split": {"columns": ["a"], "data": [[True]]}},
        {"dataframe_split": {"columns": ["a"], "data": [["1"]]}},
        {"dataframe_split": {"columns": ["a"], "data": [[None]]}},
        {"dataframe_split": {"columns": ["a"], "data": [[10**400]]}},
        {"dataframe_split": {"columns": ["a"], "data": [[1]], "index": []}},
        {"dataframe_split": {"columns": ["a"], "data": [[1]], "index": 0}},
        {"dataframe_split": {"columns": ["a"], "data": [[1]], "dtype": "int"}},
        {"dataframe_split": {"columns": ["a"], "data": [[1]]}, "params": {}},
        {"dataframe_records": [{"a": 1}]},
    ],
)
def test_read_doubles_leaves_all_else_to_the_general_way(document: object) -> None:
    assert read_doubles(encode(document)) is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b'{"dataframe_split": {"columns": ["a"], "data": [[1]]}} 1',
        b'{"dataframe_split": {"columns": ["a"], "data": [[1]], "data": [[2]]}}',
        b'{"dataframe_split": {"columns": ["a"], "data": [[01]]}}',
        b'{"dataframe_split": {"columns": ["a"], "data": [[NaN]]}}',
        b'{"dataframe_split": {"columns": ["\xff"], "data": [[1]]}}',
        b"[" * 100_000,
    ],
)
def test_read_doubles_leaves_what_is_no_plain_json_to_the_general_way(body: bytes) -> None:
    assert read_doubles(body) is None


@pytest.mark.parametrize(
    "specs",
    [
        [ColSpec(DataType.long, "count")],
        [ColSpec(DataType.double, "ndvi", required=False)],
        [ColSpec(DataType.double, "ndvi"), ColSpec(DataType.string, "name")],
    ],
)
def test_only_doubles_another_column_goes_the_general_way(specs: list[ColSpec]) -> None:
    assert not only_doubles(Schema(specs))


def test_only_doubles_without_a_signature_is_false() -> None:
    assert not only_doubles(None)


def test_integers_of_a_model_that_takes_them_stay_exact() -> None:
    schema = Schema([ColSpec(DataType.long, "count")])
    table = outcome({"dataframe_split": {"columns": ["count"], "data": [[2**53 + 1]]}}, schema)
    assert isinstance(table, pd.DataFrame)
    assert table["count"].tolist() == [2**53 + 1]


def load(estimator: Any, folder: Path, target: str = "text", **options: Any) -> Any:
    random = np.random.default_rng(0)
    values = pd.DataFrame(random.random((300, 3)), columns=NAMES)
    wanted = values["ndvi"] if target == "number" else np.where(values["evi"] > 0.5, "a", "b")
    estimator.fit(values, wanted)
    signature = mlflow.models.infer_signature(values, estimator.predict(values))
    mlflow.sklearn.save_model(
        estimator,
        folder / "model",
        signature=signature,
        pip_requirements=[],
        serialization_format="cloudpickle",
        **options,
    )
    return mlflow.pyfunc.load_model(str(folder / "model"))


def table(length: int) -> pd.DataFrame:
    return pd.DataFrame(np.random.default_rng(1).random((length, 3)), columns=NAMES)


@pytest.mark.parametrize("length", [1, 999, 1000, 2501])
@pytest.mark.parametrize("kind", [RandomForestClassifier, RandomForestRegressor])
def test_direct_predict_of_a_forest_by_blocks_is_that_of_the_model_to_the_bit(
    kind: type, length: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doubles, "cpu_count", lambda: 3)
    target = "number" if kind is RandomForestRegressor else "text"
    model = load(kind(7, random_state=0), tmp_path, target)
    asked: list[int] = []
    forest = model.get_raw_model()
    plain = forest.predict
    monkeypatch.setattr(forest, "predict", lambda part: asked.append(len(part)) or plain(part))
    predictions = direct_predict(model)(table(length))
    assert sorted(asked) == {1: [1], 999: [999], 1000: [500, 500], 2501: [833, 834, 834]}[length]
    assert np.array_equal(predictions, model.predict(table(length)))


@pytest.mark.parametrize("options", [{}, {"pyfunc_predict_fn": "predict_proba"}])
def test_direct_predict_asks_the_function_that_the_model_was_logged_with(
    options: dict[str, str], tmp_path: Path
) -> None:
    model = load(make_pipeline(StandardScaler(), LogisticRegression()), tmp_path, **options)
    assert np.array_equal(direct_predict(model)(table(1200)), model.predict(table(1200)))


def test_direct_predict_leaves_other_models_to_mlflow(tmp_path: Path) -> None:
    class Mean(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
        def predict(self, model_input: pd.DataFrame, params: Any = None) -> Any:
            return model_input.mean(axis=1)

    signature = mlflow.models.ModelSignature(SHORT)
    path = str(tmp_path / "model")
    mlflow.pyfunc.save_model(path, python_model=Mean(), signature=signature, pip_requirements=[])
    model = mlflow.pyfunc.load_model(path)
    assert np.array_equal(direct_predict(model)(table(5)), table(5).mean(axis=1))


def test_server_answers_every_form_alike_and_a_wrong_one_with_400(tmp_path: Path) -> None:
    model = load(RandomForestClassifier(5, random_state=0), tmp_path, metadata={"note": "A test."})
    sent = table(1500)
    split = sent.to_dict("split")
    wrong = {"columns": NAMES, "data": [[1, 2, 3], [1, None, 3]]}
    documents = [
        {"dataframe_split": split},
        {"dataframe_split": {"columns": split["columns"], "data": split["data"]}},
        {"dataframe_records": sent.to_dict("records")},
        {"inputs": sent.to_dict("list")},
    ]
    requests = [
        *(("application/json", json.dumps(document)) for document in documents),
        ("text/csv", sent.to_csv(index=False)),
        ("application/vnd.apache.parquet", sent.to_parquet()),
        ("application/json", json.dumps({"dataframe_split": wrong})),
    ]
    *answers, refusal = asyncio.run(ask(model, requests))
    expected = {"predictions": model.predict(sent).tolist(), "note": "A test."}
    assert [answer.json() for answer in answers] == [expected] * len(answers)
    assert refusal.status_code == 400
    assert refusal.json()["message"] == "Column evi has no value in row 1; give one."


async def ask(model: Any, requests: list[tuple[str, Any]]) -> list[httpx.Response]:
    transport = httpx.ASGITransport(create_app(Current(Served(model))))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        return [
            await client.post("/invocations", content=content, headers={"Content-Type": kind})
            for kind, content in requests
        ]


def test_server_holds_blas_to_one_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load(LogisticRegression(), tmp_path)
    found: list[int] = []

    def look(*_: object, **__: object) -> None:
        pools = threadpool_info()
        found.extend(pool["num_threads"] for pool in pools if pool["user_api"] == "blas")

    monkeypatch.setattr(scoring._Server, "run", look)
    options = ["--model-uri", str(tmp_path / "model"), "--host", "127.0.0.1", "--port", "1"]
    monkeypatch.setattr(sys, "argv", ["scoring", *options])
    with threadpool_limits(limits=2, user_api="blas"):
        scoring.main()
    assert set(found) == {1}
