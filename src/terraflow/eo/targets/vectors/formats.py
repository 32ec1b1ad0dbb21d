"""One table of vector data, read from the file that holds it, of any format."""

from __future__ import annotations

import warnings
import zipfile
from pathlib import Path

import geopandas as gpd
import pandas as pd

from terraflow.eo.targets.vectors.layers import SPREADSHEETS, Layer, arrow_format, ogr_options
from terraflow.errors import first_line

__all__ = ["read_layer", "unpacked", "why"]

KNOWN = (
    "it is in no known format, as GeoPackage, Shapefile, GeoJSON, FlatGeobuf, KML, GPX, "
    "GeoParquet, CSV, XLSX or ODS"
)
#: Formats that are zips themselves, which OGR opens.
ZIPPED = (*SPREADSHEETS, ".kmz", ".shz")
#: What of GDAL's text tells that no driver knows a file: its last one is missing a library.
UNKNOWN = ("recognized as being in a supported", "recognized as a supported", "libduckdb")


def read_layer(layer: Layer) -> gpd.GeoDataFrame | pd.DataFrame:
    """Read a table, with geometries where it has some.

    Texts of a shapefile that does not tell their encoding are UTF-8 where all of them are, else
    Latin-1. The first row of a spreadsheet holds the names of its columns.

    Raises
    ------
    RuntimeError, ValueError, OSError
        It can't be read, or some geometries of a table are no WKT.
    """
    if arrow_format(layer.file):
        return _read_arrow(layer)
    file = layer.file
    with warnings.catch_warnings(record=True, action="always") as told:
        frame = gpd.read_file(
            file, layer=layer.inner, engine="pyogrio", on_invalid="fix", **ogr_options(file)
        )
    wrong = [str(each.message) for each in told if "invalid WKT" in str(each.message)]
    if wrong:
        raise ValueError(
            f"rows hold {first_line(wrong[0]).partition(': ')[2]!r} or the like in place of a "
            "geometry in WKT"
        )
    if file.suffix.lower() == ".shp" and not any(
        file.with_suffix(ending).exists() for ending in (".cpg", ".CPG")
    ):
        return frame.apply(_as_utf8)
    return frame


def unpacked(path: Path, folder: Path) -> Path:
    """Unpack a zip into a folder; what is none is left as it is.

    Raises
    ------
    BadZipFile, RuntimeError
        It is damaged, or encrypted.
    """
    if path.is_dir() or path.suffix.lower() in ZIPPED or not zipfile.is_zipfile(path):
        return path
    with zipfile.ZipFile(path) as archive:
        archive.extractall(folder)
    return folder


def why(error: Exception, path: Path) -> str:
    """Tell in a part of a sentence why a file can't be read, and what helps."""
    text = first_line(error)
    if isinstance(error, UnicodeDecodeError):
        if path.suffix.lower() in (".shp", ".zip"):
            return (
                "its texts are not in the encoding that its .cpg file tells; write the right one "
                "into that file, as ISO-8859-1"
            )
        return "its texts are not in UTF-8; save it in UTF-8"
    if ".shx" in text.lower():
        return (
            "a shapefile is several files of one name, and .shx is not there; put it beside, as "
            ".dbf and .prj"
        )
    if "encrypted" in text:
        return "it is encrypted; unpack it, and name the folder"
    return KNOWN if any(sign in text for sign in UNKNOWN) else text


def _read_arrow(layer: Layer) -> gpd.GeoDataFrame | pd.DataFrame:
    parquet = arrow_format(layer.file) == "parquet"
    if layer.file.is_dir():
        path = str(layer.file)
        return gpd.read_parquet(path) if layer.inner else pd.read_parquet(path)
    with layer.file.open("rb") as file:
        if not layer.inner:
            return pd.read_parquet(file) if parquet else pd.read_feather(file)
        frame = gpd.read_parquet(file) if parquet else gpd.read_feather(file)
    return frame.set_geometry(layer.inner)


def _as_utf8(column: pd.Series) -> pd.Series:
    """Read texts anew as UTF-8, which were read as Latin-1, if all of them are."""
    if not pd.api.types.is_string_dtype(column):
        return column
    known = column.notna()
    try:
        texts = [text.encode("latin-1").decode("utf-8") for text in column[known]]
    except (UnicodeError, AttributeError):
        return column
    return column.where(~known, pd.Series(texts, column.index[known], dtype=column.dtype))
