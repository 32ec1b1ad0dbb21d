"""Geometries of reference data on a grid: cleaned, chosen and shrunk, whatever they tell."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import shapely
from odc.geo.geobox import GeoBox
from shapely.geometry import box
from shapely.geometry.base import BaseGeometry

from terraflow.eo.config.labels import Labels
from terraflow.eo.features.grid import crs_name
from terraflow.eo.targets.vectors.account import Accounting, LabelAccount
from terraflow.eo.targets.vectors.cleaning import NAME, clean
from terraflow.eo.targets.vectors.overlaps import Shapes, contradiction_text
from terraflow.errors import DataError

__all__ = ["anchors", "lay_out"]

OUTSIDE, SHRUNK, NO_PIXEL = "outside the images", "gone by shrink", "no pixel of their own"


def lay_out(
    frame: gpd.GeoDataFrame,
    uri: str,
    labels: Labels,
    geobox: GeoBox,
    *,
    value: str,
    accounting: Accounting,
) -> tuple[Shapes, list[Any], LabelAccount]:
    """Make geometries ready to be laid on a grid, and tell what became of each.

    Parameters
    ----------
    frame : GeoDataFrame
        Geometries of any kind in the grid's CRS; column `cleaning.NAME`.
    value : str
        Column of what each tells.
    uri : str
        Where they come from, for messages.

    Returns
    -------
    Shapes
    list
        All that those tell that reach the grid, in order, also what is gone by shrink.
    LabelAccount

    Raises
    ------
    DataError
        None is left, or they contradict each other and [labels] overlaps refuses that.
    """
    frame = inside(clean(frame, uri, accounting), uri, geobox, accounting)
    values = np.unique(frame[value].to_numpy()).tolist()
    if labels.shrink:
        frame = shrink(frame, labels.shrink, uri, accounting)
    frame = frame.reset_index(drop=True)
    numbers = np.unique(frame[value].to_numpy(), return_inverse=True)[1]
    shapes = Shapes(frame, numbers, labels.overlaps)
    survey = shapes.survey(geobox)
    if told := contradiction_text(survey, labels.overlaps, uri, geobox):
        accounting.remarks.append(told)
    accounting.drop(NO_PIXEL, frame.loc[~survey.seen, NAME])
    account = accounting.close(
        contradicted=dict(survey.contradicted), contradicted_px=survey.contradicted_px
    )
    return replace(shapes, contradict=bool(survey.contradicted_px)), values, account


def inside(
    frame: gpd.GeoDataFrame, uri: str, geobox: GeoBox, accounting: Accounting
) -> gpd.GeoDataFrame:
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
    accounting.drop(OUTSIDE, frame.loc[~reaching, NAME])
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


def anchors(frame: gpd.GeoDataFrame) -> npt.NDArray[np.float64]:
    """Give a point within each geometry: float64, shape (geometry, 2), x and y."""
    points = frame.geometry.representative_point()
    return np.column_stack([points.x, points.y])


def shrink(
    frame: gpd.GeoDataFrame, distance: float, uri: str, accounting: Accounting
) -> gpd.GeoDataFrame:
    """Make polygons smaller all around, by a distance in the units of the CRS.

    Raises
    ------
    DataError
        None is left.
    """
    areal = frame.geom_type.str.contains("Polygon").to_numpy()
    geometry = np.asarray(frame.geometry.array).copy()
    geometry[areal] = shapely.buffer(geometry[areal], -distance)
    gone = shapely.is_empty(geometry)
    if gone.all():
        unit = "degrees: 10 m are about 0.0001" if frame.crs.is_geographic else "the CRS's unit"
        raise DataError(
            f"No polygon of {uri} is left when shrunk by {distance:g}; lower [labels] shrink, "
            f"which is in the units of the grid's CRS ({unit})."
        )
    accounting.drop(SHRUNK, frame.loc[gone, NAME])
    return frame.set_geometry(gpd.GeoSeries(geometry, frame.index, crs=frame.crs))[~gone]


def _span(bounds: npt.ArrayLike) -> str:
    numbers = np.asarray(bounds, dtype="float64")
    return ", ".join(f"{n:.0f}" if abs(n) > 360 else f"{n:.6g}" for n in numbers)
