"""Simulated fields whose yield is a known function of the bands, with an effect of the field."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import geopandas as gpd
import numpy as np
from scipy.ndimage import gaussian_filter
from shapely.geometry import box

from projects.scenes import (
    BOUNDS,
    CRS,
    SIZE_PX,
    draw_fields,
    mean_of_fields,
    write_catalogue,
    write_fields,
)

FIELDS = 120
#: How far vegetation is developed, 0 to 1, on each date.
SEASON = {4: 0.3, 5: 0.7, 6: 1.0, 7: 0.6}


def law(red: np.ndarray, nir: np.ndarray) -> np.ndarray:
    """Yield in t/ha of reflectances in June, without the field's own effect."""
    return 1 + 9 * (nir - red) / (nir + red)


def simulate(folder: Path, seed: int = 1) -> None:
    """Write catalog.json, fields.gpkg (yield_t_ha) and districts.gpkg (district)."""
    folder.mkdir()
    random = np.random.default_rng(seed)
    fields = draw_fields(random, FIELDS)
    smooth = gaussian_filter(random.normal(size=(SIZE_PX, SIZE_PX)), 10, mode="wrap")
    vigour = 0.5 + 0.15 * smooth / smooth.std() + random.normal(0, 0.15, FIELDS)[fields]
    vigour = vigour.clip(0.05, 1)
    scenes = {}
    for month, season in SEASON.items():
        bands = {"red": 0.14 - 0.10 * vigour * season, "nir": 0.18 + 0.30 * vigour * season}
        if season == 1:
            clear = mean_of_fields(law(**bands), fields)
        bands = {name: v + random.normal(0, 0.01, v.shape) for name, v in bands.items()}
        for values in bands.values():
            values[-3:, -3:] = np.nan
        scenes[datetime(2024, month, 14, 10, tzinfo=UTC)] = bands
    effect, noise = random.normal(0, 0.4, FIELDS), random.normal(0, 0.2, FIELDS)
    write_fields(folder / "fields.gpkg", fields, yield_t_ha=clear + effect + noise)
    write_catalogue(folder, scenes)
    west, south, east, north = BOUNDS
    middle, beyond = (west + east) / 2, east + 1000
    districts = [box(west, south, middle, north), box(middle, south, beyond, north)]
    districts.append(box(beyond, south, beyond + 500, north))
    names = {"district": ["West", "East", "Elsewhere"]}
    gpd.GeoDataFrame(names, geometry=districts, crs=CRS).to_file(folder / "districts.gpkg")
