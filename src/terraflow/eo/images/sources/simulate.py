"""A small simulated area: a STAC catalogue like Sentinel-2 L2A's, and reference polygons.

Nothing here is measured. Reflectances are plausible values with noise, so that the whole path from
images to a served model runs on a machine without any data.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pystac
import rasterio
from rasterio.features import shapes
from rasterio.transform import from_origin
from rasterio.warp import transform_bounds
from shapely.geometry import box, mapping, shape
from sklearn.neighbors import NearestNeighbors

from terraflow.eo.config.digests import code_digest, value_digest
from terraflow.storage import Storage, join

__all__ = ["make_area"]

SIZE_PX, PIXEL_M, CRS = 512, 10.0, "EPSG:32633"
WEST_M, NORTH_M = 500_000.0, 5_100_000.0
DATES = [datetime(2024, month, 14, 10, 0, tzinfo=UTC) for month in range(4, 10)]
SCALE, OFFSET, NODATA = 0.0001, -0.1, 0  # as Sentinel-2 L2A since processing baseline 04.00
BANDS_M = {"B02": 10, "B03": 10, "B04": 10, "B08": 10, "B11": 20}
SCENE_M = 20  # pixels of the scene classification
CLOUD, VEGETATION, BARE, WATER = 9, 4, 5, 6  # scene classification values
PARCELS = 260
#: Of a reflectance of 1 in near infrared, of which BANDS_M has the fourth.
YIELD_T_HA, NIR = 25.0, 3

#: Reflectance per band in April and at the height of the season, then the month of that height.
SPECTRA = {
    "water": ((0.06, 0.05, 0.04, 0.02, 0.01), (0.07, 0.06, 0.04, 0.03, 0.01), 7),
    "forest": ((0.03, 0.05, 0.04, 0.22, 0.12), (0.02, 0.05, 0.02, 0.38, 0.15), 7),
    "grassland": ((0.04, 0.07, 0.06, 0.26, 0.20), (0.04, 0.08, 0.05, 0.35, 0.21), 5),
    "cropland": ((0.07, 0.09, 0.11, 0.17, 0.26), (0.03, 0.07, 0.04, 0.42, 0.20), 6),
    "built_up": ((0.11, 0.13, 0.15, 0.19, 0.24), (0.11, 0.13, 0.15, 0.21, 0.24), 7),
}
SHARES = (0.08, 0.32, 0.25, 0.25, 0.10)

Pixels = npt.NDArray[Any]


def make_area(storage: Storage, root: str, *, seed: int) -> tuple[str, str]:
    """Write the simulated area into the store, unless it is there.

    Parameters
    ----------
    storage : Storage
        Where to write.
    root : str
        URI of a folder.
    seed : int
        Same seed, same files.

    Returns
    -------
    catalogue, labels : str
        URIs of catalog.json and of labels.gpkg (EPSG:32633; fields class_name, parcel, and
        yield_t_ha, a number in t/ha that is known to follow from near infrared at its height).

    Raises
    ------
    StorageError
        The store can't be written.
    """
    version = value_digest([seed, code_digest([__name__])])[:12]
    uri = join(root, f"simulated-{version}")
    catalogue, labels = join(uri, "catalog.json"), join(uri, "labels.gpkg")
    if not storage.exists(catalogue):
        with storage.scratch() as folder:
            _write_area(folder, np.random.default_rng(seed))
            storage.upload_folder(folder, uri, last="catalog.json")
    return catalogue, labels


def _write_area(folder: Path, random: np.random.Generator) -> None:
    parcels = _voronoi(random)
    classes = random.choice(len(SPECTRA), size=PARCELS, p=SHARES)
    classes[: len(SPECTRA)] = np.arange(len(SPECTRA))  # none is missing
    surveyed = random.random(PARCELS) < 1 / 3
    surveyed[: len(SPECTRA)] = True
    catalogue = pystac.Catalog(
        "simulated-sentinel-2", "Simulated images in the form of Sentinel-2 L2A; not measured."
    )
    # parcels of one class differ: in their season by weeks, in their brightness, band by band
    delay = random.normal(0, 0.8, PARCELS)
    brightness = random.normal(1.0, 0.22, (PARCELS, len(BANDS_M)))
    for date in DATES:
        spectra = np.array([_spectrum(classes[i], date.month - delay[i]) for i in range(PARCELS)])
        item = _write_scene(
            folder,
            date,
            parcels=parcels,
            classes=classes,
            spectra=spectra * brightness,
            random=random,
        )
        catalogue.add_item(item)
    height = np.array([_spectrum(kind, list(SPECTRA.values())[kind][2]) for kind in classes])
    yields = YIELD_T_HA * (height * brightness)[:, NIR] + random.normal(0, 0.3, PARCELS)
    _write_labels(folder / "labels.gpkg", parcels, classes, yields.clip(0), surveyed)
    catalogue.normalize_hrefs(str(folder))
    catalogue.make_all_asset_hrefs_relative()
    catalogue.save(catalog_type=pystac.CatalogType.SELF_CONTAINED)


def _voronoi(random: np.random.Generator) -> npt.NDArray[np.int32]:
    """Draw parcels and number them: int32, shape (y, x)."""
    centres = random.uniform(0, SIZE_PX, (PARCELS, 2))
    grid = np.mgrid[:SIZE_PX, :SIZE_PX].reshape(2, -1).T
    nearest = NearestNeighbors(n_neighbors=1).fit(centres).kneighbors(grid, return_distance=False)
    numbers: npt.NDArray[np.int32] = nearest.reshape(SIZE_PX, SIZE_PX).astype("int32")
    return numbers


def _write_labels(
    path: Path,
    parcels: npt.NDArray[np.int32],
    classes: npt.NDArray[np.int64],
    yields: npt.NDArray[np.float64],
    surveyed: npt.NDArray[np.bool_],
) -> None:
    """Write every third parcel, shrunk by 15 m, as a surveyor would."""
    transform = from_origin(WEST_M, NORTH_M, PIXEL_M, PIXEL_M)
    mask = surveyed[parcels]
    names = list(SPECTRA)
    rows = [
        {
            "parcel": int(value),
            "class_name": names[classes[int(value)]],
            "yield_t_ha": round(float(yields[int(value)]), 2),
            "geometry": shape(outline),
        }
        for outline, value in shapes(parcels, mask=mask, transform=transform)
    ]
    frame = gpd.GeoDataFrame(rows, crs=CRS)
    frame["geometry"] = frame.buffer(-15)
    frame[~frame.is_empty].to_file(path, driver="GPKG", layer="labels")
    with closing(sqlite3.connect(path)) as database, database:
        # GDAL writes the time of the change: same seed, same bytes
        database.execute("UPDATE gpkg_contents SET last_change = ?", (f"{DATES[-1]:%FT%T.000Z}",))


def _write_scene(
    folder: Path,
    date: datetime,
    *,
    parcels: npt.NDArray[np.int32],
    classes: npt.NDArray[np.int64],
    spectra: npt.NDArray[np.float64],
    random: np.random.Generator,
) -> pystac.Item:
    identifier = f"SIMULATED_{date:%Y%m%d}"
    (folder / identifier).mkdir()
    cloud = _clouds(random)
    gap = np.zeros_like(cloud)
    if date.month % 2:  # every other date an orbit's edge leaves a gap
        gap[:, : random.integers(20, 90)] = True
    item = _item(identifier, date, cloud_cover=float(100 * cloud.mean()))
    for index, (band, gsd) in enumerate(BANDS_M.items()):
        reflectance = spectra[:, index][parcels]
        reflectance += random.normal(0, 0.02, reflectance.shape)
        reflectance = np.where(cloud, random.uniform(0.5, 0.8), reflectance)
        seen = _blocks(np.ma.masked_array(reflectance, gap), gsd).mean(axis=-1)
        digital = np.clip(np.rint((seen - OFFSET) / SCALE), 1, 65535).filled(NODATA)
        _add_asset(item, folder, band, digital.astype("uint16"), gsd, scaled=True)
    kind = np.where(np.isin(classes, [0]), WATER, np.where(classes == 4, BARE, VEGETATION))
    scene = _scene_classes(kind[parcels], cloud, gap)
    _add_asset(item, folder, "SCL", scene, SCENE_M, scaled=False)
    return item


def _blocks(pixels: Pixels, gsd: int) -> Pixels:
    """Group the pixels that a larger one covers: shape (y, x, pixel)."""
    step = int(gsd / PIXEL_M)
    rows, columns = (size // step for size in pixels.shape)
    blocks = pixels.reshape(rows, step, columns, step).swapaxes(1, 2)
    return blocks.reshape(rows, columns, step * step)


def _scene_classes(
    kind: npt.NDArray[np.int64], cloud: npt.NDArray[np.bool_], gap: npt.NDArray[np.bool_]
) -> npt.NDArray[np.uint8]:
    """Classify larger pixels by most of what they cover; any cloud or gap makes them one."""
    codes = np.array([VEGETATION, BARE, WATER])
    most = np.stack([_blocks(kind == code, SCENE_M).sum(axis=-1) for code in codes]).argmax(axis=0)
    scene = np.where(_blocks(cloud, SCENE_M).any(axis=-1), CLOUD, codes[most])
    return np.where(_blocks(gap, SCENE_M).any(axis=-1), NODATA, scene).astype("uint8")


def _clouds(random: np.random.Generator) -> npt.NDArray[np.bool_]:
    """Draw round clouds: bool, shape (y, x)."""
    y, x = np.mgrid[:SIZE_PX, :SIZE_PX]
    cloud = np.zeros((SIZE_PX, SIZE_PX), dtype=bool)
    for _ in range(int(random.integers(3, 12))):
        row, column = random.uniform(0, SIZE_PX, 2)
        cloud |= (y - row) ** 2 + (x - column) ** 2 < random.uniform(15, 70) ** 2
    return cloud


def _spectrum(number: int, month: float) -> npt.NDArray[np.float64]:
    start, height, best = list(SPECTRA.values())[number]
    season = np.exp(-(((month - best) / 1.6) ** 2))
    result: npt.NDArray[np.float64] = (1 - season) * np.array(start) + season * np.array(height)
    return result


def _item(identifier: str, date: datetime, *, cloud_cover: float) -> pystac.Item:
    edge = SIZE_PX * PIXEL_M
    bounds = transform_bounds(CRS, "EPSG:4326", WEST_M, NORTH_M - edge, WEST_M + edge, NORTH_M)
    return pystac.Item(
        identifier,
        geometry=mapping(box(*bounds)),
        bbox=list(bounds),
        datetime=date,
        properties={
            "proj:code": CRS,
            "eo:cloud_cover": round(cloud_cover, 1),
            "simulated": True,
            "description": "Simulated, not measured",
        },
        stac_extensions=[
            "https://stac-extensions.github.io/projection/v2.0.0/schema.json",
            "https://stac-extensions.github.io/eo/v1.1.0/schema.json",
            "https://stac-extensions.github.io/raster/v1.1.0/schema.json",
        ],
    )


def _add_asset(
    item: pystac.Item,
    folder: Path,
    band: str,
    pixels: npt.NDArray[np.generic],
    gsd: int,
    *,
    scaled: bool,
) -> None:
    path = folder / item.id / f"{band}.tif"
    transform = from_origin(WEST_M, NORTH_M, gsd, gsd)
    with rasterio.open(
        path,
        "w",
        driver="COG",
        width=pixels.shape[1],
        height=pixels.shape[0],
        count=1,
        dtype=pixels.dtype,
        crs=CRS,
        transform=transform,
        nodata=NODATA,
        compress="deflate",
    ) as file:
        file.write(pixels, 1)
    raster = {"nodata": NODATA, "data_type": str(pixels.dtype), "spatial_resolution": gsd}
    if scaled:
        raster |= {"scale": SCALE, "offset": OFFSET}
    item.add_asset(
        band,
        pystac.Asset(
            str(path),
            media_type=pystac.MediaType.COG,
            roles=["data"],
            extra_fields={
                "gsd": gsd,
                "proj:shape": list(pixels.shape),
                "proj:transform": list(transform)[:6],
                "raster:bands": [raster],
            },
        ),
    )
