"""Scenes of 96 x 96 pixels and their labels: three classes in blocks of 12 pixels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import rasterio
from affine import Affine
from rasterio.enums import ColorInterp
from rasterio.transform import from_origin
from shapely.geometry import box, mapping

SIDE, BLOCK = 96, 12
CLASSES = ("water", "crop", "forest")
CRS = "EPSG:32633"
GRID = from_origin(500_000, 5_100_000, 10, 10)
#: Reflectance of blue, green, red and nir.
REFLECTANCE = {
    "water": (0.06, 0.05, 0.03, 0.02),
    "crop": (0.08, 0.12, 0.10, 0.30),
    "forest": (0.03, 0.05, 0.04, 0.45),
}
REFLECTANCE_BANDS = ("blue", "green", "red", "nir")
Numbers = npt.NDArray[Any]


def block_classes() -> Numbers:
    """Class of each block: shape (8, 8), str; 15 of water, 15 of crop, 34 of forest."""
    order = np.random.default_rng(0).permutation(64)
    names = np.repeat(np.array(CLASSES, object), (15, 15, 34))
    return names[order].reshape(8, 8)


def truth() -> Numbers:
    """Class of each pixel: shape (96, 96), str."""
    return block_classes().repeat(BLOCK, axis=0).repeat(BLOCK, axis=1)


def reflectance(seed: int = 0) -> Numbers:
    """Reflectance of each pixel, with a little noise: shape (band, y, x), float64."""
    names = truth()
    values = np.stack([np.vectorize(lambda n, b=b: REFLECTANCE[n][b])(names) for b in range(4)])
    return values + np.random.default_rng(seed).uniform(-0.005, 0.005, values.shape)


def labels(
    *, crs: str = CRS, grid: Affine = GRID, margin: int = 2, names: dict[str, str] | None = None
) -> gpd.GeoDataFrame:
    """Make a square in the middle of each block: 64 of 8 x 8 pixels, with the field class_name."""
    squares, classes = [], []
    for (row, column), name in np.ndenumerate(block_classes()):
        left, top = column * BLOCK + margin, row * BLOCK + margin
        side = BLOCK - 2 * margin
        (x0, y0), (x1, y1) = grid * (left, top), grid * (left + side, top + side)
        squares.append(box(min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)))
        classes.append((names or {}).get(name, name))
    return gpd.GeoDataFrame({"class_name": classes}, geometry=squares, crs=crs)


def write_scene(
    path: Path,
    values: Numbers,
    *,
    nodata: float | None = None,
    crs: str | None = CRS,
    grid: Affine = GRID,
    hidden: Numbers | None = None,
    mask: str | None = None,
    south_up: bool = False,
    scale: float | None = None,
    offset: float | None = None,
    **options: Any,
) -> None:
    """Write a raster of one or several bands.

    Parameters
    ----------
    values : ndarray, shape (band, y, x) or (y, x)
        Stored as they are.
    hidden : ndarray, shape (y, x), bool
        Where the mask says that nothing is valid.
    mask : str, optional
        "alpha", a last band; "internal" or "msk", a mask in the file or beside it.
    """
    values = values if values.ndim == 3 else values[None]
    count = len(values)
    if mask == "alpha":
        most = np.iinfo(values.dtype).max if values.dtype.kind in "iu" else 255
        values = np.concatenate([values, np.where(hidden, 0, most)[None].astype(values.dtype)])
    if south_up:
        values = values[:, ::-1]
        grid = grid * Affine(1, 0, 0, 0, -1, values.shape[1])
    path.parent.mkdir(parents=True, exist_ok=True)
    profile = {"driver": "GTiff", "count": len(values), "dtype": values.dtype, "crs": crs}
    size = {"height": values.shape[1], "width": values.shape[2], "transform": grid}
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=mask == "internal"),
        rasterio.open(path, "w", nodata=nodata, **profile, **size, **options) as file,
    ):
        if mask == "alpha":  # before anything is written: later it is left out of the file
            grey = [ColorInterp.gray] + [ColorInterp.undefined] * (count - 1)
            file.colorinterp = [*grey, ColorInterp.alpha]
        file.write(values)
        if mask in ("internal", "msk"):
            valid = ~hidden if hidden is not None else np.ones(values.shape[1:], bool)
            file.write_mask(valid[::-1] if south_up else valid)
        if scale is not None or offset is not None:
            file.scales, file.offsets = [scale or 1] * file.count, [offset or 0] * file.count


def write_catalogue(
    folder: Path,
    items: list[dict[str, Any]],
    *,
    dtype: str = "float32",
    **options: Any,
) -> None:
    """Write an item collection, catalogue.json, with one file a band.

    Parameters
    ----------
    items : list of dict
        Of each its id, collection, values (band, y, x), day ("2024-05-14"), scale, offset, nodata
        as the item tells them, and properties.
    options
        As for `write_scene`, for each file.
    """
    features = []
    for number, one in enumerate(items):
        assets = {}
        for band, name in enumerate(REFLECTANCE_BANDS):
            href = one.get("href", "item{number}_{band}.tif").format(number=number, band=name)
            write_scene(folder / href, one["values"][band].round(4).astype(dtype), **options)
            told = {key: one[key] for key in ("scale", "offset", "nodata") if key in one}
            assets[name] = {"href": f"./{href}", "raster:bands": [told]}
        properties = {"datetime": f"{one.get('day', '2024-05-14')}T10:00:31Z"}
        west, south, east, north = (
            gpd.GeoSeries([labels().union_all()], crs=CRS).to_crs("EPSG:4326").total_bounds
        )
        features.append(
            {
                "type": "Feature",
                "stac_version": "1.0.0",
                "id": one.get("id", f"item{number}"),
                "collection": one.get("collection"),
                "geometry": mapping(box(west, south, east, north)),
                "bbox": [west, south, east, north],
                "properties": properties | one.get("properties", {}),
                "links": [],
                "assets": assets,
            }
        )
    text = json.dumps({"type": "FeatureCollection", "features": features})
    (folder / "catalogue.json").write_text(text)
