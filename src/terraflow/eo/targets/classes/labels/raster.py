"""Rasters of class numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pandas as pd
import rasterio
from odc.geo.geobox import GeoBox
from rasterio._err import CPLE_BaseError  # which rasterio raises of some files as it is
from rasterio.enums import ColorInterp
from rasterio.io import DatasetReader
from rasterio.windows import Window

from terraflow.eo.config.addresses import without_query
from terraflow.eo.config.labels import Labels
from terraflow.eo.features.warp import Warp
from terraflow.eo.images.rasters.georeference import check_placed
from terraflow.eo.images.rasters.validity import Validity
from terraflow.eo.targets.classes.labels.names import (
    MAX_CLASSES,
    NOT_LISTED,
    check_names,
    name_classes,
)
from terraflow.eo.targets.classes.labels.patches import Patches, find_patches
from terraflow.eo.targets.classes.labels.polygons import decode
from terraflow.eo.targets.vectors.account import Accounting, LabelAccount
from terraflow.errors import DataError
from terraflow.storage import Storage

__all__ = ["RasterLabels", "read_raster"]

#: So many of the raster's own pixels are in memory at a time, or what one pixel of the grid covers.
MOST_PX = 4096**2
Numbers = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class RasterLabels:
    """A raster of class numbers.

    Attributes
    ----------
    path : str
        As GDAL opens it.
    band : int
        From 1.
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
    band: int
    numbers: dict[int, int]
    names: list[str]
    patches: Patches
    account: LabelAccount = field(default_factory=LabelAccount)

    @property
    def expected(self) -> list[str]:
        """Give no class: a raster may have classes that lie outside of the grid."""
        return []

    def burn(self, geobox: GeoBox) -> tuple[Numbers, npt.NDArray[np.int32]]:
        """Warp to a part of the grid by the nearest pixel; as `VectorLabels.burn`, with patches."""
        with _opened(self.path) as file:

            def warp(part: GeoBox) -> Numbers:
                return _warp(file, self.band, self.numbers, part)

            return np.ma.masked_equal(warp(geobox), 0), self.patches.burn(warp, geobox)

    def decode(self, numbers: Numbers) -> npt.NDArray[np.object_]:
        """Give the class name of each number."""
        return decode(numbers, self.names)

    def anchors(self) -> npt.NDArray[np.float64]:
        """Give the centre of a pixel of each patch: float64, shape (patch, 2), x and y."""
        return self.patches.anchors


def read_raster(uri: str, labels: Labels, geobox: GeoBox, storage: Storage) -> RasterLabels:
    """Read a raster of class numbers for a grid.

    A pixel that the file marks as none is no label, by whichever means: nodata, a mask within the
    file or beside it, an alpha band; nor is one that is NaN or infinite.

    Raises
    ------
    DataError
        It can't be placed, has several bands of which [labels] band chooses none, holds numbers
        that are no class numbers, or lies outside of the grid.
    """
    accounting = Accounting("pixels")
    with storage.gdal(), _opened(uri) as file:
        check_placed(file, f"Labels {without_query(uri)}")
        band = _band(file, uri, labels.band)
        if Warp.plan(_grid(file), geobox, "nearest") is None:
            raise DataError(
                f"No pixel of {uri} lies in the images; check the area, or the CRS of the file, "
                f"{file.crs.to_string()[:60]}."
            )
        found = _count(file, band, uri, labels)
        named = name_classes(pd.Series(sorted(found)), labels.classes, accounting)
        listed = {
            int(v): name for v, name in zip(sorted(found), named.classes, strict=True) if name
        }
        for value, number in found.items():
            accounting.read[listed.get(value, str(value))] += number
            if value not in listed:
                accounting.dropped.setdefault(NOT_LISTED, Counter())[str(value)] += number
        if not listed:
            values = ", ".join(map(str, sorted(found)[:10])) or "nothing"
            raise DataError(
                f"No pixel of {uri} has a class: it holds {values}, [labels] classes lists "
                f"{', '.join(labels.classes or []) or 'nothing'}; correct it."
            )
        names = check_names(list(listed.values()), uri)
        numbers = {value: names.index(name) + 1 for value, name in listed.items()}
        patches = find_patches(lambda part: _warp(file, band, numbers, part), geobox)
    return RasterLabels(uri, band, numbers, names, patches, accounting.close())


