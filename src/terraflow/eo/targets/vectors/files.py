"""Vector data of any format: read, in the CRS of a grid."""

from __future__ import annotations

import logging
import re
import warnings
from difflib import get_close_matches
from pathlib import Path
from urllib.parse import unquote, urlsplit

import geopandas as gpd
import pandas as pd
import rasterio
from odc.geo.geobox import GeoBox

from terraflow.eo.config.labels import Labels
from terraflow.eo.targets.vectors.crs import check_placed, to_grid
from terraflow.eo.targets.vectors.layers import choose_layer
from terraflow.eo.targets.vectors.points import stated_crs, to_points
from terraflow.eo.targets.vectors.tables import PARQUET, TEXT, read_parquet, read_text
from terraflow.errors import DataError
from terraflow.storage import Storage

__all__ = ["is_raster", "on_grid_crs", "read_frame"]

FORMATS = "in a format OGR reads, as GeoPackage, GeoJSON, Shapefile or KML, or GeoParquet"


def read_frame(
    uri: str,
    storage: Storage,
    *,
    what: str = "Labels",
    layer: str = "",
    key: str = "[labels] layer",
) -> gpd.GeoDataFrame | pd.DataFrame:
    """Read vector data in any format OGR reads, GeoParquet, or a table.

    Parameters
    ----------
    what : str
        What they are, for messages.
    layer : str
        Which one, where there are several.
    key : str
        Key of the configuration that names it, for messages.

    Raises
    ------
    DataError
        They can't be read, or it is not told which layer.
    """
    if "://" not in uri or uri.startswith("file://"):
        return _read(_local(uri), uri, what, layer, key)
    data = storage.read(uri)
    with storage.scratch() as folder:
        path = folder / Path(urlsplit(uri).path).name
        path.write_bytes(data)
        return _read(path, uri, what, layer, key)


def _local(uri: str) -> Path:
    return Path(unquote(urlsplit(uri).path) if uri.startswith("file://") else uri)


def _read(path: Path, uri: str, what: str, layer: str, key: str) -> gpd.GeoDataFrame | pd.DataFrame:
    if not path.exists():
        raise DataError(f"{what} {uri} do not exist; {_beside(path)}.")
    ending = path.suffix.lower()
    if ending in TEXT and not layer:
        table = read_text(path, uri)
        if "WKT" not in table.columns:  # which OGR takes for geometries, curves included
            return table
    if ending in PARQUET:
        return read_parquet(path, uri)
    logging.getLogger("pyogrio").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what matters in them is told in our words
            chosen = choose_layer(path, uri, layer, key)
            return gpd.read_file(chosen.source, layer=chosen.name)
    except (ValueError, RuntimeError, OSError) as error:
        text = re.sub(r"\s*It might help to specify the correct driver.*", "", str(error))
        kinds, raster = "polygons", ""
        if what == "Labels":
            kinds, raster = "polygons or points", ", or a raster that GDAL reads"
        raise DataError(
            f"{what} {uri} can't be read: {text.strip().rstrip('.')}; expected {kinds} {FORMATS}"
            f"{raster}."
        ) from error


def _beside(path: Path) -> str:
    """Tell what is there instead of a file."""
    folder = path.parent
    if not folder.is_dir():
        return f"there is no folder {folder}"
    names = sorted(each.name for each in folder.iterdir() if not each.name.startswith("."))
    if close := get_close_matches(path.name, names, n=1):
        return f"did you mean {close[0]}"
    return f"{folder} holds {', '.join(names[:8]) or 'nothing'}{', ...' if len(names) > 8 else ''}"


def is_raster(uri: str, storage: Storage) -> bool:
    """Tell whether GDAL reads it as a raster.

    Raises
    ------
    DataError
        A local file is not there.
    """
    local = "://" not in uri or uri.startswith("file://")
    path = str(_local(uri)) if local else uri
    if local and not Path(path).exists():
        raise DataError(
            f"Labels {uri} do not exist; {_beside(Path(path))}; correct [labels] source."
        )
    if local and Path(path).suffix.lower() in TEXT | PARQUET:
        return False  # GDAL takes a table of regular x, y and numbers for a raster
    try:
        with storage.gdal(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with rasterio.open(path) as file:
                return bool(file.count) and file.driver != "XYZ"
    except (rasterio.errors.RasterioError, OSError):
        return False


def on_grid_crs(
    frame: gpd.GeoDataFrame | pd.DataFrame, uri: str, labels: Labels, geobox: GeoBox
) -> gpd.GeoDataFrame:
    """Keep the geometries whose [labels] field is set, in the CRS of a grid.

    Parameters
    ----------
    frame : GeoDataFrame or DataFrame
        A table without geometries is read as points; see `points.to_points`.

    Raises
    ------
    DataError
        There are no geometries, no such field or no CRS, or the coordinates can't be of it.
    ConfigError
        [labels] crs is not known.
    """
    crs = stated_crs(labels.crs)
    if not isinstance(frame, gpd.GeoDataFrame):
        frame = to_points(frame, uri, crs)
    if labels.field not in frame.columns:
        told = ", ".join(str(name) for name in frame.columns if name != frame.geometry.name)
        raise DataError(
            f"{uri} has no field {labels.field!r}; it has {told}; correct [labels] field."
        )
    return to_grid(check_placed(frame[frame[labels.field].notna()], uri, crs), uri, geobox)
