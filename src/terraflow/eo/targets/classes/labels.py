"""Reference data to class numbers on a grid: polygons, points or a raster."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd
import rasterio
from odc.geo.geobox import GeoBox
from rasterio.enums import Resampling
from rasterio.vrt import WarpedVRT

from terraflow.eo.config.labels import Labels
from terraflow.eo.targets.classes.patches import Patches, find_patches
from terraflow.eo.targets.vectors.files import is_raster, on_grid_crs, read_frame
from terraflow.eo.targets.vectors.geometry import anchors, burn_rows, inside, shrink
from terraflow.errors import DataError
from terraflow.storage import Storage

__all__ = ["RasterLabels", "VectorLabels", "class_strata", "read_labels"]

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
        numbers : MaskedArray, shape (y, x), uint8
            1 to n for `names`, masked where there is no label.
        polygons : ndarray, shape (y, x), int32
            Row of `frame`, -1 is none, as for points.
        """
        rows, polygons = burn_rows(self.frame, geobox)
        number = self.frame["class_"].map({n: i + 1 for i, n in enumerate(self.names)})
        numbers = np.append(number.to_numpy("uint8"), np.uint8(0))[rows]  # -1 takes the last, 0
        return np.ma.masked_equal(numbers, 0), polygons

    def decode(self, numbers: npt.NDArray[np.uint8]) -> npt.NDArray[np.object_]:
        """Give the class name of each number."""
        return decode(numbers, self.names)

    def anchors(self) -> npt.NDArray[np.float64]:
        """Give a point within each geometry: float64, shape (geometry, 2), x and y."""
        return anchors(self.frame)


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
    patches : Patches
        Patches of one class, each of which takes the place of a polygon.
    """

    path: str
    numbers: dict[int, int]
    names: list[str]
    patches: Patches

    @property
    def expected(self) -> list[str]:
        """Give no class: a raster may have classes that lie outside of the grid."""
        return []

    def burn(self, geobox: GeoBox) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int32]]:
        """Warp to a part of the grid by the nearest pixel; as `VectorLabels.burn`, with patches."""

        def warp(part: GeoBox) -> npt.NDArray[np.uint8]:
            return _warp(self.path, self.numbers, part)

        return np.ma.masked_equal(warp(geobox), 0), self.patches.burn(warp, geobox)

    def decode(self, numbers: npt.NDArray[np.uint8]) -> npt.NDArray[np.object_]:
        """Give the class name of each number."""
        return decode(numbers, self.names)

    def anchors(self) -> npt.NDArray[np.float64]:
        """Give the centre of a pixel of each patch: float64, shape (patch, 2), x and y."""
        return self.patches.anchors


def decode(numbers: npt.NDArray[np.uint8], names: Sequence[str]) -> npt.NDArray[np.object_]:
    """Give the name of each number, 1 to n for `names`."""
    return np.array(["", *names], dtype=object)[numbers]


def class_strata(reference: pd.Series) -> npt.NDArray[np.object_]:
    """Take each class for a stratum, by which samples are drawn."""
    strata: npt.NDArray[np.object_] = reference.to_numpy(dtype=object)
    return strata


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
        return _raster(uri, labels, geobox, storage)
    return _vector(read_frame(uri, storage, layer=labels.layer), uri, labels, geobox)


def _vector(frame: gpd.GeoDataFrame, uri: str, labels: Labels, geobox: GeoBox) -> VectorLabels:
    frame = on_grid_crs(frame, uri, labels, geobox)
    values = frame[labels.field].map(_name).replace("", None)
    classes = values if labels.classes is None else values.map(labels.classes)
    frame = frame.assign(class_=classes)[classes.notna() & frame.geometry.notna()]
    if frame.empty:
        found = ", ".join(sorted(values.dropna().unique())[:10]) or "nothing"
        raise DataError(
            f"No geometry of {uri} has a class: {labels.field} holds {found}, [labels] "
            f"classes lists {', '.join(labels.classes or []) or 'nothing'}; correct it."
        )
    frame = inside(frame, uri, geobox)
    names = _checked(sorted(frame["class_"].unique()), uri)
    if labels.shrink:
        frame = shrink(frame, labels.shrink, uri)
    return VectorLabels(frame.reset_index(drop=True), names)


def _raster(uri: str, labels: Labels, geobox: GeoBox, storage: Storage) -> RasterLabels:
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
    numbers = {value: place[classes[n]] for n, value in values.items() if n in classes}
    with storage.gdal():
        patches = find_patches(lambda part: _warp(uri, numbers, part), geobox)
    return RasterLabels(uri, numbers, names, patches)


def _warp(path: str, numbers: dict[int, int], geobox: GeoBox) -> npt.NDArray[np.uint8]:
    """Warp class numbers to a grid by the nearest pixel: uint8, shape (y, x), 0 is none."""
    with (
        rasterio.open(path) as file,
        WarpedVRT(
            file,
            crs=str(geobox.crs),
            transform=geobox.affine,
            width=geobox.width,
            height=geobox.height,
            resampling=Resampling.nearest,
            add_alpha=file.nodata is None,  # beyond the raster's edge is not class 0
        ) as warped,
    ):
        values = warped.read(1, masked=True)
    found = np.zeros(values.shape, dtype="uint8")
    for value, number in numbers.items():
        found[(values.data == value) & ~np.ma.getmaskarray(values)] = number
    return found


def _checked(names: list[str], uri: str) -> list[str]:
    if len(names) > MAX_CLASSES:
        raise DataError(
            f"{uri} has {len(names)} classes, more than {MAX_CLASSES}; is [labels] field "
            "the field of the class? Join classes by [labels] classes."
        )
    return names


def _name(value: object) -> str:
    """Write 2.0 as "2": a field of whole numbers with gaps is read as float."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
