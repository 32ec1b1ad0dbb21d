"""Whether new items still look like what a model was trained on."""

from __future__ import annotations

import io
from dataclasses import asdict, dataclass
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import xarray as xr

from terraflow.console import say, table
from terraflow.eo.features.windows import FeatureSource
from terraflow.eo.images.ingest import read_items
from terraflow.eo.images.selection import item_time
from terraflow.eo.maps.map import check_features, classify
from terraflow.eo.models.model import LoadedModel
from terraflow.eo.monitoring.drift import Drift, drift_figure, measure
from terraflow.eo.samples.draw import POPULATION, Draw, random_pixels
from terraflow.errors import ConfigError, DataError
from terraflow.storage import Storage
from terraflow.tracking import runs as tracking

__all__ = ["DRIFTED", "STABLE", "MonitorResult", "draw_pixels", "monitor", "print_result"]

#: Exit codes; 1 and 2 are errors.
STABLE, DRIFTED = 0, 3
#: With fewer, chance alone brings the index near its threshold: it is about 9 / pixels.
MIN_PIXELS = 100
_SHOWN = 5


@dataclass(frozen=True)
class MonitorResult:
    """What a user is told; small enough to pass through Airflow.

    Attributes
    ----------
    run_id, url : str
        The MLflow run that holds all figures.
    pixels : int
        Of the new items.
    class_shares : dict
        Class to its share (0-1) of training and of new pixels, both as the model maps them.
    max_psi, max_outside_range : float
        Thresholds.
    """

    run_id: str
    url: str
    model: str
    items: str
    pixels: int
    drift: Drift
    class_shares: dict[str, tuple[float, float]]
    max_psi: float
    max_outside_range: float

    @property
    def drifted(self) -> bool:
        """Whether a threshold is exceeded."""
        psi, outside = max(self.drift.psi.values()), self.drift.outside_range
        return psi > self.max_psi or outside > self.max_outside_range

    @property
    def exit_code(self) -> int:
        """0 if stable, 3 if drifted."""
        return DRIFTED if self.drifted else STABLE

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values."""
        return asdict(self) | {"drifted": self.drifted}


def monitor(
    model: LoadedModel,
    items_uri: str,
    storage: Storage,
    *,
    max_psi: float | None = None,
    max_outside_range: float | None = None,
) -> MonitorResult:
    """Compare the features of new items with those that the model was trained on.

    Up to 20 000 random pixels of the items stand against as many of the area of the training.
    Figures and a picture go into a run of the experiment NAME-monitoring.

    Parameters
    ----------
    items_uri : str
        A STAC collection, catalogue or item collection, as `ingest` writes it.
    max_psi, max_outside_range : float, optional
        Thresholds over those of [monitor] in the model's project.

    Raises
    ------
    ConfigError
        A threshold is out of range.
    DataError
        The items give other features than the model knows, or too few pixels; or the training
        pixels are gone.
    StorageError, ServiceError
        The store or MLflow does not answer.
    """
    limits = _thresholds(model, max_psi, max_outside_range)
    training = _read_population(model, storage)
    new = draw_pixels(model, items_uri, storage)
    drift = measure(training, new)
    shares = zip(_shares(model, training), _shares(model, new), strict=True)
    name = f"{model.project.name}-monitoring"
    tags = {"model": model.uri, "model_version": model.version, "model_run": model.run_id,
            "items": items_uri}  # fmt: skip
    with tracking.start_run(storage.settings, name, name=name, tags=tags) as run:
        result = MonitorResult(
            run_id=run.info.run_id,
            url=tracking.run_url(storage.settings, run),
            model=model.uri,
            items=items_uri,
            pixels=len(new),
            drift=drift,
            class_shares=dict(zip(model.classes, shares, strict=True)),
            max_psi=limits[0],
            max_outside_range=limits[1],
        )
        _log(result, str(model.metadata.get("note", "")))
    return result


def draw_pixels(model: LoadedModel, items_uri: str, storage: Storage) -> pd.DataFrame:
    """Draw random pixels of items, as many as `preprocess` draws of the whole area.

    Returns
    -------
    DataFrame, shape (pixel, feature), float32
        Up to 20 000; the same items give the same.

    Raises
    ------
    DataError
        The items give other features than the model knows, or less than 100 pixels have all.
    """
    source = FeatureSource(read_items(items_uri, storage), model.project, storage, model.periods)
    check_features(source.names, model)
    drawn = Draw(POPULATION)
    for window, features in source.iterate("monitor"):
        random = np.random.default_rng((model.project.seed, window.row_off, window.col_off))
        drawn.add(*random_pixels(features, POPULATION, random))
    pixels = drawn.result()
    if len(pixels) < MIN_PIXELS:
        dates = sorted(item_time(item) for item in source.items)
        raise DataError(
            f"Only {len(pixels)} pixels of {items_uri} have all {len(model.features)} features, "
            f"and {MIN_PIXELS} are needed; take more or clearer items: these are of "
            f"{dates[0]:%Y-%m-%d} to {dates[-1]:%Y-%m-%d}, and the model's composites of "
            f"{model.periods[0]} to {model.periods[-1]}."
        )
    return pixels[model.features]


def print_result(result: MonitorResult) -> int:
    """Print the figures with the features that changed most, and return the exit code."""
    say(f"{result.pixels} pixels of {result.items}, against the training of {result.model}\n")
    drift = result.drift
    worst = drift.ranked[:_SHOWN]
    table(
        ("feature", "PSI", "outside range"),
        [(n, f"{drift.psi[n]:.3f}", f"{drift.outside_per_feature[n]:.1%}") for n in worst],
    )
    if (rest := len(drift.psi) - len(worst)) > 0:
        say(f"... and {rest} features more, which changed less")
    say()
    table(
        ("class", "training", "new"),
        [(name, *(f"{s:.1%}" for s in shares)) for name, shares in result.class_shares.items()],
    )
    say(f"\nGreatest PSI {drift.psi[worst[0]]:.3f} (threshold {result.max_psi:g}); any feature "
        f"outside the training's range at {drift.outside_range:.1%} of pixels (threshold "
        f"{result.max_outside_range:.1%})")  # fmt: skip
    say("Drifted: look at the map of these items before trusting it, or train with newer labels."
        if result.drifted else "Stable.")  # fmt: skip
    say(result.url)
    return result.exit_code


def _thresholds(
    model: LoadedModel, max_psi: float | None, max_outside_range: float | None
) -> tuple[float, float]:
    ours = model.project.monitor
    psi = ours.max_psi if max_psi is None else max_psi
    outside = ours.max_outside_range if max_outside_range is None else max_outside_range
    if not psi > 0:
        raise ConfigError(f"Threshold max_psi is {psi:g}; give a number above 0, as 0.25.")
    if not 0 <= outside <= 1:
        raise ConfigError(
            f"Threshold max_outside_range is {outside:g}; give a share of pixels from 0 to 1."
        )
    return psi, outside


def _read_population(model: LoadedModel, storage: Storage) -> pd.DataFrame:
    """Read the pixels that `preprocess` drew of the training's area."""
    uri = _population_uri(model, storage)
    if not uri or not storage.exists(uri):
        raise DataError(
            f"The training pixels of model {model.uri} are gone: "
            f"{f'{uri} does not exist' if uri else f'its run {model.run_id!r} names none'}; train "
            "again, and monitor that model."
        )
    pixels = pd.read_parquet(io.BytesIO(storage.read(uri)))
    if missing := [name for name in model.features if name not in pixels]:
        raise DataError(
            f"{uri} lacks {len(missing)} of the {len(model.features)} features of model "
            f"{model.uri} ({', '.join(missing[:_SHOWN])}); train again, and monitor that model."
        )
    return pixels[model.features]


