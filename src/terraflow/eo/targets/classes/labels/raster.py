"""Rasters of class numbers."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import rasterio
from odc.geo.geobox import GeoBox
from rasterio.enums import Resampling
from rasterio.vrt import WarpedVRT

from terraflow.eo.config.sections import Labels
from terraflow.eo.targets.classes.labels.names import check_names
from terraflow.eo.targets.classes.labels.patches import Patches, find_patches
from terraflow.eo.targets.classes.labels.polygons import decode
from terraflow.eo.targets.vectors.account import LabelAccount
from terraflow.errors import DataError
from terraflow.storage import Storage

__all__ = ["RasterLabels", "read_raster"]


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
    account : LabelAccount
        What became of its pixels.
    """

    path: str
    numbers: dict[int, int]
    names: list[str]
    patches: Patches
    account: LabelAccount = field(default_factory=LabelAccount)

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


def read_raster(uri: str, labels: Labels, geobox: GeoBox, storage: Storage) -> RasterLabels:
    """Read a raster of class numbers for a grid.

    Raises
    ------
    DataError
        It has no CRS, or holds no class numbers.
    """
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
    names = check_names(sorted({classes[name] for name in values if name in classes}), uri)
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
