"""The map as a file: a Cloud Optimized GeoTIFF that tells its classes and where it comes from."""

from __future__ import annotations

import struct
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

import rasterio
import rasterio.shutil
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.crs import CRS
from rasterio.io import DatasetReader, DatasetWriter

from terraflow.errors import DataError
from terraflow.storage import Storage

__all__ = [
    "BANDS",
    "BLOCK_PX",
    "NODATA",
    "MapInfo",
    "category_names",
    "create_map",
    "open_map",
    "read_info",
    "write_cog",
]

BANDS = ("class", "confidence")
#: Of both bands: class 0 and confidence 0 are where no class could be told.
NODATA = 0
BLOCK_PX = 512
_PREFIX = "TERRAFLOW_"
_EXTRA_SAMPLES = 338


@dataclass(frozen=True)
class MapInfo:
    """What a map says of itself.

    Attributes
    ----------
    classes : list of str
        Name of class 1, 2, ...
    colours : list of str
        "#rrggbb" of each.
    shape : tuple of int
        Rows, columns.
    metadata : dict
        As it was given to `create_map`.
    """

    classes: list[str]
    colours: list[str]
    crs: CRS
    transform: Affine
    shape: tuple[int, int]
    metadata: dict[str, str]


@contextmanager
def create_map(
    path: Path,
    geobox: GeoBox,
    classes: Sequence[str],
    colours: Sequence[str],
    metadata: Mapping[str, str],
) -> Iterator[DatasetWriter]:
    """Open a tiled GeoTIFF to be filled window by window, and made a COG by `write_cog`.

    Band 1 is the class, uint8, 1 to n for `classes`; band 2 is the confidence, uint8, 1 to 100 per
    cent; 0 is nodata in both.

    Parameters
    ----------
    colours : sequence of str
        "#rrggbb" of each class.
    metadata : dict
        Goes into the file's tags.
    """
    with rasterio.open(
        path, "w", driver="GTiff", width=geobox.width, height=geobox.height, count=len(BANDS),
        dtype="uint8", crs=str(geobox.crs), transform=geobox.affine, nodata=NODATA, tiled=True,
        blockxsize=BLOCK_PX, blockysize=BLOCK_PX, photometric="MINISBLACK", bigtiff="IF_SAFER",
    ) as file:  # fmt: skip
        file.write_colormap(1, {0: (0, 0, 0, 0)} | {i: _rgba(c) for i, c in enumerate(colours, 1)})
        file.descriptions = BANDS
        file.update_tags(**{_PREFIX + key.upper(): value for key, value in metadata.items()})
        file.update_tags(1, **{f"CLASS_{i}": name for i, name in enumerate(classes, 1)})
        file.update_tags(2, UNIT="per cent, probability of the class")
        yield file


def write_cog(source: Path, target: Path) -> None:
    """Copy what `create_map` made into a COG with overviews: the same bytes for the same content.

    Overviews take the nearest pixel: class numbers have no mean, and so class and confidence of a
    pixel stay together.

    References
    ----------
    https://gdal.org/en/stable/drivers/raster/cog.html
    """
    rasterio.shutil.copy(
        source, target, driver="COG", compress="deflate", blocksize=BLOCK_PX,
        overview_resampling="nearest", bigtiff="IF_SAFER", num_threads="ALL_CPUS",
    )  # fmt: skip
    _unmark_alpha(target)


def category_names(classes: Sequence[str]) -> bytes:
    """Class names as GDAL and QGIS read them from FILE.aux.xml: a GeoTIFF has no place for them.

    References
    ----------
    https://gdal.org/en/stable/user/raster_data_model.html#raster-band
    """
    root = ET.Element("PAMDataset")
    names = ET.SubElement(ET.SubElement(root, "PAMRasterBand", band="1"), "CategoryNames")
    for name in ("nodata", *classes):
        ET.SubElement(names, "Category").text = name
    ET.indent(root)
    document: bytes = ET.tostring(root, encoding="utf-8")
    return document


@contextmanager
def open_map(uri: str, storage: Storage) -> Iterator[DatasetReader]:
    """Open a map for reading.

    Raises
    ------
    DataError
        It is no map that `invoke map` made, or can't be read.
    """
    with storage.gdal(), warnings.catch_warnings():
        # what is no map may have no place either
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        try:
            file = rasterio.open(uri)
        except (rasterio.errors.RasterioError, OSError) as error:
            raise DataError(
                f"{uri} can't be read: {error}; name a map that `invoke map` made, by path or URI."
            ) from error
        with file:
            if file.count != len(BANDS) or f"{_PREFIX}MODEL" not in file.tags():
                raise DataError(
                    f"{uri} does not tell which model it comes from: it is no map of TerraFlow's; "
                    "name one that `invoke map` made."
                )
            yield file


def read_info(uri: str, storage: Storage) -> MapInfo:
    """Read what a map says of itself.

    Raises
    ------
    DataError
        It is no map that `invoke map` made, or can't be read.
    """
    with open_map(uri, storage) as file:
        tags = {k.removeprefix(_PREFIX): v for k, v in file.tags().items() if k.startswith(_PREFIX)}
        band = file.tags(1)
        numbers = range(1, 1 + sum(key.startswith("CLASS_") for key in band))
        palette = file.colormap(1)
        return MapInfo(
            classes=[band[f"CLASS_{i}"] for i in numbers],
            colours=["#{:02x}{:02x}{:02x}".format(*palette[i]) for i in numbers],
            crs=file.crs,
            transform=file.transform,
            shape=file.shape,
            metadata={key.lower(): value for key, value in tags.items()},
        )


def _rgba(colour: str) -> tuple[int, int, int, int]:
    red, green, blue = bytes.fromhex(colour.removeprefix("#"))
    return red, green, blue, 255


def _unmark_alpha(path: Path) -> None:
    """Say of the second sample that it is no alpha.

    GDAL's COG driver takes the band beside a band with a colour table for its opacity, whatever
    the source says, and a viewer would draw uncertain pixels as transparent. The TIFF tag
    ExtraSamples is set to 0, "unspecified", in place, which leaves the layout as it is.

    References
    ----------
    TIFF 6.0, section 2, and ExtraSamples on page 31; BigTIFF, https://www.awaresystems.be/imaging/
    tiff/bigtiff.html; https://github.com/OSGeo/gdal/issues/11377
    """
    with path.open("r+b") as file:

        def number(form: str) -> int:
            return int(struct.unpack(form, file.read(struct.calcsize(form)))[0])

        big = file.read(4) == b"II\x2b\0"
        count, pointer, entry_bytes = ("<Q", "<Q", 20) if big else ("<H", "<I", 12)
        file.seek(8 if big else 4)
        while directory := number(pointer):
            file.seek(directory)
            first = directory + struct.calcsize(count)
            entries = [first + i * entry_bytes for i in range(number(count))]
            for entry in entries:
                file.seek(entry)
                if number("<H") == _EXTRA_SAMPLES:
                    file.seek(entry + entry_bytes - struct.calcsize(pointer))
                    file.write(b"\0\0")
            file.seek(entries[-1] + entry_bytes)
