"""Where a map comes from, and whether it comes out the same again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from rasterio.io import DatasetReader
from rasterio.windows import Window

from terraflow.console import say, table
from terraflow.eo.maps.map import predict
from terraflow.eo.maps.map_file import BANDS, BLOCK_PX, MapInfo, open_map, read_info
from terraflow.eo.models.model import LoadedModel, load_model
from terraflow.errors import DataError
from terraflow.storage import Storage
from terraflow.tracking import runs as tracking

__all__ = ["Difference", "compare_maps", "describe", "explain", "find_changes", "reproduce"]

LABELS = {
    "model": "model",
    "model_version": "version",
    "run_id": "run",
    "code_commit": "code commit",
    "lock_digest": "lock digest",
    "data_digest": "data digest",
    "seed": "seed",
    "overall_accuracy": "overall accuracy",
    "macro_f1": "macro F1",
    "items": "items",
    "items_digest": "items digest",
    "config_digest": "config digest",
    "version": "TerraFlow",
    "map_code_commit": "mapped by commit",
    "map_lock_digest": "mapped by lock",
    "note": "note",
}


@dataclass(frozen=True)
class Difference:
    """Where two maps differ.

    Attributes
    ----------
    pixels : int
        Of which class or confidence differ.
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


def explain(uri: str, storage: Storage) -> int:
    """Print where a map comes from, told by the file alone; return the exit code.

    Raises
    ------
    DataError
        The file is no map, or can't be read.
    """
    table(("map", uri), describe(read_info(uri, storage)))
    return 0


def describe(info: MapInfo) -> list[tuple[str, str]]:
    """Put a map's metadata, classes and grid into words: label and value."""
    told = info.metadata
    rows = [(label, _number(told.get(key, "not known"))) for key, label in LABELS.items()
            if key in told or key != "note"]  # fmt: skip
    grid = f"{info.shape[0]} rows x {info.shape[1]} columns, {info.crs.to_string()[:60]}"
    return [*rows, ("classes", ", ".join(info.classes)), ("grid", grid)]


def reproduce(uri: str, storage: Storage, *, model: LoadedModel | None = None) -> int:
    """Make a map again in a temporary folder, compare pixel by pixel, and print the result.

    Parameters
    ----------
    model : LoadedModel, optional
        By default the one that the map names.

    Returns
    -------
    int
        Exit code: 0 if all pixels are equal, else 1.

    Raises
    ------
    DataError
        The file is no map, or its model or items make none any more.
    ConfigError, ServiceError, StorageError
        Its model or its items can't be had.
    """
    info = read_info(uri, storage)
    for change in find_changes(info.metadata):
        say(f"Warning: {change}")
    model = model or load_model(info.metadata["model"], storage.settings)
    with storage.scratch() as folder:
        again = predict(model, info.metadata["items"], storage, output=str(folder / "again.tif"))
        for change in _changed_inputs(info, read_info(again["map"], storage)):
            say(f"Warning: {change}")
        difference = compare_maps(uri, again["map"], storage)
    if not difference.pixels:
        say(f"{uri}: all {difference.total} pixels come out equal, class and confidence.")
        return 0
    say(
        f"{uri}: {difference.pixels} of {difference.total} pixels differ; the first is row "
        f"{difference.row}, column {difference.column} ({difference.band})."
    )
    return 1


def find_changes(metadata: dict[str, str]) -> list[str]:
    """Tell what of code and libraries is not as it was when the map was made."""
    now = tracking.provenance()
    names = {"code_commit": "code commit", "lock_digest": "lock digest"}
    return [
        f"the {name} was {then}, now it is {now.get(key, 'not known')}; the map may differ."
        for key, name in names.items()
        if (then := metadata.get(f"map_{key}")) != now.get(key)
    ]


def compare_maps(uri: str, other: str, storage: Storage) -> Difference:
    """Compare two maps block by block.

    Raises
    ------
    DataError
        One is no map, or their grids differ.
    """
    pixels, first = 0, None
    with open_map(uri, storage) as one, open_map(other, storage) as two:
        grids = [(file.shape, file.transform, file.crs) for file in (one, two)]
        if grids[0] != grids[1]:
            raise DataError(
                f"{uri} and {other} lie on different grids ({_grid(one)} and {_grid(two)}); "
                "compare maps of the same items and [grid]."
            )
        for window in _blocks(one):
            differs = one.read(window=window) != two.read(window=window)
            pixels += int(differs.any(axis=0).sum())
            if first is None and differs.any():
                row, column = np.argwhere(differs.any(axis=0))[0]
                band = BANDS[int(differs[:, row, column].argmax())]
                first = int(window.row_off + row), int(window.col_off + column), band
        return Difference(pixels, one.height * one.width, *(first or (None, None, None)))


def _blocks(file: DatasetReader) -> Iterator[Window]:
    for row in range(0, file.height, BLOCK_PX):
        for column in range(0, file.width, BLOCK_PX):
            size = min(BLOCK_PX, file.width - column), min(BLOCK_PX, file.height - row)
            yield Window(column, row, *size)


def _changed_inputs(then: MapInfo, now: MapInfo) -> list[str]:
    names = {"items_digest": "items", "config_digest": "model's configuration"}
    return [
        f"the {name} changed since: digest {then.metadata.get(key)}, now {now.metadata.get(key)}."
        for key, name in names.items()
        if then.metadata.get(key) != now.metadata.get(key)
    ]


def _grid(file: DatasetReader) -> str:
    return f"{file.height} x {file.width} pixels from {file.transform.c:g}, {file.transform.f:g}"


def _number(text: str) -> str:
    """Shorten a long fraction."""
    whole, point, digits = text.partition(".")
    if point and whole.isdigit() and digits.isdigit() and len(digits) > 3:
        return f"{float(text):.3f}"
    return text
