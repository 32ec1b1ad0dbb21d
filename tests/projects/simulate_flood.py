"""A simulated flood, in the form of Sentinel-1 GRD: VV and VH in dB, with speckle."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter

from projects.scenes import (
    SIZE_PX,
    draw_fields,
    mean_of_fields,
    write_catalogue,
    write_fields,
    write_raster,
)

FIELDS, LOOKS = 90, 5
FIRST = datetime(2024, 1, 3, 17, tzinfo=UTC)
#: Of the four dates, 12 days apart, those on which low land is under water.
FLOODED = (False, True, True, False)
DRY_DB, WATER_DB, SHADOW_DB = {"vv": -9.0, "vh": -15.5}, {"vv": -18.0, "vh": -24.5}, -9.0
STEEP = 12.0


def simulate(folder: Path, seed: int = 1) -> np.ndarray:
    """Write catalog.json, labels.gpkg (field state) and slope.tif (degrees).

    Returns
    -------
    ndarray, shape (y, x), bool
        Where the flood is.
    """
    folder.mkdir()
    random = np.random.default_rng(seed)
    fields = draw_fields(random, FIELDS)
    height_m = gaussian_filter(random.normal(size=(SIZE_PX, SIZE_PX)), 7, mode="wrap") * 900
    slope = np.degrees(np.arctan(np.hypot(*np.gradient(height_m, 10.0))))
    height = mean_of_fields(height_m, fields)
    state = np.where(height < np.quantile(height, 0.35), "flooded", "dry")
    flood = (state == "flooded")[fields]
    write_fields(folder / "labels.gpkg", fields, state=state)
    write_raster(folder / "slope.tif", slope)
    own = random.normal(0, 1.2, FIELDS)[fields]
    scenes = {}
    for number, wet in enumerate(FLOODED):
        bands = {}
        for band, dry in DRY_DB.items():
            # where it is steep, the radar sees little on any other date
            shade = np.where((slope > STEEP) & (number % 2 == 1), SHADOW_DB, 0)
            level = np.where(flood & wet, WATER_DB[band], dry + own + shade)
            speckle = 10 * np.log10(random.gamma(LOOKS, 1 / LOOKS, level.shape))
            bands[band] = level + speckle
            bands[band][:, : 10 * (number % 2)] = np.nan  # beyond the edge of the orbit
            bands[band][-3:, -3:] = np.nan
        scenes[FIRST + timedelta(days=12 * number)] = bands
    write_catalogue(folder, scenes)
    return flood
