"""Vector reference data on a grid: read, checked, shrunk and rasterised, whatever they tell."""

from __future__ import annotations

from pathlib import Path

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd
import rasterio
from odc.geo.geobox import GeoBox
from rasterio.features import rasterize
from shapely.geometry import box

from terraflow.eo.config.sections import Labels
from terraflow.eo.features.grid import crs_name
from terraflow.eo.targets.points import stated_crs, to_points
from terraflow.errors import DataError
from terraflow.storage import Storage

__all__ = ["anchors", "burn_rows", "inside", "is_raster", "on_grid_crs", "read_frame", "shrink"]


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


def inside(frame: gpd.GeoDataFrame, uri: str, geobox: GeoBox) -> gpd.GeoDataFrame:
    """Keep the geometries that reach a grid, in whose CRS they are.

    Raises
    ------
    DataError
        None does; the message gives both extents.
    """
    extent = box(*geobox.boundingbox.bbox)
    reaching = frame.intersects(extent)
    if not reaching.any():
        raise DataError(
            f"None of the {len(frame)} labelled geometries of {uri} lies in the images: labels "
            f"span {_span(frame.total_bounds)}, images {_span(geobox.boundingbox.bbox)} (west, "
            f"south, east, north in {crs_name(geobox.crs)}); check the area, or [labels] classes."
        )
    return frame[reaching]


def burn_rows(
    frame: gpd.GeoDataFrame, geobox: GeoBox
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """Rasterise: a pixel takes the polygon that holds its centre, or the point in it.

    Parameters
    ----------
    frame : GeoDataFrame
        In the grid's CRS, index 0 to n - 1.

    Returns
    -------
    rows : ndarray, shape (y, x), int32
        Row of the frame, -1 is none.
    polygons : ndarray, shape (y, x), int32
        The same, -1 for points too.
    """
    here = frame[frame.intersects(box(*geobox.boundingbox.bbox))]
    rows = np.full((geobox.height, geobox.width), -1, dtype="int32")
    if len(here):
        shapes = zip(here.geometry, here.index, strict=True)
        rasterize(shapes, out=rows, transform=geobox.affine)
    areal = np.append(frame.geom_type.str.contains("Polygon").to_numpy(), False)[rows]
    return rows, np.where(areal, rows, -1).astype("int32")


def anchors(frame: gpd.GeoDataFrame) -> npt.NDArray[np.float64]:
    """Give a point within each geometry: float64, shape (geometry, 2), x and y."""
    points = frame.geometry.representative_point()
    return np.column_stack([points.x, points.y])


def shrink(frame: gpd.GeoDataFrame, distance: float, uri: str) -> gpd.GeoDataFrame:
    """Make polygons smaller all around, by a distance in the units of the CRS.

    Raises
    ------
    DataError
        None is left.
    """
    areal = frame.geom_type.str.contains("Polygon")
    geometry = frame.geometry.where(~areal, frame.geometry.buffer(-distance))
    frame = frame.set_geometry(geometry)[~geometry.is_empty]
    if frame.empty:
        raise DataError(
            f"No polygon of {uri} is left when shrunk by {distance:g}; lower [labels] shrink, "
            "which is in the units of the grid's CRS."
        )
    return frame


def _span(bounds: npt.ArrayLike) -> str:
    return ", ".join(f"{value:.0f}" for value in np.asarray(bounds))
