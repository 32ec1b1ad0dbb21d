"""Whether new items still look like what a model was trained on."""

from __future__ import annotations

import io
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import xarray as xr

from terraflow.console import say, table
from terraflow.eo.config.record import Record
from terraflow.eo.features.windows import FeatureSource
from terraflow.eo.images.collection import read_items
from terraflow.eo.images.selection import item_time
from terraflow.eo.models.apply import apply_model, check_features
from terraflow.eo.models.model import LoadedModel, load_model
from terraflow.eo.monitoring.drift import Drift, drift_figure, measure
from terraflow.eo.project import Inputs, OpenProject
from terraflow.eo.samples.draw import POPULATION, Draw, random_pixels
from terraflow.errors import ConfigError, DataError
from terraflow.storage import Storage
from terraflow.tracking import runs

__all__ = ["DRIFTED", "STABLE", "Monitored", "draw_pixels", "monitor", "show", "step"]

#: Exit codes; 1 and 2 are errors.
STABLE, DRIFTED = 0, 3
#: With fewer, chance alone brings the index near its threshold: it is about 9 / pixels.
MIN_PIXELS = 100
_SHOWN = 5


class Monitored(Record):
    """What a user is told; small enough to pass through Airflow.

    Attributes
    ----------
    run_id, url : str
        The MLflow run that holds all figures.
    pixels : int
        Number of pixels of the new items.
    psi, outside_per_feature, outside_range
        As in `Drift`.
    predicted : dict
        What the model maps, as `Target.summarise` tells, of training and of new pixels.
    max_psi, max_outside_range : float
        Thresholds.
    """

    run_id: str
    url: str
    model: str
    items: str
    pixels: int
    psi: dict[str, float]
    outside_per_feature: dict[str, float]
    outside_range: float
    predicted: dict[str, tuple[float, float]]
    max_psi: float
    max_outside_range: float

    @property
    def drift(self) -> Drift:
        """The measures."""
        return Drift(self.psi, self.outside_per_feature, self.outside_range)

    @property
    def drifted(self) -> bool:
        """Whether a threshold is exceeded."""
        return max(self.psi.values()) > self.max_psi or self.outside_range > self.max_outside_range

    @property
    def exit_code(self) -> int:
        """0 if stable, 3 if drifted."""
        return DRIFTED if self.drifted else STABLE

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values, and whether it drifted."""
        return super().to_dict() | {"drifted": self.drifted}


def monitor(
    model: LoadedModel,
    items_uri: str,
    storage: Storage,
    *,
    max_psi: float | None = None,
    max_outside_range: float | None = None,
) -> Monitored:
    """Compare the features of new items with those that the model was trained on.

    Up to 20 000 random pixels of the items stand against as many of the area of the training.
    Measures and a figure go into a run of the experiment NAME-monitoring.

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
    before, now = _predicted(model, training), _predicted(model, new)
    name = f"{model.config.name}-monitoring"
    tags = {
        "model": model.uri,
        "model_version": model.version,
        "model_run": model.run_id,
        "items": items_uri,
    }
    with runs.start_run(storage.settings, name, name=name, tags=tags) as run:
        result = Monitored(
            run_id=run.info.run_id,
            url=runs.run_url(storage.settings, run),
            model=model.uri,
            items=items_uri,
            pixels=len(new),
            psi=drift.psi,
            outside_per_feature=drift.outside_per_feature,
            outside_range=drift.outside_range,
            predicted={key: (before[key], now[key]) for key in before},
            max_psi=limits[0],
            max_outside_range=limits[1],
        )
        _log(result, model.info.note)
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
    source = FeatureSource(
        read_items(items_uri, storage), model.recipe, storage, model.info.periods
    )
    check_features(source.names, model)
    drawn = Draw(POPULATION)
    for window, features in source.iterate("monitor"):
        random = np.random.default_rng((model.config.seed, window.row_off, window.col_off))
        drawn.add(*random_pixels(features, POPULATION, random))
    pixels = drawn.result()
    if len(pixels) < MIN_PIXELS:
        dates = sorted(item_time(item) for item in source.items)
        raise DataError(
            f"Only {len(pixels)} pixels of {items_uri} have all {len(model.info.features)} "
            f"features, and {MIN_PIXELS} are needed; take more or clearer items: these are of "
            f"{dates[0]:%Y-%m-%d} to {dates[-1]:%Y-%m-%d}, and the model's composites of "
            f"{model.info.periods[0]} to {model.info.periods[-1]}."
        )
    return pixels[model.info.features]


def step(project: OpenProject, inputs: Inputs) -> Monitored:
    """Measure the drift of the items of `ingest` against `model`, the champion by default."""
    storage = project.storage
    model = load_model(inputs.get("model") or project.champion, storage.settings, project.hooks)
    return monitor(
        model,
        inputs["items"],
        storage,
        max_psi=inputs.get("max_psi"),
        max_outside_range=inputs.get("max_outside"),
    )


def show(project: OpenProject, outputs: Inputs) -> int:
    """Print the measures with the features that changed most; return 3 if there is drift."""
    result, target = Monitored.model_validate(outputs), project.hooks.target
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
        ("predicted", "training", "new"),
        [
            (name, *(format(v, target.summary_format) for v in values))
            for name, values in result.predicted.items()
        ],
    )
    say(
        f"\nGreatest PSI {drift.psi[worst[0]]:.3f} (threshold {result.max_psi:g}); any feature "
        f"outside the training's range at {drift.outside_range:.1%} of pixels (threshold "
        f"{result.max_outside_range:.1%})"
    )
    say(
        "Drifted: look at the map of these items before trusting it, or train with newer labels."
        if result.drifted
        else "Stable."
    )
    say(result.url)
    return result.exit_code


def _thresholds(
    model: LoadedModel, max_psi: float | None, max_outside_range: float | None
) -> tuple[float, float]:
    ours = model.config.monitor
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
    if missing := [name for name in model.info.features if name not in pixels]:
        raise DataError(
            f"{uri} lacks {len(missing)} of the {len(model.info.features)} features of model "
            f"{model.uri} ({', '.join(missing[:_SHOWN])}); train again, and monitor that model."
        )
    return pixels[model.info.features]


def _population_uri(model: LoadedModel, storage: Storage) -> str:
    try:
        run = runs.find_run(storage.settings, model.run_id)
    except ConfigError:
        return ""
    return str(run.data.tags.get("population", ""))


def _predicted(model: LoadedModel, pixels: pd.DataFrame) -> dict[str, float]:
    """Describe what a map of these pixels would hold."""
    column = xr.DataArray(pixels.to_numpy().T[:, :, None], dims=("feature", "y", "x"))
    return model.target.summarise(apply_model(model, column)[0].ravel(), model.info.levels)


def _log(result: Monitored, note: str) -> None:
    drift = result.drift
    mlflow.set_tag("drifted", str(result.drifted).lower())
    mlflow.log_params(
        {key: getattr(result, key) for key in ("max_psi", "max_outside_range", "pixels")}
    )
    metrics = {"max_psi": max(drift.psi.values()), "outside_range": drift.outside_range}
    metrics |= {f"psi_{runs.metric_name(name)}": value for name, value in drift.psi.items()}
    for name, (training, new) in result.predicted.items():
        safe = runs.metric_name(name)
        metrics |= {f"predicted_training_{safe}": training, f"predicted_{safe}": new}
    mlflow.log_metrics(metrics)
    mlflow.log_dict(result.to_dict(), "drift.json")
    figure = drift_figure(drift, result.max_psi, result.predicted, note)
    mlflow.log_figure(figure, "drift.png")