@contextmanager
def _opened(uri: str) -> Iterator[DatasetReader]:
    # a mask beside a local file is found by listing its folder
    options = {} if "://" in uri else {"GDAL_DISABLE_READDIR_ON_OPEN": "FALSE"}
    try:
        with rasterio.Env(**options), rasterio.open(uri) as file:
            yield file
    except (rasterio.errors.RasterioError, CPLE_BaseError, OSError) as error:
        raise DataError(f"Labels {uri} can't be read: {error}; correct [labels] source.") from error


def _band(file: DatasetReader, uri: str, asked: int | None) -> int:
    """Choose the band, of those that are no alpha band."""
    known = {
        number: file.descriptions[number - 1] or meaning.name
        for number, meaning in enumerate(file.colorinterp, start=1)
        if meaning != ColorInterp.alpha
    }
    told = ", ".join(f"{number} ({name})" for number, name in known.items())
    if asked is not None and asked not in known:
        raise DataError(
            f"{uri} has no band {asked} of classes; it has {told}; correct [labels] band."
        )
    if asked is None and len(known) != 1:
        raise DataError(
            f"{uri} has {len(known)} bands, {told}, of which one holds the class numbers; name it, "
            "as [labels] band = 1."
        )
    return asked or next(iter(known))


def _count(file: DatasetReader, band: int, uri: str, labels: Labels) -> Counter[int]:
    """Count the pixels of each value that is a label, block by block."""
    validity, found = Validity.of(file, band), Counter[int]()
    for _, window in file.block_windows(band):
        data = file.read(band, window=window)
        values, numbers = np.unique(data[~validity.missing(file, data, window)], return_counts=True)
        if values.dtype.kind == "f" and (values % 1 != 0).any():
            raise DataError(
                f"{uri} holds {values[values % 1 != 0][0]:g}, which is no class number; whole "
                "numbers are expected: name a raster of classes, and resample it by the nearest "
                "pixel alone."
            )
        found.update(dict(zip(map(int, values), numbers.tolist(), strict=True)))
        if labels.classes is None and len(found) > MAX_CLASSES:
            raise DataError(
                f"{uri} has more than {MAX_CLASSES} classes, from {min(found)} to {max(found)}; "
                "is it a raster of classes? Then join them by [labels] classes, as "
                f'{{ "{min(found)}" = "forest" }}; values that it does not list are ignored.'
            )
    return found


def _grid(file: DatasetReader) -> GeoBox:
    return GeoBox(file.shape, file.transform, file.crs.to_wkt())


def _warp(file: DatasetReader, band: int, numbers: Mapping[int, int], geobox: GeoBox) -> Numbers:
    """Warp class numbers to a grid by the nearest pixel: uint8, shape (y, x), 0 is none."""
    warp = Warp.plan(_grid(file), geobox, "nearest")
    if warp is None:
        return np.zeros(geobox.shape, "uint8")
    if warp.tile.width * warp.tile.height > MOST_PX and max(geobox.shape) > 1:
        axis = int(geobox.width > geobox.height)
        half = geobox.shape[axis] // 2
        parts = [geobox[:, :half], geobox[:, half:]] if axis else [geobox[:half], geobox[half:]]
        return np.concatenate([_warp(file, band, numbers, part) for part in parts], axis=axis)
    known = np.full(warp.tile.shape, np.nan, "float32")
    corner = warp.tile.affine.c, warp.tile.affine.f
    column, row = (round(place) for place in ~warp.image.affine * corner)
    left, top = max(column, 0), max(row, 0)
    right = min(column + warp.tile.width, file.width)
    bottom = min(row + warp.tile.height, file.height)
    found = _encode(file, band, numbers, Window(left, top, right - left, bottom - top))
    known[top - row : bottom - row, left - column : right - column] = found
    known[known == 0] = np.nan
    return np.nan_to_num(warp.apply(known)).astype("uint8")


def _encode(file: DatasetReader, band: int, numbers: Mapping[int, int], window: Window) -> Numbers:
    """Read class numbers of the raster's own pixels: uint8, shape (y, x), 0 is none."""
    data = file.read(band, window=window)
    values = np.array(sorted(numbers)).astype(data.dtype)
    places = np.searchsorted(values, data).clip(max=len(values) - 1)
    missing = Validity.of(file, band).missing(file, data, window)
    found = np.array([numbers[value] for value in sorted(numbers)], dtype="uint8")[places]
    return np.where((values[places] == data) & ~missing, found, 0).astype("uint8")
