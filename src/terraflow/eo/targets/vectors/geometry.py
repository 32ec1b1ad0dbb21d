"""Geometries of reference data on a grid: chosen, shrunk and rasterised, whatever they tell."""

from __future__ import annotations

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import shapely
from odc.geo.geobox import GeoBox
from rasterio.features import rasterize
from shapely.geometry import box
from shapely.geometry.base import BaseGeometry

from terraflow.eo.features.grid import crs_name
from terraflow.errors import DataError

__all__ = ["anchors", "burn_rows", "inside", "shrink"]


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
            f"south, east, north in {crs_name(geobox.crs)}); {_cause(frame, extent)}."
        )
    return frame[reaching]


def _cause(frame: gpd.GeoDataFrame, extent: BaseGeometry) -> str:
    """Guess why no geometry lies in the images."""
    degrees = frame.to_crs("EPSG:4326").geometry
    swapped = degrees.map(lambda each: shapely.transform(each, lambda at: at[:, ::-1]))
    swapped = swapped[degrees.map(lambda each: abs(each.centroid.x) <= 90)]
    if swapped.set_crs("EPSG:4326").to_crs(frame.crs).intersects(extent).any():
        return "their x and y seem to be swapped: longitude, or easting, comes first"
    if np.nanmax(np.abs(frame.total_bounds)) <= 360 < np.max(np.abs(extent.bounds)):
        return "their coordinates look like degrees, so that the CRS of their file is not right"
    return "check the area, or [labels] classes"


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