def _population_uri(model: LoadedModel, storage: Storage) -> str:
    try:
        run = tracking.find_run(storage.settings, model.run_id)
    except ConfigError:
        return ""
    return str(run.data.tags.get("population", ""))


def _shares(model: LoadedModel, pixels: pd.DataFrame) -> list[float]:
    """Share of each class, as a map would have it."""
    column = xr.DataArray(pixels.to_numpy().T[:, :, None], dims=("feature", "y", "x"))
    counts = np.bincount(classify(model, column)[0].ravel(), minlength=len(model.classes) + 1)
    return [float(count / len(pixels)) for count in counts[1:]]


def _log(result: MonitorResult, note: str) -> None:
    drift = result.drift
    mlflow.set_tag("drifted", str(result.drifted).lower())
    mlflow.log_params({
        key: getattr(result, key) for key in ("max_psi", "max_outside_range", "pixels")
    })  # fmt: skip
    metrics = {"max_psi": max(drift.psi.values()), "outside_range": drift.outside_range}
    metrics |= {f"psi_{tracking.metric_name(name)}": value for name, value in drift.psi.items()}
    for name, (training, new) in result.class_shares.items():
        safe = tracking.metric_name(name)
        metrics |= {f"share_training_{safe}": training, f"share_{safe}": new}
    mlflow.log_metrics(metrics)
    mlflow.log_dict(result.to_dict(), "drift.json")
    figure = drift_figure(drift, result.max_psi, result.class_shares, note)
    mlflow.log_figure(figure, "drift.png")
