"""Places worth labelling next: where a model is in doubt, and unlike each other."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd
from rasterio.windows import Window
from sklearn.cluster import KMeans
from sklearn.preprocessing import StandardScaler

from terraflow.config import user_path
from terraflow.console import command, say
from terraflow.eo.config.record import Record
from terraflow.eo.features.windows import FeatureSource
from terraflow.eo.images.collection import Images, read_items
from terraflow.eo.models.apply import check_features
from terraflow.eo.models.model import LoadedModel, load_model
from terraflow.eo.project import Inputs, OpenProject
from terraflow.eo.samples.draw import Draw, pixel_numbers, random_pixels, to_geo
from terraflow.errors import ConfigError, NothingToDoError
from terraflow.storage import Storage

__all__ = ["Places", "check", "choose_places", "find_places", "show", "step"]

#: Purpose of the draw, for `pixel_numbers`.
NEXT = 2
#: Random pixels of the area that places are chosen from, and the share of most doubt among them.
PIXELS, DOUBTFUL = 50_000, 0.2
PLACES = 50


class Places(Record):
    """What `label_next` returns.

    Attributes
    ----------
    places : str
        Path of the GeoPackage.
    count : int
    model : str
        Which is in doubt.
    """

    places: str
    count: int
    model: str


def choose_places(
    features: npt.NDArray[np.float32], doubt: npt.NDArray[np.float64], n: int, *, seed: int
) -> npt.NDArray[np.int64]:
    """Choose pixels of much doubt that are unlike each other.

    The fifth of most doubt is put into as many clusters as places are wanted, weighted by doubt;
    the pixel nearest to a cluster's centre is taken.

    Parameters
    ----------
    features : ndarray, shape (pixel, feature), float32
        Without NaN.
    doubt : ndarray, shape (pixel,), float64
        0 is none.
    n : int

    Returns
    -------
    ndarray, shape (place,), int64
        Numbers of pixels in rising order; fewer than `n` where clusters share their pixel.

    References
    ----------
    Zhdanov 2019, arXiv:1901.05954.
    """
    many = max(int(len(doubt) * DOUBTFUL), min(n, len(doubt)))
    doubtful = np.argsort(-doubt, kind="stable")[:many]
    scaled = StandardScaler().fit_transform(features)[doubtful]
    weights = np.maximum(doubt[doubtful], np.finfo("float32").tiny)
    count = min(n, len(np.unique(scaled, axis=0)))
    clusters = KMeans(count, n_init=1, max_iter=30, random_state=seed)
    distance = clusters.fit(scaled, sample_weight=weights).transform(scaled)
    chosen: npt.NDArray[np.int64] = np.unique(doubtful[distance.argmin(axis=0)])
    return chosen


def find_places(
    project: OpenProject, model: LoadedModel, images: Images, n: int
) -> tuple[pd.DataFrame, FeatureSource]:
    """Choose places of the items that no label covers yet.

    Returns
    -------
    places : DataFrame
        Columns x, y (pixel centres in the CRS of the grid), predicted, and doubt, 0 to 1.
    source : FeatureSource
        Which has the grid.

    Raises
    ------
    DataError
        The items give other features than the model knows, or labels can't be read.
    NothingToDoError
        No pixel without a label has all features.
    """
    storage, target, levels = project.storage, model.target, model.info.levels
    items = read_items(images.items, storage)
    source = FeatureSource(items, model.recipe, storage, model.info.periods)
    check_features(source.names, model)
    labels = target.read_labels(images.labels, project.config.labels, source.geobox, storage)

    def look(window: Window) -> tuple[pd.DataFrame, npt.NDArray[np.float64]]:
        features = source.compute(window)
        (top, bottom), (left, right) = window.toranges()
        values, _ = labels.burn(source.geobox[top:bottom, left:right])
        free = np.ma.getmaskarray(values)
        numbers = pixel_numbers(window, model.config.seed, NEXT)
        return random_pixels(features.where(free), PIXELS, numbers)

    drawn = Draw(PIXELS)
    for _, found in source.over_windows(look, "label-next"):
        drawn.add(*found)
    pixels = drawn.result()
    if pixels.empty:
        raise NothingToDoError(
            f"No pixel of {images.items} that has no label yet has all features; take other items."
        )
    table = pixels[model.info.features]
    predictions = target.predict(model.estimator, table, levels)
    doubt = target.doubt(predictions)
    if model.applicability:  # elsewhere no prediction means anything, and no doubt
        unlike = model.applicability.dissimilarity(table.to_numpy("float32").T)
        doubt = np.where(unlike <= model.applicability.threshold, doubt, 0.0)
    chosen = choose_places(table.to_numpy("float32"), doubt, n, seed=model.config.seed)
    places = pixels.iloc[chosen][["x", "y"]].reset_index(drop=True)
    places["predicted"] = target.decide(predictions[chosen], levels)
    places["doubt"] = doubt[chosen].round(3)
    return places, source


def write_places(
    places: pd.DataFrame, source: FeatureSource, path: str, field: str, storage: Storage
) -> None:
    """Write places as points of a GeoPackage, with an empty field for the label."""
    table = to_geo(places, source.geobox).drop(columns=["x", "y"])
    table.insert(0, field, pd.Series([None] * len(table), dtype="str"))
    table.insert(0, "place", np.arange(1, len(table) + 1))
    with storage.scratch() as folder:
        file = folder / "places.gpkg"
        table.to_file(file, driver="GPKG", layer="places")
        storage.write(path, file)


def check(project: OpenProject, inputs: Inputs) -> None:
    """See before long work how many places are wanted, and where."""
    if (n := inputs.get("n")) is not None and n < 1:
        raise ConfigError(f"-n {n} is no number of places; give 1 or more.")
    path = _path(inputs)
    if not path.endswith(".gpkg"):
        raise ConfigError(f"Output {path} is no GeoPackage; give a name that ends in .gpkg.")
    project.storage.check_writable(path)


def step(project: OpenProject, inputs: Inputs) -> Places:
    """Choose places in the items of `ingest` for `model`, the champion by default."""
    storage, images = project.storage, Images.model_validate(inputs)
    model = load_model(
        inputs.get("model") or project.champion,
        storage.settings,
        project.hooks,
        trust=bool(inputs.get("trust")),
    )
    found, source = find_places(project, model, images, inputs.get("n") or PLACES)
    path, field = _path(inputs), project.config.labels.field
    write_places(found, source, path, field, storage)
    return Places(places=path, count=len(found), model=model.uri)


def show(project: OpenProject, outputs: Inputs) -> int:
    """Tell where the places are, and what to do with them."""
    field = project.config.labels.field
    say(f"{outputs['count']} places where {outputs['model']} is in doubt: {outputs['places']}")
    say(f"Fill their field {field} in QGIS, and add them to your labels.")
    say(f"Then train again: {command('train')}")
    return 0


def _path(inputs: Inputs) -> str:
    return inputs.get("output") or str(user_path("label_next.gpkg"))
