"""Reference data to class numbers on a grid: polygons, points or a raster."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import rasterio
from odc.geo.geobox import GeoBox
from rasterio.enums import Resampling
from rasterio.features import rasterize
from rasterio.vrt import WarpedVRT
from shapely.geometry import box

from terraflow.eo.config.sections import Labels
from terraflow.eo.features.grid import crs_name
from terraflow.errors import DataError
from terraflow.storage import Storage

__all__ = ["RasterLabels", "VectorLabels", "read_labels"]

MAX_CLASSES = 255


@dataclass(frozen=True)
class VectorLabels:
    """Polygons or points.

    Attributes
    ----------
    frame : GeoDataFrame
        In the grid's CRS, index 0 to n - 1, column `class_`.
    names : list of str
        Name of class 1, 2, ...: of those that reach the grid.
    """

    frame: gpd.GeoDataFrame
    names: list[str]

    @property
    def expected(self) -> list[str]:
        """Classes that must be found on the grid."""
        return self.names

    def burn(self, geobox: GeoBox) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int32]]:
        """Rasterise: a pixel takes the polygon that holds its centre, or the point in it.

        Returns
        -------
        numbers : ndarray, shape (y, x), uint8
            1 to n for `names`, 0 is no label.
        polygons : ndarray, shape (y, x), int32
            Row of `frame`, -1 is none, as for points.
        """
        here = self.frame[self.frame.intersects(box(*geobox.boundingbox.bbox))]
        shape = (geobox.height, geobox.width)
        rows = np.full(shape, -1, dtype="int32")
        if len(here):
            rasterize(zip(here.geometry, here.index, strict=True), out=rows,
                      transform=geobox.affine)  # fmt: skip
        number = self.frame["class_"].map({n: i + 1 for i, n in enumerate(self.names)})
        numbers = np.append(number.to_numpy("uint8"), np.uint8(0))[rows]  # -1 takes the last, 0
        areal = np.append(self.frame.geom_type.str.contains("Polygon").to_numpy(), False)[rows]
        return numbers, np.where(areal, rows, -1).astype("int32")

    def anchors(self) -> npt.NDArray[np.float64]:
        """Give a point within each geometry: float64, shape (geometry, 2), x and y."""
        points = self.frame.geometry.representative_point()
        return np.column_stack([points.x, points.y])


@dataclass(frozen=True)
class RasterLabels:
    """A raster of class numbers.

    Attributes
    ----------
    path : str
        As GDAL opens it.
    numbers : dict
        Value in the raster to 1 to n for `names`.
    names : list of str
        Name of class 1, 2, ...
    """

    path: str
    numbers: dict[int, int]
    names: list[str]

    @property
    def expected(self) -> list[str]:
        """Give no class: a raster may have classes that lie outside of the grid."""
        return []

    def burn(self, geobox: GeoBox) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int32]]:
        """Warp to a grid by the nearest pixel; as `VectorLabels.burn`, with no polygon."""
        with (
            rasterio.open(self.path) as file,
            WarpedVRT(
                file, crs=str(geobox.crs), transform=geobox.affine, width=geobox.width,
                height=geobox.height, resampling=Resampling.nearest,
                add_alpha=file.nodata is None,  # beyond the raster's edge is not class 0
            ) as warped,
        ):  # fmt: skip
            values = warped.read(1, masked=True)
        numbers = np.zeros(values.shape, dtype="uint8")
        for value, number in self.numbers.items():
            numbers[(values.data == value) & ~np.ma.getmaskarray(values)] = number
        return numbers, np.full(values.shape, -1, dtype="int32")

    def anchors(self) -> npt.NDArray[np.float64]:
        """Give no point: there are no polygons; shape (0, 2)."""
        return np.empty((0, 2))


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
    if "://" not in uri and not Path(uri).exists():
        raise DataError(f"Labels {uri} do not exist; correct [labels] source in the configuration.")
    if _is_raster(uri, storage):
        return _raster(uri, labels, storage)
    return _vector(_read_frame(uri, storage), uri, labels, geobox)


def _vector(frame: gpd.GeoDataFrame, uri: str, labels: Labels, geobox: GeoBox) -> VectorLabels:
    if not isinstance(frame, gpd.GeoDataFrame):
        raise DataError(
            f"{uri} has no geometries, only {', '.join(frame.columns)}; expected polygons or "
            "points in a format OGR reads, or a raster that GDAL reads."
        )
    if labels.class_field not in frame.columns:
        raise DataError(
            f"{uri} has no field {labels.class_field!r}; it has {', '.join(frame.columns)}; "
            "correct [labels] class_field."
        )
    if frame.crs is None:
        raise DataError(f"{uri} has no CRS; add one to the file, as ogr2ogr's -a_srs does.")
    frame = frame[frame[labels.class_field].notna()].to_crs(str(geobox.crs))
    values = frame[labels.class_field].map(_name).replace("", None)
    classes = values if labels.classes is None else values.map(labels.classes)
    frame = frame.assign(class_=classes)[classes.notna() & frame.geometry.notna()]
    if frame.empty:
        found = ", ".join(sorted(values.dropna().unique())[:10]) or "nothing"
        raise DataError(
            f"No geometry of {uri} has a class: {labels.class_field} holds {found}, [labels] "
            f"classes lists {', '.join(labels.classes or []) or 'nothing'}; correct it."
        )
    extent = box(*geobox.boundingbox.bbox)
    inside = frame.intersects(extent)
    if not inside.any():
        raise DataError(
            f"None of the {len(frame)} labelled geometries of {uri} lies in the images: labels "
            f"span {_span(frame.total_bounds)}, images {_span(geobox.boundingbox.bbox)} (west, "
            f"south, east, north in {crs_name(geobox.crs)}); check the area, or [labels] classes."
        )
    frame = frame[inside]
    names = _checked(sorted(frame["class_"].unique()), uri)
    if labels.shrink:
        frame = _shrink(frame, labels.shrink, uri)
    return VectorLabels(frame.reset_index(drop=True), names)


def _shrink(frame: gpd.GeoDataFrame, distance: float, uri: str) -> gpd.GeoDataFrame:
    areal = frame.geom_type.str.contains("Polygon")
    geometry = frame.geometry.where(~areal, frame.geometry.buffer(-distance))
    frame = frame.set_geometry(geometry)[~geometry.is_empty]
    if frame.empty:
        raise DataError(
            f"No polygon of {uri} is left when shrunk by {distance:g}; lower [labels] shrink, "
            "which is in the units of the grid's CRS."
        )
    return frame


def _is_raster(uri: str, storage: Storage) -> bool:
    try:
        with storage.gdal(), rasterio.open(uri) as file:
            return bool(file.count)
    except (rasterio.errors.RasterioError, OSError):
        return False


def _raster(uri: str, labels: Labels, storage: Storage) -> RasterLabels:
    with storage.gdal(), rasterio.open(uri) as file:
        if file.crs is None:
            raise DataError(f"{uri} has no CRS; add one to the file, as gdal_edit's -a_srs does.")
        found = set()
        for _, window in file.block_windows(1):
            found |= set(np.unique(file.read(1, window=window, masked=True).compressed()))
    if fractions := [value for value in found if value != int(value)]:
        raise DataError(
            f"{uri} holds {fractions[0]:g}, which is no class number; whole numbers are expected."
        )
    values = {str(int(value)): int(value) for value in sorted(found)}
    classes = labels.classes if labels.classes is not None else {name: name for name in values}
    names = _checked(sorted({classes[name] for name in values if name in classes}), uri)
    place = {name: i + 1 for i, name in enumerate(names)}
    return RasterLabels(
        uri, {value: place[classes[n]] for n, value in values.items() if n in classes}, names
    )


def _checked(names: list[str], uri: str) -> list[str]:
    if len(names) > MAX_CLASSES:
        raise DataError(
            f"{uri} has {len(names)} classes, more than {MAX_CLASSES}; is [labels] class_field "
            "the field of the class? Join classes by [labels] classes."
        )
    return names


def _read_frame(uri: str, storage: Storage) -> gpd.GeoDataFrame:
    try:
        if "://" not in uri:
            return gpd.read_file(uri)
        data = storage.read(uri)
        with storage.scratch() as folder:
            path = folder / Path(uri).name
            path.write_bytes(data)
            return gpd.read_file(path)
    except (ValueError, RuntimeError) as error:
        raise DataError(
            f"Labels {uri} can't be read: {error}; expected polygons or points in a format OGR "
            "reads, or a raster that GDAL reads."
        ) from error


def _name(value: object) -> str:
    """Write 2.0 as "2": a field of whole numbers with gaps is read as float."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _span(bounds: npt.ArrayLike) -> str:
    return ", ".join(f"{value:.0f}" for value in np.asarray(bounds))
