"""From a model and items to a map of the whole area, window by window."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr
from rasterio.windows import Window
from threadpoolctl import threadpool_limits

from terraflow.console import say
from terraflow.eo.features.windows import FeatureSource
from terraflow.eo.images.ingest import read_items
from terraflow.eo.maps.map_file import category_names, create_map, write_cog
from terraflow.eo.maps.map_item import map_id, map_item, map_metadata
from terraflow.eo.models.model import LoadedModel
from terraflow.eo.models.network import Network
from terraflow.eo.training.figures import class_colours
from terraflow.errors import ConfigError, DataError
from terraflow.storage import Storage, join

__all__ = ["check_features", "check_output", "classify", "find_map", "predict"]

#: Pixels that a classifier is asked for at once: bounds the memory of its tables. Fewer keep a
#: network's values in the processor's cache; a forest would have to fetch its trees more often.
CHUNK_PX, NETWORK_CHUNK_PX = 65536, 16384


def predict(
    model: LoadedModel, items_uri: str, storage: Storage, *, output: str = ""
) -> dict[str, str]:
    """Map every pixel of the items whose features are all there.

    Windows are computed and classified some at a time, so that memory does not grow with the area.
    The same model and items give the same file, byte for byte.

    Parameters
    ----------
    items_uri : str
        A STAC collection, catalogue or item collection, as `ingest` writes it.
    output : str
        Path or URI of the COG, ending in .tif; by default maps/ID/map.tif in the project's part of
        the store. The item lies beside it with the ending .json, and class names for GDAL and QGIS
        with .tif.aux.xml.

    Returns
    -------
    dict
        "map": URI of a COG with two bands, uint8: class (1 to n; 0 is nodata) and confidence
        (1 to 100 per cent: the probability of that class; 0 is nodata); "item": URI of its STAC
        item.

    Raises
    ------
    ConfigError
        `output` does not end in .tif.
    DataError
        The items give other features than the model was trained with, an image can't be read, or
        no pixel has all features.
    StorageError
        The store can't be read or written.
    """
    if output:
        _check_name(output)
    items = read_items(items_uri, storage)
    source = FeatureSource(items, model.project, storage, model.periods)
    check_features(source.names, model)
    if missing := source.missing_periods:
        covered = len(model.periods) - len(missing)
        say(
            f"The items lie in {covered} of the model's {len(model.periods)} periods; the others "
            f"({', '.join(missing)}) are filled from them."
        )
    metadata = map_metadata(model, items_uri, items)
    uri = output or _default_uri(model, metadata, storage)
    item = map_item(
        uri, model, items, geobox=source.geobox, metadata=metadata, settings=storage.settings
    )
    with storage.scratch() as folder:
        path = folder / "map.tif"
        _write(path, source, model, metadata)
        storage.write(f"{uri}.aux.xml", category_names(model.classes))
        storage.write(uri, path)
    document = json.dumps(item.to_dict(), indent=2).encode()
    return {"map": uri, "item": storage.write(item.self_href, document)}


def check_output(output: str, storage: Storage) -> None:
    """See that a map could be written there, before it is made.

    Raises
    ------
    ConfigError
        It does not end in .tif.
    StorageError
        It can't be written.
    """
    _check_name(output)
    storage.check_writable(output)


def _check_name(output: str) -> None:
    if not output.endswith(".tif"):
        raise ConfigError(f"Output {output} is no name of a GeoTIFF; give one that ends in .tif.")


def find_map(model: LoadedModel, items_uri: str, storage: Storage) -> str:
    """Find the map that `predict` made of these items where no other place was asked for.

    Raises
    ------
    DataError
        It is not there.
    StorageError
        The store can't be read.
    """
    metadata = map_metadata(model, items_uri, read_items(items_uri, storage))
    uri = _default_uri(model, metadata, storage)
    if not storage.exists(uri):
        raise DataError(
            f"There is no map of {items_uri} by {metadata['model']} at {uri}; make it by "
            "`invoke map`, or name another by --map."
        )
    return uri


def classify(model: LoadedModel, features: xr.DataArray) -> npt.NDArray[np.uint8]:
    """Classify the pixels whose features are all there.

    Parameters
    ----------
    features : DataArray, shape (feature, y, x), float32, NaN nodata
        In the order of the model's features.

    Returns
    -------
    ndarray, shape (band, y, x), uint8
        Class, 1 to n, and confidence, 1 to 100 per cent; 0 is nodata in both.
    """
    flat = features.values.reshape(features.shape[0], -1)
    valid = np.flatnonzero(np.isfinite(flat).all(axis=0))
    result = np.zeros((2, flat.shape[1]), dtype="uint8")
    decide, chunk_px = _decider(model)
    for first in range(0, len(valid), chunk_px):
        pixels = valid[first : first + chunk_px]
        number, probability = decide(flat[:, pixels])
        result[0, pixels] = number + 1
        # 0 is nodata, so what would round to it is 1
        result[1, pixels] = np.rint(100 * probability).clip(1, 100)
    return result.reshape(2, *features.shape[1:])


def _decider(model: LoadedModel) -> tuple[Callable[[npt.NDArray[np.float32]], Any], int]:
    """Give what tells class number, from 0, and probability of (feature, pixel), and its chunk."""
    if network := Network.of(model.classifier):
        return network.decide, NETWORK_CHUNK_PX

    def decide(pixels: npt.NDArray[np.float32]) -> tuple[Any, Any]:
        table = pd.DataFrame(np.ascontiguousarray(pixels.T), columns=model.features)
        probabilities = model.classifier.predict_proba(table)
        return probabilities.argmax(axis=1), probabilities.max(axis=1)

    return decide, CHUNK_PX


def check_features(names: Sequence[str], model: LoadedModel) -> None:
    """Check that items give the features of a model, in its order.

    Raises
    ------
    DataError
        They do not; the message names what is missing and what is too much.
    """
    missing = [name for name in model.features if name not in names]
    extra = [name for name in names if name not in model.features]
    if not missing and not extra and list(names) == model.features:
        return
    differences = [
        f"{what} {', '.join(some[:5])}{' ...' if len(some) > 5 else ''} ({len(some)})"
        for what, some in (("missing are", missing), ("too many are", extra))
        if some
    ]
    raise DataError(
        f"The items do not give the {len(model.features)} features that model {model.uri} was "
        f"trained with: {'; '.join(differences) or 'their order differs'}; take a model trained "
        "with these bands and [features], or train one."
    )


def _default_uri(model: LoadedModel, metadata: dict[str, str], storage: Storage) -> str:
    root = join(storage.settings.data_uri, model.project.name, "maps")
    return join(root, map_id(metadata), "map.tif")


def _write(path: Path, source: FeatureSource, model: LoadedModel, metadata: dict[str, str]) -> None:
    """Classify all windows into a COG, by way of a plain GeoTIFF beside it."""

    def work(window: Window) -> npt.NDArray[np.uint8]:
        return classify(model, source.compute(window))

    plain, found = path.with_name("windows.tif"), 0
    colours = class_colours(model.classes, model.project)
    with (
        create_map(plain, source.geobox, model.classes, colours, metadata) as file,
        threadpool_limits(limits=1, user_api="blas"),  # more would round differently
    ):
        for window, bands in source.over_windows(work, "map"):
            file.write(bands, window=window)
            found += int(np.count_nonzero(bands[0]))
    if not found:
        raise DataError(
            f"None of the {source.geobox.height} x {source.geobox.width} pixels of "
            f"{metadata['items']} has all {len(source.names)} features: all are masked or nodata; "
            "check [cloud_mask], or take items of other dates."
        )
    write_cog(plain, path)
