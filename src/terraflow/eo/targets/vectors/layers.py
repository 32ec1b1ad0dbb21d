"""Which tables a source of vector data holds, and which of several is meant."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import geopandas as gpd
import pyarrow.dataset
from pyarrow.fs import LocalFileSystem

from terraflow.eo.targets.vectors.points import has_places
from terraflow.eo.targets.vectors.purpose import Purpose
from terraflow.errors import DataError, did_you_mean

__all__ = ["SPREADSHEETS", "Layer", "arrow_format", "choose", "find_layers", "ogr_options"]

#: Tables that programs keep beside the data: styles and projects of QGIS.
NEVER = {"layer_styles", "qgis_projects"}
#: Folders that are one data set: Esri's file geodatabase, and Parquet in parts.
DATA_SETS = (".gdb", ".parquet", ".geoparquet")
#: What is looked for in a folder and in a zip.
ENDINGS = {
    *(".shp", ".shz", ".gpkg", ".gdb", ".sqlite", ".fgb", ".tab", ".mif", ".dxf", ".gml", ".gpx"),
    *(".geojson", ".json", ".geojsonl", ".geojsons", ".topojson", ".kml", ".kmz"),
    *(".csv", ".tsv", ".xlsx", ".ods", ".parquet", ".geoparquet", ".feather", ".arrow"),
}
#: Of these a file may as well be something else, as metadata.
SPREADSHEETS = (".xlsx", ".ods")
PERHAPS = (".json", ".csv", ".tsv", *SPREADSHEETS)
#: First bytes of files that Arrow reads, and its names of their formats.
MAGIC = {b"PAR1": "parquet", b"ARROW1": "feather", b"FEA1": "feather"}
_SHOWN, _SHOWN_FIELDS = 20, 8


@dataclass(frozen=True)
class Held:
    """What a layer holds.

    Attributes
    ----------
    kind : str
        polygons, points, lines, geometries (of any or of several types), or rows without any.
    count : int
        -1 is not known.
    fields : tuple of str
    """

    kind: str
    count: int
    fields: tuple[str, ...]


@dataclass(frozen=True)
class Layer:
    """One table of a source.

    Attributes
    ----------
    file : Path
    inner : str
        As its format names it: OGR's layer, or a geometry column of a GeoParquet; "" has no name.
    names : tuple of str
        By which it can be asked for, the shortest first.
    aside : bool
        Its file tells that another one is the main one.
    """

    file: Path
    inner: str
    names: tuple[str, ...]
    aside: bool = False

    @cached_property
    def held(self) -> Held:
        """Look into it; what can't be opened raises what its library does."""
        if arrow_format(self.file):
            return _arrow_held(self)
        return _ogr_held(self)

    def serves(self, purpose: Purpose) -> bool:
        """Tell whether it can be what is read."""
        held = self.held
        if self.inner in NEVER or not held.count:
            return False
        if held.kind == "rows":
            return purpose.points and has_places(held.fields)
        return held.kind in ("polygons", "geometries") or (purpose.points and held.kind == "points")


def arrow_format(file: Path) -> str:
    """Name the format of a file that Arrow reads, "parquet" or "feather"; "" is none."""
    if file.is_dir():
        return "parquet" if file.suffix.lower() in DATA_SETS[1:] else ""
    with file.open("rb") as opened:
        start = opened.read(6)
    return next((name for magic, name in MAGIC.items() if start.startswith(magic)), "")


def ogr_options(file: Path) -> dict[str, str]:
    """Give what OGR is told of a file: the first row of a sheet holds the names of its columns."""
    return {"HEADERS": "FORCE"} if file.suffix.lower() in SPREADSHEETS else {}


def find_layers(path: Path) -> list[Layer]:
    """List the tables of a file, or of all files in a folder at any depth.

    Raises
    ------
    RuntimeError, ValueError, OSError
        A file can't be opened; those that may be something else are left aside. Or the folder holds
        no file of a known ending.
    """
    if not _is_folder(path):
        return list(_in_file(path, path.parent, alone=True))
    files = list(_files(path))
    found: list[Layer] = []
    for file in files:
        try:
            found += _in_file(file, path, alone=False)
        except (RuntimeError, ValueError):
            if file.suffix.lower() not in PERHAPS:
                raise
    if not found:
        there = sorted(each.name for each in path.rglob("*") if each.is_file())
        raise ValueError(
            f"it holds no file of vector data, only {', '.join(there[:_SHOWN]) or 'nothing'}"
        )
    return found


