"""Reference polygons to class numbers on a grid."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import geopandas as gpd
import numpy as np
import numpy.typing as npt
from odc.geo.geobox import GeoBox
from rasterio.features import rasterize
from shapely.geometry import box

from terraflow.errors import DataError
from terraflow.storage import Storage

from .config import Labels

__all__ = ["BurntLabels", "burn_labels"]

MAX_CLASSES = 255


@dataclass(frozen=True)
class BurntLabels:
    """Classes on a grid.

    Attributes
    ----------
    numbers : ndarray, shape (y, x), uint8
        1 to n, 0 is no label.
    names : list of str
        Name of class 1, 2, ...
    """

    numbers: npt.NDArray[np.uint8]
    names: list[str]


def burn_labels(uri: str, labels: Labels, geobox: GeoBox, storage: Storage) -> BurntLabels:
    """Read polygons and rasterise them: a pixel takes the polygon that holds its centre.

    Parameters
    ----------
    uri : str
        Polygons in any format OGR reads; reprojected to the grid's CRS.
    geobox : GeoBox
        The grid.

    Raises
    ------
    DataError
        The file can't be read, has no CRS or no such field, or lies outside the grid.
    """
    frame = _read(uri, storage)
    if labels.class_field not in frame.columns:
        raise DataError(
            f"{uri} has no field {labels.class_field!r}; it has {', '.join(frame.columns)}; "
            "correct [labels] class_field."
        )
    if frame.crs is None:
        raise DataError(f"{uri} has no CRS; add one to the file, as ogr2ogr's -a_srs does.")
    frame = frame[frame[labels.class_field].notna()].to_crs(str(geobox.crs))
    classes = frame[labels.class_field].map(_name)
    if labels.classes is not None:
        classes = classes.map(labels.classes)
    frame = frame.assign(class_=classes)[classes.notna() & frame.geometry.notna()]
    outside = frame[~frame.intersects(box(*geobox.boundingbox.bbox))]
    if len(outside) == len(frame):
        raise DataError(
            f"None of the {len(frame)} labelled polygons of {uri} lies in the images: labels span "
            f"{_span(frame.total_bounds)}, images {_span(geobox.boundingbox.bbox)} (west, south, "
            f"east, north in {_crs_name(geobox)}); check the area, or [labels] classes."
        )
    names = sorted(frame["class_"].unique())
    if len(names) > MAX_CLASSES:
        raise DataError(
            f"{uri} has {len(names)} classes in {labels.class_field!r}, more than {MAX_CLASSES}; "
            "is that the field of the class? Join classes by [labels] classes."
        )
    numbers = rasterize(
        zip(frame.geometry, frame["class_"].map({n: i + 1 for i, n in enumerate(names)}),
            strict=True),
        out_shape=(geobox.height, geobox.width),
        transform=geobox.affine,
        dtype="uint8",
    )  # fmt: skip
    return BurntLabels(numbers, names)


def _read(uri: str, storage: Storage) -> gpd.GeoDataFrame:
    data = storage.read(uri) if "://" in uri else None
    try:
        if data is None:
            if not Path(uri).exists():
                raise DataError(
                    f"Labels {uri} do not exist; correct [labels] source in the configuration."
                )
            return gpd.read_file(uri)
        with storage.scratch() as folder:
            path = folder / Path(uri).name
            path.write_bytes(data)
            return gpd.read_file(path)
    except (ValueError, RuntimeError) as error:
        raise DataError(
            f"Labels {uri} can't be read: {error}; expected polygons in a format OGR reads."
        ) from error


def _name(value: object) -> str:
    """Write 2.0 as "2": a field of whole numbers with gaps is read as float."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _crs_name(geobox: GeoBox) -> str:
    code = geobox.crs.epsg if geobox.crs else None
    return f"EPSG:{code}" if code else "the images' own CRS"


def _span(bounds: npt.ArrayLike) -> str:
    return ", ".join(f"{value:.0f}" for value in np.asarray(bounds))
