"""Whether new items still look like what a model was trained on."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import mlflow
import pandas as pd
import xarray as xr
from mlflow.entities import Run

from terraflow.eo.config.digests import value_digest
from terraflow.eo.features.pixel import series_names
from terraflow.eo.features.windows import FeatureSource
from terraflow.eo.images.collection import of_month, read_items
from terraflow.eo.images.places import latest_collection, project_root
from terraflow.eo.images.sources.solar_days import item_time
from terraflow.eo.models.apply import apply_model, check_features
from terraflow.eo.models.champion import find_champion
from terraflow.eo.models.model import LoadedModel, load_model
from terraflow.eo.monitoring.drift import drift_figure, measure, resembling
from terraflow.eo.monitoring.monitored import Monitored, show
from terraflow.eo.monitoring.population import read_population, read_training_dates
from terraflow.eo.monitoring.served import read_served, served_uri
from terraflow.eo.project import Inputs, OpenProject
from terraflow.eo.samples.draw import ANYWHERE, POPULATION, Draw, pixel_numbers, random_pixels
from terraflow.eo.targets.figures import plain
from terraflow.errors import ConfigError, DataError
from terraflow.storage import Storage
from terraflow.tracking import runs

__all__ = ["Drawn", "draw_pixels", "monitor", "show", "step"]

#: With fewer, chance alone brings the index near its threshold: it is about 9 / pixels.
MIN_PIXELS = 100
_RESULT = "drift.json"


def monitor(
    model: LoadedModel,
    items_uri: str,
    storage: Storage,
    *,
    max_psi: float | None = None,
    max_outside_range: float | None = None,
    month: str = "",
    key: str = "",
    served: bool = False,
) -> Monitored:
    """Compare the features of new items with those that the model was trained on.

    Up to 20 000 random pixels of the items stand against as many of the area of the training.
    With `served` rows stand in their place that the model server was asked.
    Features of periods that no item lies in are left out: what would stand for them comes from
    other periods. So are statistics over all dates, unless there are as many as in the training.
    A period is also held against the others of the training: images that are out of season look
    like those of another. Measures and a figure go into a run of the
    experiment NAME-monitoring.

    Parameters
    ----------
    items_uri : str
        A STAC collection, catalogue or item collection, as `ingest` writes it; or the folder of
        logged requests.
    max_psi, max_outside_range : float, optional
        Thresholds over those of [monitor] in the model's project.
    month : str
        Whose scenes the items are, for the reader.
    key : str
        Of one order to measure: a measurement of the same items by the same model and thresholds
        is then not repeated.
    served : bool
        Read logged requests.

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
    name = f"{model.config.name}-monitoring"
    tags = {
        "model": model.uri,
        "model_version": model.version,
        "model_run": model.run_id,
        "items": items_uri,
    }
    if key:
        told = {"terraflow.measured": value_digest([model.uri, model.run_id, items_uri, limits])}
        if found := runs.find_finished(storage.settings, name, told):
            return _read(found, key)
        tags |= told | {"terraflow.key": key}
    training = read_population(model, storage)
    left_out: list[str] = []
    periods: list[str] = []
    if served:
        new = read_served(model, storage, POPULATION)
        if len(new) < MIN_PIXELS:
            raise DataError(
                f"Only {len(new)} rows of requests to {model.uri} are logged, and {MIN_PIXELS} are "
                "needed; raise [serving] log_share, or wait for more."
            )
    else:
        dates = read_training_dates(model, storage)
        new, left_out, periods = draw_pixels(model, items_uri, storage, dates)
    compared = [feature for feature in new if feature not in left_out]
    drift = measure(training[compared], new[compared])
    series = series_names(list(model.recipe.bands), model.recipe.features)
    alike = resembling(training, new, series, observed=periods, periods=model.info.periods)
    before: dict[str, float] = {}
    now: dict[str, float] = {}
    if len(new.columns) == len(training.columns):  # else there would be no map
        before, now = _predicted(model, training), _predicted(model, new)
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
            month=month,
            left_out=left_out,
            periods=periods,
            resembles=alike,
        )
        _log(result, model.info.note)
    return result


def _read(run: Run, key: str) -> Monitored:
    """Read what an earlier run measured; for another order it is no news."""
    with tempfile.TemporaryDirectory() as folder:
        path = mlflow.artifacts.download_artifacts(
            run_id=run.info.run_id, artifact_path=_RESULT, dst_path=folder
        )
        found = Monitored.model_validate_json(Path(path).read_bytes())
    return found.model_copy(update={"known": run.data.tags.get("terraflow.key") != key})


