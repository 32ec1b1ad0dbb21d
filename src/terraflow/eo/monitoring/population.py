"""What new pixels are compared with: the pixels and the dates of a model's training."""

from __future__ import annotations

import io

import pandas as pd

from terraflow.eo.models.model import LoadedModel
from terraflow.eo.samples.preprocess import read_report
from terraflow.errors import ConfigError, DataError
from terraflow.storage import Storage, join
from terraflow.tracking import runs

__all__ = ["read_population", "read_training_dates"]

_SHOWN = 5


def read_population(model: LoadedModel, storage: Storage) -> pd.DataFrame:
    """Read the pixels that `preprocess` drew of the training's area.

    Returns
    -------
    DataFrame, shape (pixel, feature), float32

    Raises
    ------
    DataError
        They are gone, or lack features of the model.
    """
    uri = _population_uri(model, storage)
    if not uri or not storage.exists(uri):
        raise DataError(
            f"The training pixels of model {model.uri} are gone: "
            f"{f'{uri} does not exist' if uri else f'its run {model.run_id!r} names none'}; train "
            "again, and monitor that model."
        )
    pixels = pd.read_parquet(io.BytesIO(storage.read(uri)))
    if missing := [name for name in model.info.features if name not in pixels]:
        raise DataError(
            f"{uri} lacks {len(missing)} of the {len(model.info.features)} features of model "
            f"{model.uri} ({', '.join(missing[:_SHOWN])}); train again, and monitor that model."
        )
    return pixels[model.info.features]


def read_training_dates(model: LoadedModel, storage: Storage) -> dict[str, int]:
    """Read how many dates each period of the training had; empty where it was not told."""
    uri = join(_population_uri(model, storage).rpartition("/")[0], "report.json")
    return read_report(uri, storage).dates if storage.exists(uri) else {}


def _population_uri(model: LoadedModel, storage: Storage) -> str:
    try:
        run = runs.find_run(storage.settings, model.run_id)
    except ConfigError:
        return ""
    return str(run.data.tags.get("population", ""))
