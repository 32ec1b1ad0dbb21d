"""Reference data to class numbers on a grid: polygons, points or a raster."""

from __future__ import annotations

from odc.geo.geobox import GeoBox

from terraflow.eo.config.labels import Labels
from terraflow.eo.targets.classes.labels.polygons import VectorLabels, read_polygons
from terraflow.eo.targets.classes.labels.raster import RasterLabels, read_raster
from terraflow.eo.targets.vectors.files import is_raster, read_frame
from terraflow.storage import Storage

__all__ = ["read_labels"]


def read_labels(
    uri: str, labels: Labels, geobox: GeoBox, storage: Storage
) -> VectorLabels | RasterLabels:
    """Read reference data for a grid.

    Parameters
    ----------
    uri : str
        Polygons or points in any format OGR reads, reprojected to the grid's CRS, or a raster of
        class numbers that GDAL reads.

    Raises
    ------
    DataError
        The file can't be read, has no CRS or no such field, or lies outside the grid.
    """
    if is_raster(uri, storage):
        return read_raster(uri, labels, geobox, storage)
    return read_polygons(read_frame(uri, storage, labels.layer), uri, labels, geobox)
