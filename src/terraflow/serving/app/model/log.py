"""The inference table: a share of the requests with their answers, as Parquet by hour."""

from __future__ import annotations

import io
import json
import logging
import random
import threading
import time
from collections import defaultdict
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import numpy as np
import pandas as pd

from terraflow.errors import TerraFlowError
from terraflow.serving.app.model.served import Answer, Served
from terraflow.settings import load
from terraflow.storage import Storage, join

__all__ = ["RequestLog"]

LOG = logging.getLogger("uvicorn.error")
#: Rows are written after so many seconds, or once there are so many.
FLUSH_S, FLUSH_ROWS = 30.0, 20_000
#: Of one request so many rows are kept, evenly: drift needs no more, and a map has millions.
MAX_ROWS = 1000
#: While the store is away so many are kept; what comes then is not logged.
MAX_WAITING = 200_000


class RequestLog:
    """Keeps a share of requests, and writes them while others are answered.

    A file lies at NAME/served/date=2024-06-01/hour=13/ in the store's data, where NAME is the
    project's, as in the registry. Its columns are the model's, terraflow_time (UTC),
    terraflow_request, terraflow_version, terraflow_run and terraflow_prediction (as JSON).

    Parameters
    ----------
    share : float
        Of the requests, 0 to 1.
    """

    def __init__(self, share: float) -> None:
        settings = load(running=False, strict=False)
        self._storage, self._root, self._share = Storage(settings), settings.data_uri, share
        self._random = random.Random()  # noqa: S311 - a sample
        self._waiting: dict[str, list[pd.DataFrame]] = defaultdict(list)
        self._rows = 0
        self._lock, self._wake, self._ends = threading.Lock(), threading.Event(), False
        self._thread = threading.Thread(target=self._write_now_and_then, daemon=True)
        self._thread.start()

    def add(self, served: Served, answer: Answer, request_id: str) -> None:
        """Keep a request, or not."""
        if self._random.random() >= self._share or self._rows >= MAX_WAITING:
            return
        rows = len(answer.table)
        chosen = np.linspace(0, rows - 1, min(rows, MAX_ROWS)).round().astype(int)
        predictions = answer.predictions
        values = [_plain(predictions[i]) for i in chosen] if len(predictions) == rows else None
        kept = answer.table.iloc[chosen].reset_index(drop=True)
        told = {
            "time": datetime.now(UTC),
            "request": request_id,
            "version": served.version,
            "run": served.run,
            "prediction": values,
        }
        kept = kept.assign(**{f"terraflow_{name}": value for name, value in told.items()})
        with self._lock:
            self._waiting[served.project].append(kept)
            self._rows += len(kept)
        if self._rows >= FLUSH_ROWS:
            self._wake.set()

    def close(self) -> None:
        """Write what is left."""
        self._ends = True
        self._wake.set()
        self._thread.join(timeout=3)

    def _write_now_and_then(self) -> None:
        while not self._ends:
            self._wake.wait(FLUSH_S)
            self._wake.clear()
            self._flush()
        self._flush()

    def _flush(self) -> None:
        with self._lock:
            waiting, self._waiting = self._waiting, defaultdict(list)
        for name, tables in waiting.items():
            try:
                self._write(name, tables)
            except TerraFlowError as error:
                LOG.warning("Logged requests wait: %s", error)
                with self._lock:
                    self._waiting[name] += tables
                continue
            except Exception:
                LOG.exception("Logged requests are lost.")
            with self._lock:
                self._rows -= sum(map(len, tables))

    def _write(self, name: str, tables: list[pd.DataFrame]) -> None:
        table = pd.concat(tables, ignore_index=True)
        time_of = table["terraflow_time"].dt
        for (day, hour), part in table.groupby([time_of.date, time_of.hour]):
            output = io.BytesIO()
            part.to_parquet(output, index=False)
            file = f"{time.time_ns()}-{uuid4().hex[:8]}.parquet"
            folder = join(self._root, name, "served", f"date={day}", f"hour={hour:02}")
            self._storage.write(join(folder, file), output.getvalue())


def _plain(value: Any) -> str:
    return json.dumps(value.tolist() if hasattr(value, "tolist") else value)
