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
from terraflow.eo.maps.map import find_map
from terraflow.eo.maps.map_file import MapInfo, open_map, read_info
from terraflow.eo.models.model import load_model
from terraflow.eo.project import Inputs, OpenProject
from terraflow.eo.targets.parts import HeldOut, MapView
from terraflow.eo.targets.target import Target
from terraflow.eo.targets.vector import read_frame
from terraflow.eo.training.held_out import read_held_out
from terraflow.errors import DataError
from terraflow.storage import Storage

__all__ = ["Reported", "report", "show", "step"]


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
    held_out: HeldOut | None = None,
) -> Reported:
    """Write the report of a map beside it; what it holds is for the target to say.

    Parameters
    ----------
    map_uri : str
        A map that `make_map` made.
    held_out : HeldOut, optional
        By default what the map's run held out.

    Raises
    ------
    DataError
        The file is no map, its CRS has no unit of length, or it is of another target.
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
    pixel_m2 = _pixel_m2(map_uri, info)
    held_out = held_out or read_held_out(info.origin.run_id, storage.settings)
    with open_map(map_uri, storage) as file:
        values = file.read(1)
    view = MapView(
        values,
        bands=info.bands,
        crs=info.crs,
        transform=info.transform,
        pixel_m2=pixel_m2,
        origin=info.origin.to_tags(),
        thumbnail=_thumbnail(map_uri, info, storage),
        areas=lambda: read_frame(section.areas, storage, what="Areas") if section.areas else None,
    )
    made = target.report(view, held_out, section)
    uris = {}
    with storage.scratch() as folder:
        for name, (ending, write) in made.files.items():
            write(folder / ending)
            uris[name] = storage.write(f"{map_uri.removesuffix('.tif')}_{ending}", folder / ending)
    return Reported(files=uris, table=made.table)


def _pixel_m2(map_uri: str, info: MapInfo) -> float:
    if not info.crs or not info.crs.is_projected:
        crs = info.crs.to_string()[:40] if info.crs else "no CRS"
        raise DataError(
            f"{map_uri} lies in {crs}, whose pixels have no area in square metres; map again with "
            "a projected [grid] crs, best an equal-area one."
        )
    metres = float(info.crs.linear_units_factor[1])
    return abs(float(info.transform.determinant)) * metres**2


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
