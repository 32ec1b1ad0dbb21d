"""A simulated scene whose every pixel's class is known. Nothing in it is measured."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import rasterio
from rasterio.transform import from_origin
from rasterio.windows import Window

__all__ = [
    "BANDS",
    "CLASSES",
    "CRS",
    "NORTH_M",
    "PIXEL_M",
    "WEST_M",
    "Scene",
    "make_scene",
]

CRS, WEST_M, NORTH_M, PIXEL_M = "EPSG:32633", 500_000, 5_100_000, 10
CLASSES, PARCEL_PX, TRAINING_PX = 8, 40, 20_000
BANDS = (
    "coastal",
    "blue",
    "green",
    "red",
    "rededge071",
    "rededge075",
    "rededge078",
    "nir",
    "swir16",
    "swir22",
)
STRIP_PX = 512


@dataclass(frozen=True)
class Scene:
    """Files of a scene.

    Attributes
    ----------
    image : Path
        GeoTIFF, uint16, one band for each of BANDS, tiled, deflate, nodata 0.
    truth : Path
        GeoTIFF, uint8, class 1 to 8 of every pixel.
    points : Path
        GeoPackage of training pixels, field class_name.
    side_px : int
    """

    image: Path
    truth: Path
    points: Path
    side_px: int


def make_scene(folder: Path, side_px: int) -> Scene:
    """Write the scene, unless it is there."""
    scene = Scene(folder / "scene.tif", folder / "truth.tif", folder / "points.gpkg", side_px)
    if not scene.points.exists():
        folder.mkdir(parents=True, exist_ok=True)
        _write(scene, np.random.default_rng(0))
    return scene


def _write(scene: Scene, random: np.random.Generator) -> None:
    side, parcels = scene.side_px, -(-scene.side_px // PARCEL_PX)
    classes = random.integers(1, CLASSES + 1, (parcels, parcels), dtype="uint8")
    # parcels of one class differ, and pixels of one parcel: classes overlap
    spectra = 1500 + random.normal(0, 110, (CLASSES + 1, len(BANDS)))
    spread = random.normal(0, 60, (parcels, parcels, len(BANDS)))
    grid = {
        "driver": "GTiff",
        "width": side,
        "height": side,
        "crs": CRS,
        "tiled": True,
        "transform": from_origin(WEST_M, NORTH_M, PIXEL_M, PIXEL_M),
        "compress": "deflate",
        "zlevel": 1,
        "num_threads": 2,
    }
    columns = np.arange(side) // PARCEL_PX
    with (
        rasterio.open(
            scene.image, "w", count=len(BANDS), dtype="uint16", nodata=0, interleave="band", **grid
        ) as image,
        rasterio.open(scene.truth, "w", count=1, dtype="uint8", **grid) as truth,
    ):
        image.descriptions = BANDS
        for top in range(0, side, STRIP_PX):
            rows = np.arange(top, min(top + STRIP_PX, side)) // PARCEL_PX
            window = Window(0, top, side, len(rows))
            of_parcel = classes[np.ix_(rows, columns)]
            truth.write(of_parcel, 1, window=window)
            for band in range(len(BANDS)):
                mean = spectra[of_parcel, band] + spread[..., band][np.ix_(rows, columns)]
                noise = random.normal(0, 110, mean.shape)
                image.write(
                    np.clip(mean + noise, 1, 65535).astype("uint16"), band + 1, window=window
                )
    _write_points(scene, classes, random)


def _write_points(
    scene: Scene, classes: npt.NDArray[np.uint8], random: np.random.Generator
) -> None:
    pixels = random.choice(scene.side_px**2, min(TRAINING_PX, scene.side_px**2), replace=False)
    rows, columns = np.divmod(pixels, scene.side_px)
    names = [f"class {n}" for n in classes[rows // PARCEL_PX, columns // PARCEL_PX]]
    x = WEST_M + (columns + 0.5) * PIXEL_M
    y = NORTH_M - (rows + 0.5) * PIXEL_M
    frame = gpd.GeoDataFrame({"class_name": names}, geometry=gpd.points_from_xy(x, y), crs=CRS)
    frame.to_file(scene.points)
