"""The map as a file: a Cloud Optimized GeoTIFF that tells its values and where it comes from."""

from __future__ import annotations

import struct
import warnings
from collections.abc import Iterator, Sequence
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

from terraflow.console import command
from terraflow.eo.maps.map_origin import MapOrigin
from terraflow.eo.targets.parts import Band
from terraflow.errors import DataError
from terraflow.storage import Storage

__all__ = [
    "BLOCK_PX",
    "MapInfo",
    "category_names",
    "create_map",
    "open_map",
    "qgis_style",
    "read_info",
    "write_cog",
]

BLOCK_PX = 512
_PREFIX = "TERRAFLOW_"
#: Tags of a band that name its values: CLASS_1, CLASS_2, ...
_NAME = "CLASS_"
_EXTRA_SAMPLES = 338


@dataclass(frozen=True)
class MapInfo:
    """What a map says of itself.

    Attributes
    ----------
    bands : list of Band
    crs : CRS
    transform : Affine
        Pixel to world.
    shape : tuple of int
        Rows, columns.
    origin : MapOrigin
    """

    bands: list[Band]
    crs: CRS
    transform: Affine
    shape: tuple[int, int]
    origin: MapOrigin


@contextmanager
def create_map(
    path: Path, geobox: GeoBox, bands: Sequence[Band], dtype: str, origin: MapOrigin
) -> Iterator[DatasetWriter]:
    """Open a tiled GeoTIFF to be filled window by window, and made a COG by `write_cog`.

    Parameters
    ----------
    bands : sequence of Band
        Of one nodata value, which all bands of a GeoTIFF share.
    dtype : str
        Of all bands.
    """
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        width=geobox.width,
        height=geobox.height,
        count=len(bands),
        dtype=dtype,
        crs=str(geobox.crs),
        transform=geobox.affine,
        nodata=bands[0].nodata,
        tiled=True,
        blockxsize=BLOCK_PX,
        blockysize=BLOCK_PX,
        photometric="MINISBLACK",
        bigtiff="IF_SAFER",
    ) as file:
        if colours := bands[0].colours:
            palette = {value: _rgba(colour) for value, colour in colours.items()}
            file.write_colormap(1, {0: (0, 0, 0, 0)} | palette)
        file.descriptions = tuple(band.name for band in bands)
        if any(band.scale != 1 for band in bands):
            file.scales = tuple(band.scale for band in bands)
        file.update_tags(**{_PREFIX + key.upper(): v for key, v in origin.to_tags().items()})
        for number, band in enumerate(bands, 1):
            names = {f"{_NAME}{value}": name for value, name in band.names.items()}
            tags = band.tags or ({"UNIT": band.unit} if band.unit else {})
            if names or tags:
                file.update_tags(number, **names, **tags)
        yield file


def write_cog(source: Path, target: Path, resampling: str, *, level: int = 6) -> None:
    """Copy what `create_map` made into a COG with overviews: the same bytes for the same content.

    Parameters
    ----------
    resampling : str
        Of overviews, by GDAL's names: the nearest pixel where values have no mean.
    level : int
        Of compression: 1 takes a third of the time of 6, and some per cent more space where values
        are noisy.

    References
    ----------
    https://gdal.org/en/stable/drivers/raster/cog.html
    """
    rasterio.shutil.copy(
        source,
        target,
        driver="COG",
        compress="deflate",
        level=level,
        blocksize=BLOCK_PX,
        overview_resampling=resampling,
        bigtiff="IF_SAFER",
        num_threads="ALL_CPUS",
    )
    _unmark_alpha(target)


def category_names(band: Band) -> bytes:
    """Names of values as GDAL and QGIS read them from FILE.aux.xml: no GeoTIFF has them.

    References
    ----------
    https://gdal.org/en/stable/user/raster_data_model.html#raster-band
    """
    root = ET.Element("PAMDataset")
    names = ET.SubElement(ET.SubElement(root, "PAMRasterBand", band="1"), "CategoryNames")
    for value in range(max(band.names) + 1):  # a name's place is its value
        ET.SubElement(names, "Category").text = band.names.get(value, "" if value else "nodata")
    ET.indent(root)
    document: bytes = ET.tostring(root, encoding="utf-8")
    return document


def qgis_style(band: Band) -> bytes:
    """Style of a map for QGIS (.qml), which takes it where it lies beside the map.

    References
    ----------
    https://docs.qgis.org/latest/en/docs/user_manual/appendices/qgis_file_formats.html
    """
    root = ET.Element("qgis", version="3.34.0", styleCategories="AllStyleCategories")
    renderer = ET.SubElement(
        ET.SubElement(root, "pipe"),
        "rasterrenderer",
        {"type": "paletted", "band": "1", "opacity": "1", "alphaBand": "-1"},
    )
    palette = ET.SubElement(renderer, "colorPalette")
    for value, name in band.names.items():
        entry = {"value": str(value), "label": name, "color": band.colours[value], "alpha": "255"}
        ET.SubElement(palette, "paletteEntry", entry)
    ET.indent(root)
    document: bytes = ET.tostring(root, encoding="utf-8")
    return b"<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n" + document


@contextmanager
def open_map(uri: str, storage: Storage) -> Iterator[DatasetReader]:
    """Open a map for reading.

    Raises
    ------
    DataError
        It is no map that TerraFlow made, or can't be read.
    """
    with storage.gdal(), warnings.catch_warnings():
        # what is no map may have no place either
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        try:
            file = rasterio.open(uri)
        except (rasterio.errors.RasterioError, OSError) as error:
            raise DataError(
                f"{uri} can't be read: {error}; name a map that `{command('map')}` made, "
                "by path or URI."
            ) from error
        with file:
            if f"{_PREFIX}MODEL" not in file.tags():
                raise DataError(
                    f"{uri} does not tell which model it comes from: it is no map of TerraFlow's; "
                    f"name one that `{command('map')}` made."
                )
            yield file


def read_info(uri: str, storage: Storage) -> MapInfo:
    """Read what a map says of itself.

    Raises
    ------
    DataError
        It is no map that TerraFlow made, or can't be read.
    """
    with open_map(uri, storage) as file:
        tags = {k.removeprefix(_PREFIX): v for k, v in file.tags().items() if k.startswith(_PREFIX)}
        try:
            origin = MapOrigin.from_tags({key.lower(): value for key, value in tags.items()})
        except ValueError as error:
            raise DataError(
                f"{uri} does not tell its whole origin ({str(error).splitlines()[1]}); name a map "
                f"that `{command('map')}` made."
            ) from error
        bands = [_read_band(file, number) for number in file.indexes]
        return MapInfo(bands, file.crs, file.transform, file.shape, origin)


def _read_band(file: DatasetReader, number: int) -> Band:
    tags = file.tags(number)
    values = sorted(int(key.removeprefix(_NAME)) for key in tags if key.startswith(_NAME))
    palette = file.colormap(number) if values else {}
    return Band(
        file.descriptions[number - 1] or f"band {number}",
        unit=tags.get("UNIT", ""),
        nodata=file.nodatavals[number - 1],
        names={value: tags[f"{_NAME}{value}"] for value in values},
        colours={value: "#{:02x}{:02x}{:02x}".format(*palette[value]) for value in values},
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
                    file.seek(entry + 4)
                    if number(pointer) > 1:  # of a file without colours, whose bands are no alpha
                        continue
                    file.seek(entry + entry_bytes - struct.calcsize(pointer))
                    file.write(b"\0\0")
            file.seek(entries[-1] + entry_bytes)
