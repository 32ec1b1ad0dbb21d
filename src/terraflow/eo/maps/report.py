"""From a map to what is read of it, beside it in the store."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy.typing as npt
from rasterio.enums import Resampling

from terraflow.console import say
from terraflow.eo.config.record import Record
from terraflow.eo.config.sections import Map
from terraflow.eo.features.limits.size import check_memory
from terraflow.eo.maps.map import find_map
from terraflow.eo.maps.map_file import MapInfo, open_map, read_info
from terraflow.eo.maps.validated import find_validation
from terraflow.eo.models.model import load_model
from terraflow.eo.project import Inputs, OpenProject
from terraflow.eo.targets.parts import Accuracy, MapView
from terraflow.eo.targets.target import Target
from terraflow.eo.targets.vectors.files import read_areas
from terraflow.errors import ConfigError, DataError
from terraflow.storage import Storage
from terraflow.tracking import runs

__all__ = ["Reported", "report", "show", "step"]


#: Of a map's first band as float32, and of as much for what is computed of it at a time.
BYTES_A_PIXEL = 8


class Reported(Record):
    """What `report` returns.

    Attributes
    ----------
    files : dict
        Name that the user reads, as "quicklook", to URI.
    table : str
        Markdown.
    """

    files: dict[str, str]
    table: str


def report(
    map_uri: str,
    target: Target,
    section: Map,
    storage: Storage,
    *,
    accuracy: Accuracy | None = None,
) -> Reported:
    """Write the report of a map beside it; what it holds is for the target to say.

    Parameters
    ----------
    map_uri : str
        A map that `make_map` made.
    accuracy : Accuracy, optional
        By default the scores of the map's run, and what a probability sample of the map told.

    Raises
    ------
    DataError
        The file is no map, its CRS has no place on Earth, it is of another target, or memory does
        not hold it.
    ConfigError, ServiceError
        Its run is not there, or MLflow does not answer.
    StorageError
        The store can't be read or written.
    """
    info = read_info(map_uri, storage)
    if info.origin.target.rpartition(":")[2] not in (target.name, type(target).__name__):
        raise DataError(
            f"{map_uri} is a map of {info.origin.target}, and this project's target is "
            f"{target.name}; report it in the project that made it."
        )
    check_memory(
        math.prod(info.shape) * BYTES_A_PIXEL,
        f"The report of a map of {info.shape[0]} x {info.shape[1]} pixels",
        "report maps of parts of the area, made of items of a smaller [data] area",
    )
    accuracy = accuracy or _accuracy(map_uri, info.origin.run_id, storage)
    with open_map(map_uri, storage) as file:
        values = file.read(1)
    view = MapView(
        values,
        bands=info.bands,
        crs=info.crs,
        transform=info.transform,
        uri=map_uri,
        origin=info.origin.to_tags(),
        thumbnail=_thumbnail(map_uri, info, storage),
        areas=lambda: (
            read_areas(section.areas, section.areas_layer, storage) if section.areas else None
        ),
    )
    made = target.report(view, accuracy, section)
    uris = {}
    with storage.scratch() as folder:
        for name, (ending, write) in made.files.items():
            write(folder / ending)
            uris[name] = storage.write(f"{map_uri.removesuffix('.tif')}_{ending}", folder / ending)
    return Reported(files=uris, table=made.table)


def _accuracy(map_uri: str, run_id: str, storage: Storage) -> Accuracy:
    """Collect what is known of a map's errors."""
    found, remark = find_validation(map_uri, storage)
    try:
        scores = dict(runs.find_run(storage.settings, run_id).data.metrics)
    except ConfigError:
        if not found:  # its areas need no scores
            raise
        scores = {}
    return Accuracy(scores, found.estimates if found else None, remark)


def _thumbnail(map_uri: str, info: MapInfo, storage: Storage) -> Callable[[int], npt.NDArray[Any]]:
    """Give what reads a small picture of the first band, from an overview where there is one."""

    def read(most_px: int) -> npt.NDArray[Any]:
        rows, columns = info.shape
        step = max(1.0, max(rows, columns) / most_px)
        size = (math.ceil(rows / step), math.ceil(columns / step))
        with open_map(map_uri, storage) as file:
            values: npt.NDArray[Any] = file.read(1, out_shape=size, resampling=Resampling.nearest)
        return values

    return read


def step(project: OpenProject, inputs: Inputs) -> Reported:
    """Report `map`, or each of a list; by default that of the champion and `ingest`'s items."""
    storage, uri = project.storage, inputs.get("map")
    if not uri:
        model = load_model(project.champion, storage.settings, project.hooks)
        uri = find_map(model, inputs["items"], storage)
    if isinstance(uri, str):
        return report(uri, project.hooks.target, project.config.map, storage)
    files: dict[str, str] = {}
    tables = []
    for each in uri:
        one = report(each, project.hooks.target, project.config.map, storage)
        files |= {f"{name} of {each}": file for name, file in one.files.items()}
        tables.append(f"{each}\n\n{one.table}")
    return Reported(files=files, table="\n\n".join(tables))


def show(project: OpenProject, outputs: Inputs) -> int:
    """Print the table, and tell where the files are."""
    del project
    say(outputs["table"])
    for name, uri in outputs["files"].items():
        say(f"{name}: {uri}")
    return 0
