"""What the model server was asked: the rows that it logged."""

from __future__ import annotations

import io
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pandas as pd

from terraflow.eo.images.places import project_root
from terraflow.eo.models.model import LoadedModel
from terraflow.errors import DataError
from terraflow.storage import Storage, join

__all__ = ["read_served", "served_uri"]

DAYS = 7


def served_uri(model: LoadedModel, storage: Storage) -> str:
    """Folder of the requests that were logged of a model's name."""
    return join(project_root(model.config.name, storage), "served")


def read_served(model: LoadedModel, storage: Storage, rows: int) -> pd.DataFrame:
    """Read the latest rows that a model was asked in the last seven days.

    Parameters
    ----------
    rows : int
        At most so many.

    Returns
    -------
    DataFrame, shape (row, feature), float32

    Raises
    ------
    DataError
        There are none, as where `[serving] log_share` is 0.
    StorageError
        The store does not answer.
    """
    tables: list[pd.DataFrame] = []
    found = 0
    for uri in _files(served_uri(model, storage), storage):
        table = pd.read_parquet(io.BytesIO(storage.read(uri)))
        same = table["terraflow_run"] == model.run_id  # which a version has for itself
        if set(model.info.features) <= set(table.columns):
            tables.append(table.loc[same, model.info.features].dropna().astype("float32"))
            found += len(tables[-1])
        if found >= rows:
            break
    if not found:
        raise DataError(
            f"No request to {model.uri} of the last {DAYS} days is logged in "
            f"{served_uri(model, storage)}; set [serving] log_share to a share as 0.1, and serve "
            "it."
        )
    return pd.concat(tables, ignore_index=True).head(rows)


def _files(root: str, storage: Storage) -> Iterator[str]:
    """List files of the last days, the latest first."""
    now = datetime.now(UTC)
    for hours in range(DAYS * 24 + 1):
        then = now - timedelta(hours=hours)
        folder = join(root, f"date={then:%Y-%m-%d}", f"hour={then:%H}")
        yield from sorted(storage.list_folder(folder), reverse=True)
