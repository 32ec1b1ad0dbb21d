"""STAC items of rasters that have no catalogue."""

from __future__ import annotations

import shlex
import tarfile
import warnings
import zipfile
from datetime import UTC, datetime

import pystac
import rasterio
import rio_stac
from rasterio.errors import RasterioError
from rasterio.io import DatasetReader

from terraflow.eo.images.products.sentinel_2 import find_values
from terraflow.eo.images.rasters.georeference import check_placed
from terraflow.eo.images.sources.local_paths import find_paths
from terraflow.eo.images.sources.names import parse_name
from terraflow.eo.images.sources.solar_days import UNDATED
from terraflow.errors import DataError

__all__ = ["UNDATED", "find_files", "refuse_several"]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def find_files(pattern: str, name_pattern: str = "", date_format: str = "") -> list[pystac.Item]:
    """Make items of files, by the dates and bands in their names.

    Files whose names are the same, apart from what `name_pattern` matches, and of one date are the
    bands of one item. Without a band in the names each file is an item with the asset "image",
    whose bands are "image.1", "image.2" ..., or go by their descriptions in the file. ESA's images
    of Sentinel-2 are scaled as their product's metadata, their names or their dates tell.

    Parameters
    ----------
    pattern : str
        Local paths, as "/data/scenes/**/*.jp2"; any raster that GDAL reads.
    name_pattern, date_format : str
        As for `names.parse_name`.

    Returns
    -------
    list of pystac.Item
        Undated ones have the datetime 1970-01-01 and the property "terraflow:undated".

    Raises
    ------
    DataError
        No file, one that is no raster or can't be placed, a name that does not fit, dates in some
        names only, two files for one band, or a product's metadata that can't be read.
    """
    paths, folder = find_paths(pattern)
    if not paths:
        raise DataError(
            f"No file matches {pattern}; correct [data] files, a local path that may hold * and **."
        )
    scenes: dict[tuple[str, datetime | None], dict[str, str]] = {}
    for path in paths:
        scene, date, band = parse_name(path, name_pattern, date_format, folder)
        bands = scenes.setdefault((scene, date), {})
        if band in bands:
            raise DataError(
                f"{bands[band]} and {path} are both {band} of one scene, {scene}; make [data] "
                "name_pattern tell them apart, or [data] files choose one."
            )
        bands[band] = path
    undated = [bands for (_, date), bands in scenes.items() if date is None]
    if undated and len(undated) < len(scenes):
        raise DataError(
            f"{next(iter(undated[0].values()))} has no date in its name, others of {pattern} have; "
            "correct [data] files, name_pattern or date_format."
        )
    return [_make_item(scene, date, bands) for (scene, date), bands in scenes.items()]


def refuse_several(file: DatasetReader, name: str) -> None:
    """See that a file is one image, and no container of several, of which GDAL may open the first.

    Parameters
    ----------
    file : DatasetReader
    name : str
        For the message.

    Raises
    ------
    DataError
        It is netCDF, HDF5, GeoPackage, TIFF ... of several images; the message lists them.
    """
    several = file.subdatasets
    if file.count == 0 or len(several) > 1:
        listed = ", ".join(several[:6]) + (", ..." if several[6:] else "")
        raise DataError(
            f"{name} holds {len(several)} images and no one of its own: {listed or 'none'}; write "
            "those wanted into a file each, as by "
            f"`rio convert {shlex.quote(next(iter(several), file.name))} image.tif`, and name "
            "these in [data] files."
        )


def _make_item(scene: str, date: datetime | None, bands: dict[str, str]) -> pystac.Item:
    items = [_item_of_file(scene, date, band, path) for band, path in bands.items()]
    item = items[0]
    for other in items[1:]:
        for name, asset in other.assets.items():
            item.add_asset(name, asset)
    return item


def _item_of_file(scene: str, date: datetime | None, band: str, path: str) -> pystac.Item:
    try:
        # of rasterio and rio-stac: a file without a grid, which is told here or when it is copied
        with warnings.catch_warnings(action="ignore"), rasterio.open(path) as file:
            refuse_several(file, path)
            check_placed(file, path)
            item: pystac.Item = rio_stac.create_stac_item(
                file,
                input_datetime=date or EPOCH,
                id=scene,
                asset_name=band,
                asset_href=path,
                properties={} if date else {UNDATED: True},
                with_eo=True,
            )
    except RasterioError as error:
        if zipfile.is_zipfile(path) or tarfile.is_tarfile(path):
            raise DataError(
                f"{path} is an archive, of which no image is read; unpack it, and name the images "
                "in [data] files."
            ) from error
        raise DataError(
            f"{path} is no raster that can be read ({error}); correct [data] files, or fetch the "
            "file again."
        ) from error
    if values := find_values(path):
        item.assets[band].extra_fields |= values.fields
        if values.baseline:
            item.properties["s2:processing_baseline"] = values.baseline
    return item
