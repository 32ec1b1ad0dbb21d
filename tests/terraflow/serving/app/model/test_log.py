"""The inference table: files that a real server leaves, and what monitoring makes of them."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest

from harness import wait_for
from model_servers import running
from terraflow.errors import StorageError
from terraflow.serving.app.model import log as requests_log
from terraflow.serving.app.model.log import RequestLog
from terraflow.serving.app.model.served import Answer
from terraflow.settings import Settings


def read(root: Path) -> pd.DataFrame:
    files = sorted(root.glob("*/served/date=*/hour=*/*.parquet"))
    return pd.concat([pd.read_parquet(file) for file in files]) if files else pd.DataFrame()


def ask(url: str, rows: list[list[float]], **headers: str) -> httpx.Response:
    answer = httpx.post(
        f"{url}/invocations",
        json={"dataframe_split": {"columns": ["red", "nir"], "data": rows}},
        headers=headers,
        timeout=60,
        trust_env=False,
    )
    assert answer.status_code == 200, answer.text
    return answer


def test_requests_are_kept_with_their_answers(
    model_folder: Path, tmp_path: Path, free_tcp_port: int
) -> None:
    with running(model_folder, tmp_path, free_tcp_port, log_share=1) as url:
        first = ask(url, [[0.1, 0.9], [0.9, 0.1]], **{"X-Request-Id": "mine-1"})
        second = ask(url, [[0.2, 0.8]])
        assert first.headers["terraflow-request"] == "mine-1"
    table = read(tmp_path / "var" / "eo-data")  # written at the server's end, at the latest
    assert table["red"].tolist() == [0.1, 0.9, 0.2]
    assert [json.loads(text) for text in table["terraflow_prediction"]] == [
        "forest",
        "water",
        "forest",
    ]
    assert set(table["terraflow_version"]) == {"3"}
    assert table["terraflow_request"].tolist() == ["mine-1"] * 2 + [
        second.headers["terraflow-request"]
    ]
    assert (pd.Timestamp.now("UTC") - table["terraflow_time"]).max() < pd.Timedelta(minutes=5)


def test_no_request_is_kept_by_default(
    model_folder: Path, tmp_path: Path, free_tcp_port: int
) -> None:
    with running(model_folder, tmp_path, free_tcp_port) as url:
        assert "terraflow-request" not in ask(url, [[0.1, 0.9]]).headers
    assert not (tmp_path / "var").exists()


def test_request_id_that_is_none_is_replaced(
    model_folder: Path, tmp_path: Path, free_tcp_port: int
) -> None:
    with running(model_folder, tmp_path, free_tcp_port, log_share=0.5) as url:
        answer = ask(url, [[0.1, 0.9]], **{"X-Request-Id": "a b" + "c" * 200})
        assert len(answer.headers["terraflow-request"]) == 32


class Fixed:
    """A model's name and version."""

    name, version, run, project = "m", "1", "r", "m"


def given(rows: int) -> Answer:
    table = pd.DataFrame({"x": np.arange(rows, dtype=float)})
    return Answer("", table, np.arange(rows))


@pytest.fixture
def log(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("TERRAFLOW_STORE", "local")

    def make(share: float) -> RequestLog:
        monkeypatch.setattr(requests_log, "FLUSH_S", 0.2)
        return RequestLog(share)

    return make


def test_log_keeps_the_share(log: Any, settings: Settings) -> None:
    kept = log(0.25)
    for _ in range(2000):
        kept.add(Fixed, given(1), "id")
    kept.close()
    assert 400 < len(read(settings.var / "eo-data")) < 600  # 500; 5 standard deviations are 97


def test_log_thins_a_large_request_evenly(log: Any, settings: Settings) -> None:
    kept = log(1)
    kept.add(Fixed, given(100_001), "id")
    kept.close()
    table = read(settings.var / "eo-data")
    assert len(table) == requests_log.MAX_ROWS
    assert table["x"].iloc[[0, -1]].tolist() == [0, 100_000]
    assert (table["x"] == table["terraflow_prediction"].map(json.loads)).all()


def test_log_waits_for_a_store_that_is_away(
    log: Any, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = log(1)
    write, tries = kept._storage.write, []

    def away(uri: str, data: bytes) -> str:
        tries.append(uri)
        if len(tries) < 3:
            raise StorageError("The store is away.")
        return str(write(uri, data))

    monkeypatch.setattr(kept._storage, "write", away)
    kept.add(Fixed, given(2), "id")
    wait_for(lambda: len(read(settings.var / "eo-data")) == 2, 20)
    kept.close()


def test_log_holds_no_more_than_fits_while_the_store_is_away(
    log: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = log(1)
    monkeypatch.setattr(requests_log, "MAX_WAITING", 5000)

    def away(*_: object) -> str:
        raise StorageError("The store is away.")

    monkeypatch.setattr(kept._storage, "write", away)
    for _ in range(20):
        kept.add(Fixed, given(1000), "id")
        time.sleep(0.01)
    assert kept._rows <= 6000
    kept.close()


def test_log_of_a_model_whose_columns_have_the_same_names(log: Any, settings: Settings) -> None:
    kept = log(1)
    table = pd.DataFrame({"time": [1.0], "version": [2.0]})
    kept.add(Fixed, Answer("", table, ["a"]), "id")
    kept.close()
    table = read(settings.var / "eo-data")
    assert table["terraflow_request"].tolist() == ["id"]
