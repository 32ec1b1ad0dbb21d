"""Which layer of a file is meant: a GeoPackage, a KML, a zip or a folder may have several."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyogrio
from pyogrio.errors import DataSourceError, FieldError

from terraflow.errors import DataError, did_you_mean

__all__ = ["Layer", "choose_layer"]

#: Tables of programs beside those of a user.
NEVER = {"layer_styles", "qgis_projects", "gpkg_ogr_contents", "sqlite_sequence"}
#: Endings of what OGR reads inside of an archive; other files belong to one of these.
INSIDE = {".shp", ".gpkg", ".geojson", ".json", ".kml", ".gml", ".fgb", ".tab", ".mif", ".gpx"}
INSIDE |= {".csv", ".sqlite", ".dxf"}


@dataclass(frozen=True)
class Layer:
    """One layer of a file.

    Attributes
    ----------
    source, name : str
        As OGR opens them.
    shown : str
        As a user names it: the name, with its file where several of an archive share a name.
    fields : list of str
    features : int
    geometry : str
        Type of its geometries, or "" of a table.
    """

    source: str
    name: str
    shown: str
    fields: list[str]
    features: int
    geometry: str

    def __str__(self) -> str:
        kind = self.geometry or "rows"
        fields = ", ".join(self.fields[:8]) + (", ..." if len(self.fields) > 8 else "")
        return f"{self.shown} ({self.features} {kind}; fields {fields or 'none'})"


def choose_layer(path: Path, shown: str, layer: str, key: str) -> Layer:
    """Take the layer that is named, or the only one that holds anything.

    Layers without a feature and tables of programs, as QGIS's styles, are no choice; tables
    without geometries are one where no layer has any.

    Parameters
    ----------
    shown : str
        The address, for messages.
    layer : str
        Its name, or "".
    key : str
        Key of the configuration that names it, for messages.

    Raises
    ------
    DataError
        Nothing is in it, there is no such layer, or there are several and none is named.
    """
    found = _list(path)
    named = [each for each in found if layer in (each.shown, each.name)]
    if layer and len(named) == 1:
        return named[0]
    full = [each for each in found if each.features and each.name not in NEVER]
    choice = [each for each in full if each.geometry] or full
    if layer:
        names = [each.shown for each in choice]
        raise DataError(
            f"{shown} has no layer {layer!r}{did_you_mean(layer, names)}, but {_told(choice)}; "
            f"correct {key}."
        )
    if not choice:
        empty = f" of its layers {', '.join(each.shown for each in found)}" if found else ""
        raise DataError(f"{shown} holds nothing: no feature is in any{empty}; name another file.")
    if len(choice) > 1:
        raise DataError(
            f"{shown} has {len(choice)} layers: {_told(choice)}; name the one that is meant, as in "
            f'{key} = "{choice[0].shown}".'
        )
    return choice[0]


def _told(layers: Sequence[Layer]) -> str:
    told = "; ".join(map(str, layers[:12]))
    return told + (f"; and {len(layers) - 12} more" if len(layers) > 12 else "")


def _list(path: Path) -> list[Layer]:
    sources = _inside(path) if zipfile.is_zipfile(path) and path.suffix.lower() == ".zip" else []
    found = []
    for source, member in sources or [(str(path), "")]:
        for name, geometry in pyogrio.list_layers(source):
            found.append((source, member, str(name), geometry))
    names = [name for _, _, name, _ in found]
    layers: list[Layer] = []
    for source, member, name, geometry in found:
        shown = f"{member}/{name}" if names.count(name) > 1 and member else name
        if shown in [each.shown for each in layers]:
            shown = f"{shown} #{len(layers) + 1}"
        try:
            info = pyogrio.read_info(source, layer=name, force_feature_count=True)
        except (DataSourceError, FieldError, ValueError):
            continue
        fields = [str(field) for field in info["fields"]]
        layers.append(
            Layer(source, name, shown, fields, max(int(info["features"]), 0), geometry or "")
        )
    return layers


def _inside(path: Path) -> list[tuple[str, str]]:
    """Find what OGR reads in any folder of an archive: as it opens each, and by its name."""
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if not name.startswith("__MACOSX/")]
    folders = {
        str(parent)
        for name in names
        for parent in Path(name).parents
        if parent.suffix.lower() == ".gdb"
    }
    members = [name for name in names if Path(name).suffix.lower() in INSIDE] + sorted(folders)
    return [(f"/vsizip/{{{path.absolute()}}}/{member}", member) for member in members]
