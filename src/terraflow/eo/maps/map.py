"""From a model and items to a map of the whole area, window by window."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pystac
from rasterio.windows import Window
from threadpoolctl import threadpool_limits

from terraflow.console import command, say
from terraflow.disks.space import check_room
from terraflow.eo.config.record import Record
from terraflow.eo.features.limits.size import duration_text
from terraflow.eo.features.windows import FeatureSource
from terraflow.eo.images.collection import read_items
from terraflow.eo.maps.map_file import category_names, create_map, qgis_style, write_cog
from terraflow.eo.maps.map_item import map_item, quality_uri
from terraflow.eo.maps.map_origin import MapOrigin, make_origin
from terraflow.eo.models.apply import apply_with_quality, check_features
from terraflow.eo.models.model import LoadedModel, load_model
from terraflow.eo.models.quality import DTYPE, Quality, quality_bands
from terraflow.eo.project import Inputs, OpenProject
from terraflow.eo.targets.area.pixel_areas import pixel_side_m
from terraflow.errors import ConfigError, DataError, NothingToDoError
from terraflow.storage import Storage, join

__all__ = [
    "Mapped",
    "check",
    "check_output",
    "find_map",
    "make_map",
    "map_uri",
    "show",
    "step",
]


#: Pixels that differ by less in their sides are of one size: those of a projection vary so much.
SAME_SIZE = 0.1


class Mapped(Record):
    """What `make_map` returns.

    Attributes
    ----------
    map : str
        URI of a COG, whose bands the target describes.
    item : str
        URI of its STAC item.
    """

    map: str
    item: str


def make_map(model: LoadedModel, items_uri: str, storage: Storage, *, output: str = "") -> Mapped:
    """Map every pixel of the items whose features are all there.

    Windows are computed and predicted some at a time, so that memory does not grow with the area.
    The same model and items give the same file, byte for byte.

    Parameters
    ----------
    items_uri : str
        A STAC collection, catalogue or item collection, as `ingest` writes it.
    output : str
        Path or URI of the COG, ending in .tif; by default maps/ID/map.tif in the project's part of
        the store. The item lies beside it with the ending .json, and names of values for GDAL and
        QGIS with .tif.aux.xml and .qml. So does, unless [map] quality is false, a COG of its
        quality with .quality.tif, whose bands `quality_bands` describes.

    Raises
    ------
    ConfigError
        `output` does not end in .tif.
    DataError
        The items give other features than the model was trained with, or an image can't be read.
    NothingToDoError
        No pixel has all features.
    StorageError
        The store can't be read or written, or the disk has no room for the map.
    """
    if output:
        _check_name(output)
    items = read_items(items_uri, storage)
    source = FeatureSource(items, model.recipe, storage, model.info.periods)
    check_features(source.names, model)
    if missing := source.missing_periods:
        covered = len(model.info.periods) - len(missing)
        if far := source.far_periods:
            raise NothingToDoError(
                f"The items lie in {covered} of the model's {len(model.info.periods)} periods, and "
                f"{', '.join(far)} are more than {model.recipe.features.max_gap_days:g} days away, "
                "the max_gap_days of its [features]; take items of more periods."
            )
        say(
            f"The items lie in {covered} of the model's {len(model.info.periods)} periods; the "
            f"others ({', '.join(missing)}) are filled from them."
        )
    told = _other_resolution(model, source)
    if told:
        say(told)
    origin = make_origin(model, items_uri, items)
    uri = output or _default_uri(origin, storage)
    bands = model.target.bands(model.info.levels, model.config.map)
    _check_room(source, model, storage)
    item = map_item(
        uri, model, items, geobox=source.geobox, origin=origin, settings=storage.settings
    )
    if told:
        item.properties["terraflow:remark"] = told
    with storage.scratch() as folder:
        path = folder / "map.tif"
        quality = folder / "quality.tif" if model.config.map.quality else None
        _write(path, source, model, origin, quality)
        if bands[0].names:
            storage.write(f"{uri}.aux.xml", category_names(bands[0]))
            storage.write(f"{uri.removesuffix('.tif')}.qml", qgis_style(bands[0]))
        if quality:
            storage.write(quality_uri(uri), quality)
        storage.write(uri, path)
    document = json.dumps(item.to_dict(), indent=2).encode()
    return Mapped(map=uri, item=storage.write(item.self_href, document))


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
    """Find the map that `make_map` made of these items where no other place was asked for.

    Raises
    ------
    DataError
        It is not there.
    StorageError
        The store can't be read.
    """
    origin = make_origin(model, items_uri, read_items(items_uri, storage))
    uri = _default_uri(origin, storage)
    if not storage.exists(uri):
        raise DataError(
            f"There is no map of {items_uri} by {origin.model} at {uri}; make it by "
            f"`{command('map')}`, or name another by --map."
        )
    return uri


def map_uri(
    model: LoadedModel, items_uri: str, items: Sequence[pystac.Item], storage: Storage
) -> str:
    """Give the URI at which `make_map` writes the map of these items by default."""
    return _default_uri(make_origin(model, items_uri, items), storage)


def _default_uri(origin: MapOrigin, storage: Storage) -> str:
    return join(storage.settings.data_uri, origin.model_name, "maps", origin.id, "map.tif")


def _check_room(source: FeatureSource, model: LoadedModel, storage: Storage) -> None:
    """See before long work that the disk holds the map as `_write` makes it, not compressed."""
    pixels, section = math.prod(source.geobox.shape), model.config.map
    layers = len(model.target.bands(model.info.levels, section))
    size = pixels * layers * np.dtype(model.target.dtype).itemsize
    if section.quality:
        size += pixels * len(quality_bands(model)) * np.dtype(DTYPE).itemsize
    height, width = source.geobox.shape
    check_room(
        storage.scratch_dir,
        size,
        f"A map of {height} x {width} pixels, at least {duration_text(pixels)} of work,",
        "map items of a smaller area, or train with a coarser [grid] resolution",
    )


def _other_resolution(model: LoadedModel, source: FeatureSource) -> str:
    """Tell in a sentence where the pixels are of another size than those of the training."""
    trained, grid = model.info.pixel_m, source.geobox
    here = pixel_side_m(str(grid.crs), grid.affine, (grid.height, grid.width))
    if trained is None or here is None or abs(here / trained - 1) <= SAME_SIZE:
        return ""
    return (
        f"Pixels of these items are {here:.4g} m wide, and the model learnt pixels of "
        f"{trained:.4g} m: what it was never tested on; take items of that resolution, or train "
        "with these."
    )


def _write(
    path: Path,
    source: FeatureSource,
    model: LoadedModel,
    origin: MapOrigin,
    quality_path: Path | None,
) -> None:
    """Predict all windows into a COG, and their quality into another, by way of plain GeoTIFFs."""

    def work(window: Window) -> tuple[npt.NDArray[Any], Quality | None, int]:
        with source.storage.gdal():
            cube = source.cube(window)
            features = source.features(cube, window)
        clear = source.clear_observations(cube, window) if quality_path else None
        return *apply_with_quality(model, features, clear), source.count_gaps(features)

    bands = model.target.bands(model.info.levels, model.config.map)
    plain, found, gaps = path.with_name("windows.tif"), 0, 0
    plain_quality = path.with_name("windows_quality.tif")
    with ExitStack() as opened:
        file = opened.enter_context(
            create_map(plain, source.geobox, bands, model.target.dtype, origin)
        )
        beside = None
        if quality_path:
            beside = opened.enter_context(
                create_map(plain_quality, source.geobox, quality_bands(model), DTYPE, origin)
            )
        # more would round differently
        opened.enter_context(threadpool_limits(limits=1, user_api="blas"))
        for window, (values, quality, gap) in source.over_windows(work, "map"):
            file.write(values, window=window)
            if beside:
                beside.write(quality, window=window)
            gaps += gap
            found += int(np.count_nonzero(bands[0].is_valid(values[0])))
    if not found:
        raise NothingToDoError(
            f"None of the {source.geobox.height} x {source.geobox.width} pixels of "
            f"{origin.items} has all {len(source.names)} features: all are masked or nodata; "
            "check [cloud_mask], or take items of other dates."
        )
    if gaps:
        say(f"{gaps} pixels are nodata: they {model.recipe.features.gap_text}.")
    write_cog(plain, path, model.target.overview_resampling)
    if quality_path:
        write_cog(plain_quality, quality_path, "nearest", level=1)


def check(project: OpenProject, inputs: Inputs) -> None:
    """See before long work that the map can be written."""
    if output := inputs.get("output"):
        check_output(output, project.storage)


def step(project: OpenProject, inputs: Inputs) -> Mapped:
    """Map the items of `ingest` with `model`, the champion by default."""
    storage = project.storage
    model = load_model(
        inputs.get("model") or project.champion,
        storage.settings,
        project.hooks,
        trust=bool(inputs.get("trust")),
    )
    made = make_map(model, inputs["items"], storage, output=inputs.get("output") or "")
    if note := model.info.note:
        say(note)
    return made


def show(project: OpenProject, outputs: Inputs) -> int:
    """Tell where the map is."""
    del project
    say(f"Map: {outputs['map']}\nSTAC item: {outputs['item']}")
    say(f"Its report: {command('report', '--map', outputs['map'])}")
    return 0
