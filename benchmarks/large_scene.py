"""Seconds and peak memory of `preprocess` on a large simulated stack: bands x dates x side².

    python benchmarks/large_scene.py --side 5490 --folder /tmp/scene

The stack is made once and kept in the folder. Nothing in it is measured.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import time
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import geopandas as gpd
import numpy as np
import pystac
import rasterio
from rasterio.transform import from_origin
from scene import BANDS, CLASSES, CRS, NORTH_M, PIXEL_M, WEST_M
from shapely.geometry import box

from terraflow import settings
from terraflow.console import say
from terraflow.eo.config.project_file import ProjectConfig
from terraflow.storage import Storage

PARCEL_PX = 61
DATES = [datetime(2024, month, 15, tzinfo=UTC) for month in range(4, 10)]


def make_stack(folder: Path, side: int) -> None:
    """Write one GeoTIFF a band and date, and polygons."""
    items = []
    random = np.random.default_rng(0)
    parcels = -(-side // PARCEL_PX)
    classes = random.integers(0, CLASSES, (parcels, parcels))
    grid = np.kron(classes, np.ones((PARCEL_PX, PARCEL_PX), "uint8"))[:side, :side]
    spectra = random.integers(500, 4000, (len(DATES), len(BANDS), CLASSES))
    noise = random.integers(0, 256, (side, side), dtype="uint16")
    transform = from_origin(WEST_M, NORTH_M, PIXEL_M, PIXEL_M)
    for t, date in enumerate(DATES):
        item = pystac.Item(
            f"S{t}",
            None,
            None,
            date,
            {"proj:code": CRS, "proj:shape": [side, side], "proj:transform": list(transform)[:6]},
            stac_extensions=["https://stac-extensions.github.io/projection/v2.0.0/schema.json"],
        )
        clear = np.where(np.roll(noise, 7919 * t) < 230, 4, 9).astype("uint8")
        images = {
            band: (spectra[t, b][grid] + np.roll(noise, 104_729 * (b + 10 * t))).astype("uint16")
            for b, band in enumerate(BANDS)
        }
        for name, image in (images | {"scl": clear}).items():
            path = folder / item.id / f"{name}.tif"
            path.parent.mkdir(parents=True, exist_ok=True)
            with rasterio.open(
                path,
                "w",
                driver="GTiff",
                width=side,
                height=side,
                count=1,
                dtype=image.dtype,
                crs=CRS,
                transform=transform,
                nodata=0,
                tiled=True,
                blockxsize=512,
                blockysize=512,
                compress="deflate",
                zlevel=1,
                num_threads=2,
            ) as file:
                file.write(image, 1)
            raster = {"nodata": 0, "data_type": str(image.dtype)}
            if name != "scl":
                raster |= {"scale": 0.0001}
            item.add_asset(name, pystac.Asset(str(path), extra_fields={"raster:bands": [raster]}))
        items.append(item)
    _write_labels(folder / "labels.gpkg", classes, random)
    (folder / "items.json").write_text(json.dumps(pystac.ItemCollection(items).to_dict()))


def _write_labels(path: Path, classes: np.ndarray, random: np.random.Generator) -> None:
    rows, columns = np.nonzero(random.random(classes.shape) < 0.05)
    step = PARCEL_PX * PIXEL_M
    boxes = [
        box(
            WEST_M + x * step + 30,
            NORTH_M - (y + 1) * step + 30,
            WEST_M + (x + 1) * step - 30,
            NORTH_M - y * step - 30,
        )
        for y, x in zip(rows, columns, strict=True)
    ]
    names = [f"class {number}" for number in classes[rows, columns]]
    gpd.GeoDataFrame({"class_name": names}, geometry=boxes, crs=CRS).to_file(path)


def project_of(folder: Path) -> ProjectConfig:
    """Configure the stack."""
    return ProjectConfig.model_validate(
        {
            "name": "large-scene",
            "data": {"catalogue": str(folder / "items.json"), "bands": {b: b for b in BANDS}},
            "cloud_mask": {"asset": "scl", "clear": [4]},
            "labels": {"source": str(folder / "labels.gpkg"), "samples_per_class": 2500},
            "features": {"indices": ["NDVI"]},
            "validation": {"block_size_px": 256},
        }
    )


def main() -> None:
    """Make the stack if it is not there, preprocess it, and print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=5490, help="pixels")
    parser.add_argument("--folder", type=Path, required=True)
    options = parser.parse_args()
    folder = options.folder.absolute() / str(options.side)
    if not (folder / "items.json").exists():
        say(f"Making {len(DATES)} dates of {len(BANDS)} bands, {options.side} x {options.side} px")
        folder.mkdir(parents=True, exist_ok=True)
        # in a process of its own, so that making it does not count as memory used
        with ProcessPoolExecutor(1) as pool:
            pool.submit(make_stack, folder, options.side).result()
    os.environ |= {"TERRAFLOW_STORE": "local", "TERRAFLOW_VAR": str(folder / "var")}
    # late, as all that reads the environment above
    from terraflow.eo.hooks import Hooks  # noqa: PLC0415
    from terraflow.eo.images.collection import Images  # noqa: PLC0415
    from terraflow.eo.samples.preprocess import preprocess  # noqa: PLC0415

    storage = Storage(settings.load())
    began = time.monotonic()
    images = Images(items=str(folder / "items.json"), labels=str(folder / "labels.gpkg"))
    preprocess(project_of(folder), Hooks(), images, storage)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    figures = {
        "side_px": options.side,
        "bands": len(BANDS),
        "dates": len(DATES),
        "seconds": round(time.monotonic() - began, 1),
        "peak_mb": round(peak / 1e6),
        "processors": os.cpu_count(),
    }
    say(json.dumps(figures))


if __name__ == "__main__":
    main()
