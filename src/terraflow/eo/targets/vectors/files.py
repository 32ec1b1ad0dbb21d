"""Vector data of any format: read, in the CRS of a grid."""

from __future__ import annotations

from pathlib import Path

import geopandas as gpd
import pandas as pd
import rasterio
from odc.geo.geobox import GeoBox

from terraflow.eo.config.sections import Labels
from terraflow.eo.targets.vectors.points import stated_crs, to_points
from terraflow.errors import DataError
from terraflow.storage import Storage

__all__ = ["is_raster", "on_grid_crs", "read_frame"]


def read_frame(uri: str, storage: Storage, *, what: str = "Labels") -> gpd.GeoDataFrame:
    """Read vector data in any format OGR reads.

    Parameters
    ----------
    what : str
        What they are, for messages.

    Raises
    ------
    DataError
        They can't be read.
    """
    try:
        if "://" not in uri:
            return gpd.read_file(uri)
        data = storage.read(uri)
        with storage.scratch() as folder:
            path = folder / Path(uri).name
            path.write_bytes(data)
            return gpd.read_file(path)
    except (ValueError, RuntimeError) as error:
        expected = "polygons in a format OGR reads"
        if what == "Labels":
            expected = "polygons or points in a format OGR reads, or a raster that GDAL reads"
        raise DataError(f"{what} {uri} can't be read: {error}; expected {expected}.") from error


def is_raster(uri: str, storage: Storage) -> bool:
    """Tell whether GDAL reads it as a raster.

    Raises
    ------
    DataError
        A local file is not there.
    """
    if "://" not in uri and not Path(uri).exists():
        raise DataError(f"Labels {uri} do not exist; correct [labels] source in the configuration.")
    try:
        with storage.gdal(), rasterio.open(uri) as file:
            # GDAL takes a table of regular x, y and numbers for a raster
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
        There are no geometries, no such field or no CRS.
    ConfigError
        [labels] crs is not known.
    """
    crs = stated_crs(labels.crs)
    if not isinstance(frame, gpd.GeoDataFrame):
        frame = to_points(frame, uri, crs)
    if labels.field not in frame.columns:
        raise DataError(
            f"{uri} has no field {labels.field!r}; it has {', '.join(frame.columns)}; "
            "correct [labels] field."
        )
    if frame.crs is None and crs is not None:
        frame = frame.set_crs(crs)
    if frame.crs is None:
        raise DataError(
            f"{uri} has no CRS; add one to the file, as ogr2ogr's -a_srs does, or set [labels] crs."
        )
    return frame[frame[labels.field].notna()].to_crs(str(geobox.crs))
