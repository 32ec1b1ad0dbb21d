"""Small fields, and a static STAC catalogue of GeoTIFFs over them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

import geopandas as gpd
import numpy as np
import pystac
import rasterio
from affine import Affine
from rasterio.features import shapes
from rasterio.warp import transform_bounds
from scipy.spatial import cKDTree
from shapely.geometry import box, mapping, shape

SIZE_PX, CRS = 96, "EPSG:32633"
TRANSFORM = Affine(10, 0, 500_000, 0, -10, 5_100_000)
BOUNDS = (500_000, 5_100_000 - 10 * SIZE_PX, 500_000 + 10 * SIZE_PX, 5_100_000)


def draw_fields(random: np.random.Generator, count: int) -> np.ndarray:
    """Number the field of each pixel: int32, shape (y, x)."""
    centres = random.uniform(0, SIZE_PX, (count, 2))
    grid = np.mgrid[:SIZE_PX, :SIZE_PX].reshape(2, -1).T
    return cKDTree(centres).query(grid)[1].reshape(SIZE_PX, SIZE_PX).astype("int32")


def mean_of_fields(values: np.ndarray, fields: np.ndarray) -> np.ndarray:
    """Mean of an image in each field: shape (field,)."""
    return np.bincount(fields.ravel(), values.ravel()) / np.bincount(fields.ravel())


def write_fields(path: Path, fields: np.ndarray, **columns: np.ndarray) -> None:
    """Write every other field, shrunk by 5 m, with a value of each column for each field."""
    rows = [
        {"number": int(number), "geometry": shape(outline).buffer(-5)}
        for outline, number in shapes(fields, mask=fields % 2 == 0, transform=TRANSFORM)
    ]
    frame = gpd.GeoDataFrame(rows, crs=CRS)
    frame = frame[~frame.is_empty]
    frame.assign(**{name: v[frame["number"]] for name, v in columns.items()}).to_file(path)


def write_raster(path: Path, values: np.ndarray) -> None:
    """Write float32 with NaN for nodata."""
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        width=SIZE_PX,
        height=SIZE_PX,
        count=1,
        dtype="float32",
        crs=CRS,
        transform=TRANSFORM,
        nodata=np.nan,
    ) as file:
        file.write(values.astype("float32"), 1)


def write_catalogue(folder: Path, scenes: Mapping[datetime, Mapping[str, np.ndarray]]) -> None:
    """Write catalog.json, and an item with an asset for each band for each date."""
    catalogue = pystac.Catalog("simulated", "Simulated images; not measured.")
    bounds = transform_bounds(CRS, "EPSG:4326", *BOUNDS)
    for date, bands in scenes.items():
        item = pystac.Item(
            f"SIMULATED_{date:%Y%m%d}",
            mapping(box(*bounds)),
            list(bounds),
            date,
            {"simulated": True},
        )
        (folder / item.id).mkdir()
        for name, values in bands.items():
            path = folder / item.id / f"{name}.tif"
            write_raster(path, values)
            item.add_asset(name, pystac.Asset(str(path), media_type=pystac.MediaType.GEOTIFF))
        catalogue.add_item(item)
    catalogue.normalize_hrefs(str(folder))
    catalogue.make_all_asset_hrefs_relative()
    catalogue.save(catalog_type=pystac.CatalogType.SELF_CONTAINED)