def choose(layers: Sequence[Layer], wanted: str, purpose: Purpose, uri: str) -> Layer:
    """Take the layer that is asked for, or the only one that serves.

    Parameters
    ----------
    wanted : str
        One of its names, or "".
    uri : str
        Where they come from, for messages.

    Raises
    ------
    DataError
        It is not there, or several serve, or none: the message lists them.
    """
    shown = {_shown(each, layers): each for each in layers}
    if wanted and layers:
        asked = [each for each in layers if wanted in each.names]
        if wanted in shown or len(asked) == 1:
            return shown.get(wanted) or asked[0]
        raise DataError(
            f"{purpose.what} {uri} have no layer {wanted!r}{did_you_mean(wanted, shown)}; expected "
            f"one of {_listed(shown)}; correct {purpose.layer}."
        )
    if len(layers) == 1:
        return layers[0]
    serving = {name: each for name, each in shown.items() if each.serves(purpose)}
    main = [each for each in serving.values() if not each.aside]
    if len(main) == 1 and len({each.file for each in serving.values()}) == 1:
        return main[0]
    if not layers:
        raise DataError(f"{purpose.what} {uri} hold no layer; expected {purpose.expected}.")
    if not serving:
        raise DataError(
            f"{purpose.what} {uri} hold {len(layers)} layers, none with {purpose.geometries}: "
            f"{_listed(shown)}; expected {purpose.expected}."
        )
    several = f"{len(serving)} layers, of which one is expected: {_listed(serving)}"
    if not purpose.layer:
        raise DataError(
            f"{purpose.what} {uri} hold {several}; keep one of them in a file of its own."
        )
    section, _, key = purpose.layer.partition(" ")
    raise DataError(
        f"{purpose.what} {uri} hold {several}; choose one by {purpose.layer}, as {key} = "
        f'"{next(iter(serving))}" in {section}.'
    )


def _is_folder(path: Path) -> bool:
    return path.is_dir() and path.suffix.lower() not in DATA_SETS


def _files(folder: Path) -> Iterator[Path]:
    """Find files of vector data, but for what hidden files and data sets hold."""
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith((".", "__MACOSX")):
            continue
        if _is_folder(entry):
            yield from _files(entry)
        elif entry.suffix.lower() in ENDINGS:
            yield entry


def _in_file(file: Path, root: Path, *, alone: bool) -> Iterator[Layer]:
    names = [file.stem]
    if not alone:
        inside = file.relative_to(root)
        names += [inside.with_suffix("").as_posix(), inside.as_posix()]
    arrow = arrow_format(file)
    if arrow:
        columns = list(_geometry_columns(file)) or [""]
        inner = {column: i > 0 for i, column in enumerate(columns)}
    else:
        inner = dict.fromkeys(gpd.list_layers(file)["name"], False)
    for name, aside in inner.items():
        own = [name]
        if len(inner) == 1:
            own = [*names, name] if arrow else [name, *names]
        else:
            own += [f"{each}/{name}" for each in names]
        yield Layer(file, name, tuple(dict.fromkeys(filter(None, own))), aside)


def _arrow(file: Path) -> Any:
    system = LocalFileSystem()  # it takes a path as it is, with any sign in it
    return pyarrow.dataset.dataset(str(file), format=arrow_format(file), filesystem=system)


def _geometry_columns(file: Path) -> dict[str, list[str]]:
    """Name the geometry columns of a GeoParquet with their types, the primary one first.

    References
    ----------
    https://geoparquet.org/releases/v1.1.0/
    """
    told = (_arrow(file).schema.metadata or {}).get(b"geo")
    if told is None:
        return {}
    geo = json.loads(told)
    types = {name: column.get("geometry_types", []) for name, column in geo["columns"].items()}
    primary = geo["primary_column"]
    return {primary: types.get(primary, [])} | types


def _ogr_held(layer: Layer) -> Held:
    """Look into a layer without reading all of it."""
    listed = gpd.list_layers(layer.file).set_index("name")["geometry_type"]
    first = gpd.read_file(layer.file, layer=layer.inner, rows=1, **ogr_options(layer.file))
    escaped = layer.inner.replace('"', '\\"')
    query = f'SELECT COUNT(*) AS n FROM "{escaped}"'  # noqa: S608 - the file can but be read
    counted = gpd.read_file(layer.file, sql=query, sql_dialect="OGRSQL", **ogr_options(layer.file))
    fields = tuple(str(name) for name in first.columns if name != "geometry")
    return Held(_kind(listed[layer.inner]), int(counted["n"].iloc[0]), fields)


def _arrow_held(layer: Layer) -> Held:
    source, columns = _arrow(layer.file), _geometry_columns(layer.file)
    kinds = {_kind(name) for name in columns.get(layer.inner, [])}
    kind = "geometries" if layer.inner else "rows"
    fields = tuple(name for name in source.schema.names if name not in columns)
    return Held(kinds.pop() if len(kinds) == 1 else kind, source.count_rows(), fields)


def _kind(geometry: str | None) -> str:
    """Name what a type of geometry is, as OGR or GeoParquet calls it."""
    if not isinstance(geometry, str):
        return "rows"
    for sign, kind in {
        "Polygon": "polygons",
        "Surface": "polygons",
        "Point": "points",
        "Line": "lines",
        "Curve": "lines",
    }.items():
        if sign in geometry:
            return kind
    return "geometries"


def _shown(layer: Layer, layers: Sequence[Layer]) -> str:
    """Give the shortest name that no other one has."""
    others = {name for each in layers if each is not layer for name in each.names}
    return next((name for name in layer.names if name not in others), layer.names[-1])


def _listed(layers: dict[str, Layer]) -> str:
    texts = []
    for name, layer in list(layers.items())[:_SHOWN]:
        held = layer.held
        fields = ", ".join(held.fields[:_SHOWN_FIELDS]) or "no fields"
        more = ", ..." * (len(held.fields) > _SHOWN_FIELDS)
        count = f"{held.count} " if held.count >= 0 else ""
        texts.append(f"{name} ({count}{held.kind}; {fields}{more})")
    return ", ".join(texts) + (", ..." * (len(layers) > _SHOWN))