class Drawn(NamedTuple):
    """Pixels of new items, and what of them can be compared.

    Attributes
    ----------
    pixels : DataFrame, shape (pixel, feature), float32
        Of the model's features those that the items give: without those of periods that are too
        far from all images to be filled.
    left_out : list of str
        Features that are not compared.
    periods : list of str
        Periods that an item lies in.
    """

    pixels: pd.DataFrame
    left_out: list[str]
    periods: list[str]


def draw_pixels(
    model: LoadedModel,
    items_uri: str,
    storage: Storage,
    training_dates: Mapping[str, int] | None = None,
) -> Drawn:
    """Draw random pixels of items, as many as `preprocess` draws of the whole area.

    Only features of periods that an item lies in can be compared: the others are filled from
    these. Statistics over all dates, and what the project computes of these, can be compared where
    each period has as many dates as in the training: the largest of fewer values is smaller.

    Parameters
    ----------
    training_dates : mapping, optional
        Period to number of dates of the training; without it they are taken to be as many.

    Returns
    -------
    Drawn
        Up to 20 000 pixels; the same items give the same.

    Raises
    ------
    DataError
        The items give other features than the model knows, or less than 100 pixels have all.
    """
    items, periods = read_items(items_uri, storage), model.info.periods
    source = FeatureSource(items, model.recipe, storage, periods)
    check_features(source.names, model)
    observed = [period for period in periods if period not in source.missing_periods]
    as_often = not training_dates or dict(training_dates) == source.dates
    compared = source.names if observed == periods and as_often else source.features_of(observed)
    if source.far_periods:
        source = FeatureSource(items, model.recipe, storage, observed)
    drawn = Draw(POPULATION)
    for window, features in source.iterate("monitor"):
        numbers = pixel_numbers(window, model.config.seed, ANYWHERE)
        drawn.add(*random_pixels(features, POPULATION, numbers))
    pixels = drawn.result()
    if len(pixels) < MIN_PIXELS:
        dates = sorted(item_time(item) for item in source.items)
        raise DataError(
            f"Only {len(pixels)} pixels of {items_uri} have all {len(source.names)} "
            f"features, and {MIN_PIXELS} are needed; take more or clearer items: these are of "
            f"{dates[0]:%Y-%m-%d} to {dates[-1]:%Y-%m-%d}, and the model's composites of "
            f"{periods[0]} to {periods[-1]}."
        )
    left_out = [name for name in model.info.features if name not in compared]
    given = [name for name in model.info.features if name in pixels]
    return Drawn(pixels[given], left_out, observed)


def step(project: OpenProject, inputs: Inputs) -> Monitored:
    """Measure the drift of `items` against `model`, the champion by default.

    Without items those are taken that `ingest` wrote last; with `month` the scenes of that month.
    """
    storage, name = project.storage, project.config.name
    uri = inputs.get("model") or find_champion(name, storage.settings)
    model = load_model(uri, storage.settings, project.hooks, trust=bool(inputs.get("trust")))
    served = bool(inputs.get("served"))
    month, key = "", inputs.get("key") or ""
    if served:
        if inputs.get("items"):
            raise ConfigError("Both images and requests are named; leave out items, or served.")
        items, key = served_uri(model, storage), ""  # whose content changes
    else:
        items = inputs.get("items") or latest_collection(name, storage)
    if inputs.get("month") and not served:
        items, month = of_month(items, inputs["month"], project_root(name, storage), storage)
    return monitor(
        model,
        items,
        storage,
        max_psi=inputs.get("max_psi"),
        max_outside_range=inputs.get("max_outside"),
        month=month,
        key=key,
        served=served,
    )


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


def _predicted(model: LoadedModel, pixels: pd.DataFrame) -> dict[str, float]:
    """Describe what a map of these pixels would hold."""
    column = xr.DataArray(pixels.to_numpy().T[:, :, None], dims=("feature", "y", "x"))
    return model.target.summarise(apply_model(model, column)[0].ravel(), model.info.levels)


@plain()
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
    mlflow.log_dict(result.to_dict(), _RESULT)
    figure = drift_figure(drift, result.max_psi, result.predicted, note)
    mlflow.log_figure(figure, "drift.png")
