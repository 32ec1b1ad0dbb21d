"""Vector data of any format: read, in the CRS of a grid."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit
from zipfile import BadZipFile

import geopandas as gpd
import pandas as pd
import rasterio
from odc.geo.geobox import GeoBox
from shapely.errors import ShapelyError

from terraflow.eo.config.addresses import local_path
from terraflow.eo.config.labels import Labels
from terraflow.eo.targets.vectors.coordinates import in_crs, placed, stated_crs
from terraflow.eo.targets.vectors.formats import read_layer, unpacked, why
from terraflow.eo.targets.vectors.layers import choose, find_layers
from terraflow.eo.targets.vectors.points import to_points
from terraflow.eo.targets.vectors.purpose import AREAS, LABELS, Purpose
from terraflow.errors import DataError, nearest
from terraflow.storage import Storage

__all__ = ["is_raster", "on_grid_crs", "read_areas", "read_frame"]

#: Signs in a path that pyogrio takes for the end of an archive's name, or of the path.
UNREAD = {"!", ";"}
#: Files that belong to a shapefile.
BESIDE = (".shx", ".dbf", ".prj", ".cpg")


def read_frame(
    uri: str, storage: Storage, layer: str | None = None, purpose: Purpose = LABELS
) -> gpd.GeoDataFrame | pd.DataFrame:
    """Read vector data: in any format OGR reads, GeoParquet or Feather, also in a zip or folder.

    Parameters
    ----------
    uri : str
        Path, file://, s3:// or https://.
    layer : str or None
        Which of several tables; None needs one alone that serves.

    Returns
    -------
    GeoDataFrame or DataFrame
        Without geometries where the table has none.

    Raises
    ------
    DataError
        They can't be read, or the layer is not there, or it is not told which of several is meant.
    StorageError
        What is not local is not there.
    """
    with _at_hand(uri, storage, purpose) as (path, folder):
        try:
            with warnings.catch_warnings(action="ignore"):  # those that matter are errors
                found = choose(find_layers(unpacked(path, folder)), layer or "", purpose, uri)
                return read_layer(found)
        except (ValueError, RuntimeError, OSError, BadZipFile, ShapelyError) as error:
            raise DataError(
                f"{purpose.what} {uri} can't be read: {why(error, path)}; expected "
                f"{purpose.expected}."
            ) from error


def read_areas(uri: str, layer: str, storage: Storage) -> gpd.GeoDataFrame | pd.DataFrame:
    """Read [map] areas; see `read_frame`.

    Raises
    ------
    DataError
        They can't be read, or have no CRS that their coordinates can be of.
    """
    frame = read_frame(uri, storage, layer, AREAS)
    return placed(frame, uri, AREAS) if isinstance(frame, gpd.GeoDataFrame) else frame


def is_raster(uri: str, storage: Storage) -> bool:
    """Tell whether GDAL reads it as a raster.

    Raises
    ------
    DataError
        A local file is not there.
    """
    if path := local_path(uri):
        _check_there(path, LABELS)
    try:
        with (
            storage.gdal(),
            warnings.catch_warnings(
                action="ignore", category=rasterio.errors.NotGeoreferencedWarning
            ),
            rasterio.open(path or uri) as file,
        ):
            # GDAL takes a table of regular x, y and numbers for a raster
            return bool(file.count) and file.driver != "XYZ"
    except (rasterio.errors.RasterioError, OSError):
        return False


def on_grid_crs(
    frame: gpd.GeoDataFrame | pd.DataFrame, uri: str, labels: Labels, geobox: GeoBox
) -> gpd.GeoDataFrame:
    """Keep the geometries whose [labels] field is set, in the CRS of a grid.

    Parameters
    ----------
    frame : GeoDataFrame or DataFrame
        A table without geometries is read as points; see `points.to_points`.

    Raises
    ------
    DataError
        There are no geometries, no such field, or no CRS that the coordinates can be of.
    ConfigError
        [labels] crs is not known.
    """
    crs = stated_crs(labels.crs)
    if not isinstance(frame, gpd.GeoDataFrame):
        frame = to_points(frame, uri, crs)
    names = [str(name) for name in frame.columns]
    if labels.field not in names:
        raise DataError(
            f"{uri} has no field {labels.field!r}; it has {', '.join(names)}; "
            "correct [labels] field."
        )
    if names.count(labels.field) > 1:
        raise DataError(
            f"{uri} has {names.count(labels.field)} columns {labels.field!r}; give each a name of "
            "its own."
        )
    frame = placed(frame, uri, LABELS, crs)
    return in_crs(frame[frame[labels.field].notna()], uri, geobox)


@contextmanager
def _at_hand(uri: str, storage: Storage, purpose: Purpose) -> Iterator[tuple[Path, Path]]:
    """Give a local file or folder of the same name, and a folder to unpack it in."""
    with storage.scratch() as scratch:
        folder = scratch / "unpacked"
        folder.mkdir()
        if path := local_path(uri):
            _check_there(path, purpose)
            yield (_linked(Path(path), scratch) if UNREAD & set(path) else Path(path)), folder
            return
        name = unquote(urlsplit(uri).path) if uri.startswith("http") else uri
        here = scratch / Path(name).name
        here.write_bytes(storage.read(uri))
        if here.suffix.lower() == ".shp":
            for ending in BESIDE:
                other = f"{uri[:-4]}{ending}"
                if storage.exists(other):
                    here.with_suffix(ending).write_bytes(storage.read(other))
        yield here, folder


def _linked(path: Path, scratch: Path) -> Path:
    """Link a file, and those beside it of its name, by a name that is read as it is."""
    plain = path.stem.translate(dict.fromkeys(map(ord, UNREAD), "_"))
    for beside in path.parent.iterdir():
        if beside.stem == path.stem:
            (scratch / f"{plain}{beside.suffix}").symlink_to(beside)
    return scratch / f"{plain}{path.suffix}"


def _check_there(path: str, purpose: Purpose) -> None:
    """See that a local file is there, else tell where was looked, and what is like it there."""
    file = Path(path)
    if file.exists():
        return
    if archive := next((above for above in file.parents if above.is_file()), None):
        inside = file.relative_to(archive).with_suffix("").as_posix()
        raise DataError(
            f"{purpose.what} {path} do not exist, since {archive} is a file; name {archive} as "
            f"{purpose.source}, and {inside} as {purpose.layer}."
        )
    there = [entry.name for entry in file.parent.iterdir()] if file.parent.is_dir() else []
    holds = f"holds {', '.join(nearest(file.name, there)) or 'nothing of a like name'}"
    if not file.parent.is_dir():
        holds = "does not exist either"
    raise DataError(
        f"{purpose.what} {path} do not exist, and the folder {file.parent} {holds}; correct "
        f"{purpose.source} in the configuration."
    )
