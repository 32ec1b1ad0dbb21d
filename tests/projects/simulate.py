"""Simulated images and labels of the two projects: a static catalogue of GeoTIFFs each."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path

import geopandas as gpd
import numpy as np
import pystac
from shapely.geometry import box

from area import CRS, TRANSFORM, write_raster
from harness import ROOT

SIZE_PX, PIXEL_M, FIELD_PX = 96, 10, 12
WEST_M, NORTH_M = TRANSFORM.c, TRANSFORM.f


def add_item(
    catalogue: pystac.Catalog, folder: Path, day: str, bands: dict[str, np.ndarray]
) -> None:
    item = pystac.Item(
        day,
        None,
        None,
        datetime.fromisoformat(day).replace(tzinfo=UTC),
        {
            "proj:code": CRS,
            "proj:shape": [SIZE_PX, SIZE_PX],
            "proj:transform": list(TRANSFORM)[:6],
            "simulated": True,
        },
        stac_extensions=["https://stac-extensions.github.io/projection/v2.0.0/schema.json"],
    )
    for name, values in bands.items():
        path = folder / day / f"{name}.tif"
        write_raster(path, values.astype("float32"), float("nan"))
        item.add_asset(name, pystac.Asset(str(path)))
    catalogue.add_item(item)


def save(catalogue: pystac.Catalog, folder: Path) -> None:
    catalogue.normalize_hrefs(str(folder))
    catalogue.save(pystac.CatalogType.SELF_CONTAINED)


def square(row: int, column: int, size: int) -> object:
    west, north = WEST_M + column * PIXEL_M, NORTH_M - row * PIXEL_M
    return box(west, north - size * PIXEL_M, west + size * PIXEL_M, north)


def simulate_flood(folder: Path) -> None:
    """Draw a river whose flood darkens radar backscatter, in dB with speckle of four looks."""
    random = np.random.default_rng(1)
    y, x = np.mgrid[:SIZE_PX, :SIZE_PX]
    distance = abs(y - 48 - 14 * np.sin(x / 15))
    flooded = distance < 16
    slope = np.clip((distance - 12) * 0.4, 0, None) + random.gamma(1, 0.5, flooded.shape)
    write_raster(folder / "slope.tif", slope.astype("float32"))
    catalogue = pystac.Catalog("radar", "Simulated backscatter in dB; not measured.")
    for number, day in enumerate(("2024-06-03", "2024-06-09", "2024-06-15", "2024-06-21")):
        bands = {}
        for name, (dry, wet) in {"vv": (-9, -16), "vh": (-15, -23)}.items():
            speckle = 10 * np.log10(random.gamma(4, 1 / 4, flooded.shape))
            bands[name] = np.where(flooded, wet, dry) + speckle
            bands[name][:, : 5 * number] = np.nan  # an orbit's edge
        add_item(catalogue, folder, day, bands)
    save(catalogue, folder)
    rows = []
    for row in range(0, SIZE_PX, 8):
        for column in range(0, SIZE_PX, 8):
            inside = flooded[row : row + 8, column : column + 8]
            if inside.all() or not inside.any():
                state = "flooded" if inside.all() else "dry"
                rows.append({"state": state, "geometry": square(row, column, 8)})
    gpd.GeoDataFrame(rows, crs=CRS).to_file(folder / "labels.gpkg")


def simulate_crop_yield(folder: Path) -> None:
    """Draw fields and districts.

    Yield follows the height of a field's season, with an effect of each field that no image tells.
    """
    random = np.random.default_rng(2)
    side = SIZE_PX // FIELD_PX
    vigour = random.uniform(0.2, 0.9, (side, side))
    harvest = 2 + 8 * vigour + random.normal(0, 0.5, vigour.shape)
    pixels = np.kron(vigour, np.ones((FIELD_PX, FIELD_PX)))
    catalogue = pystac.Catalog("optical", "Simulated reflectances; not measured.")
    for month, season in zip(range(4, 9), (0.3, 0.7, 1.0, 0.8, 0.4), strict=True):
        noise = random.normal(0, 0.01, (2, *pixels.shape))
        bands = {"red": 0.12 - 0.08 * pixels * season, "nir": 0.2 + 0.3 * pixels * season}
        bands = {name: values + noise[i] for i, (name, values) in enumerate(bands.items())}
        for values in bands.values():
            values[:4, :4] = np.nan
        add_item(catalogue, folder, f"2024-{month:02}-14", bands)
    save(catalogue, folder)
    rows = [
        {
            "field": f"field {row * side + column + 1}",
            "yield_t_ha": harvest[row, column],
            "geometry": square(row * FIELD_PX, column * FIELD_PX, FIELD_PX),
        }
        for row in range(side)
        for column in range(side)
    ]
    gpd.GeoDataFrame(rows, crs=CRS).to_file(folder / "fields.gpkg")
    half = SIZE_PX // 2
    districts = {
        "upper left": square(0, 0, half),
        "all": square(0, 0, SIZE_PX),
        "elsewhere": square(SIZE_PX + 10, 0, half),
    }
    names, shapes = list(districts), list(districts.values())
    frame = gpd.GeoDataFrame({"district": names}, geometry=shapes, crs=CRS)
    frame.to_crs("EPSG:4326").to_file(folder / "districts.gpkg")


SIMULATE = {"flood": simulate_flood, "crop_yield": simulate_crop_yield}


def copy_project(name: str, folder: Path) -> Path:
    """Lay a project down as a user has it: its files, the Procfile, and its data."""
    root = folder / name
    hidden = shutil.ignore_patterns("__pycache__")
    shutil.copytree(Path(__file__).parent / name, root, ignore=hidden)
    shutil.copy(ROOT / "Procfile", root)
    SIMULATE[name](root / "data")
    return root
