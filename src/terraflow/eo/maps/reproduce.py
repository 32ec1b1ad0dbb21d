"""Whether a map comes out the same again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from rasterio.io import DatasetReader
from rasterio.windows import Window

from terraflow.console import say
from terraflow.eo.hooks import Hooks
from terraflow.eo.maps.map import make_map
from terraflow.eo.maps.map_file import BLOCK_PX, MapInfo, open_map, read_info
from terraflow.eo.maps.map_origin import MapOrigin
from terraflow.eo.models.model import LoadedModel, load_model
from terraflow.eo.project import Inputs, OpenProject
from terraflow.errors import ConfigError, DataError
from terraflow.storage import Storage
from terraflow.tracking import runs
from terraflow.tracking.trust import is_ours

__all__ = ["MapDifference", "compare_maps", "find_changes", "reproduce", "show", "step"]


@dataclass(frozen=True)
class MapDifference:
    """Where two maps differ.

    Attributes
    ----------
    pixels : int
        Number of pixels of which a band differs.
    total : int
        Pixels of a map.
    row, column, band : int or str or None
        The first that differs, from 0, rows before columns within blocks of 512 x 512 pixels.
    """

    pixels: int
    total: int
    row: int | None = None
    column: int | None = None
    band: str | None = None


def reproduce(
    uri: str,
    hooks: Hooks,
    storage: Storage,
    *,
    model: LoadedModel | None = None,
    trust: bool = False,
) -> MapDifference:
    """Make a map again in a temporary folder, and compare pixel by pixel.

    What changed since is told as a warning.

    Parameters
    ----------
    hooks : Hooks
        Of the project that asks.
    model : LoadedModel, optional
        By default the one that the map names.
    trust : bool
        Take the model from wherever the map says, and let it run code.

    Raises
    ------
    DataError
        The file is no map, or its model or items make none any more.
    ConfigError, ServiceError, StorageError
        Its model or its items can't be had, or the model is not trusted.
    """
    info = read_info(uri, storage)
    if not (model or trust or is_ours(info.origin.model)):
        raise ConfigError(
            f"{uri} names {info.origin.model!r} for its model, which is not of this stack's "
            "registry; look at it, and say --trust if you trust who made it."
        )
    for change in find_changes(info.origin):
        say(f"Warning: {change}")
    model = model or load_model(info.origin.model, storage.settings, hooks, trust=trust)
    with storage.scratch() as folder:
        again = make_map(model, info.origin.items, storage, output=str(folder / "again.tif"))
        for change in _changed_inputs(info, read_info(again.map, storage)):
            say(f"Warning: {change}")
        return compare_maps(uri, again.map, storage)


def step(project: OpenProject, inputs: Inputs) -> dict[str, Any]:
    """Reproduce `file`."""
    difference = reproduce(
        inputs["file"], project.hooks, project.storage, trust=bool(inputs.get("trust"))
    )
    return {"map": inputs["file"]} | asdict(difference)


def show(project: OpenProject, outputs: Inputs) -> int:
    """Tell whether all pixels are equal; return 1 if not."""
    del project
    uri, pixels, total = outputs["map"], outputs["pixels"], outputs["total"]
    if not pixels:
        say(f"{uri}: all {total} pixels come out equal in all bands.")
        return 0
    say(
        f"{uri}: {pixels} of {total} pixels differ; the first is row {outputs['row']}, column "
        f"{outputs['column']} ({outputs['band']})."
    )
    return 1


def find_changes(origin: MapOrigin) -> list[str]:
    """Tell what of code and libraries is not as it was when the map was made."""
    now = runs.provenance()
    names = {"code_commit": "code commit", "lock_digest": "lock digest"}
    return [
        f"the {name} was {then or 'not known'}, now it is {now.get(key, 'not known')}; the "
        "map may differ."
        for key, name in names.items()
        if (then := getattr(origin, f"map_{key}")) != now.get(key, "")
    ]


def compare_maps(uri: str, other: str, storage: Storage) -> MapDifference:
    """Compare two maps block by block.

    Raises
    ------
    DataError
        One is no map, or their grids differ.
    """
    pixels, first = 0, None
    with open_map(uri, storage) as one, open_map(other, storage) as two:
        if one.count != two.count:
            raise DataError(
                f"{uri} has {one.count} bands and {other} has {two.count}; compare maps of "
                "one target."
            )
        grids = [(file.shape, file.transform, file.crs) for file in (one, two)]
        if grids[0] != grids[1]:
            raise DataError(
                f"{uri} and {other} lie on different grids ({_grid(one)} and {_grid(two)}); "
                "compare maps of the same items and [grid]."
            )
        for window in _blocks(one):
            differs = _differ(one.read(window=window), two.read(window=window))
            pixels += int(differs.any(axis=0).sum())
            if first is None and differs.any():
                row, column = np.argwhere(differs.any(axis=0))[0]
                band = str(one.descriptions[int(differs[:, row, column].argmax())])
                first = int(window.row_off + row), int(window.col_off + column), band
        return MapDifference(pixels, one.height * one.width, *(first or (None, None, None)))


def _differ(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    both_nan = (a != a) & (b != b)  # noqa: PLR0124 - NaN differs from itself
    differs: npt.NDArray[np.bool_] = (a != b) & ~both_nan
    return differs


def _blocks(file: DatasetReader) -> Iterator[Window]:
    for row in range(0, file.height, BLOCK_PX):
        for column in range(0, file.width, BLOCK_PX):
            size = min(BLOCK_PX, file.width - column), min(BLOCK_PX, file.height - row)
            yield Window(column, row, *size)


def _changed_inputs(then: MapInfo, now: MapInfo) -> list[str]:
    names = {"items_digest": "items", "config_digest": "model's configuration"}
    return [
        f"the {name} changed since: digest {getattr(then.origin, key)}, now "
        f"{getattr(now.origin, key)}."
        for key, name in names.items()
        if getattr(then.origin, key) != getattr(now.origin, key)
    ]


def _grid(file: DatasetReader) -> str:
    return f"{file.height} x {file.width} pixels from {file.transform.c:g}, {file.transform.f:g}"
