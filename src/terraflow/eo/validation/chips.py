"""Pictures of the places of points, one for each season."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import dask
import matplotlib.image
import numpy as np
import numpy.typing as npt
import pystac
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox

from terraflow.console import progress
from terraflow.eo.features.cube import load_clear
from terraflow.eo.features.recipe import FeatureRecipe
from terraflow.eo.validation.sample import Drawn, Sample
from terraflow.storage import Storage

__all__ = ["SEASONS", "chip_name", "write_chips"]

#: Of meteorology, by the month divided by 3.
SEASONS = {"DJF": (12, 1, 2), "MAM": (3, 4, 5), "JJA": (6, 7, 8), "SON": (9, 10, 11)}
TRUE_COLOUR = ("red", "green", "blue")
#: Pixels of the map from the point's to a chip's edge, and pixels of the picture for each.
AROUND_PX, ZOOM = 20, 8
WORKERS = 4
#: Grey of what no image shows.
UNSEEN = 128
RED = (255, 0, 0)
Picture = npt.NDArray[np.uint8]


def chip_name(number: int, season: str) -> str:
    """Name a point's picture of a season."""
    return f"{number:05d}_{season}.png"


def write_chips(
    folder: Path,
    sample: Sample,
    transform: Affine,
    *,
    items: Sequence[pystac.Item],
    recipe: FeatureRecipe,
    storage: Storage,
) -> int:
    """Write a picture of 41 x 41 pixels around each point for each season that has an image.

    It is the median of the clear observations of a season in all years: in true colours where
    there are red, green and blue, else in grey of the first band. The point's pixel has a red
    frame.

    Returns
    -------
    int
        Pictures.
    """
    bands = [name for name in TRUE_COLOUR if name in recipe.bands]
    bands = bands if len(bands) == len(TRUE_COLOUR) else list(recipe.bands)[:1]
    few = replace(recipe, bands={name: recipe.bands[name] for name in bands})
    folder.mkdir(parents=True, exist_ok=True)

    def work(point: Drawn) -> int:
        corner = Affine.translation(point.column - AROUND_PX, point.row - AROUND_PX)
        geobox = GeoBox((2 * AROUND_PX + 1,) * 2, transform * corner, sample.crs)
        cube = load_clear(items, few, geobox).compute()
        written = 0
        for season, picture in _pictures(cube[bands]):
            path = folder / chip_name(point.id, season)
            matplotlib.image.imsave(path, picture, origin="upper")  # a matplotlibrc may turn it
            written += 1
        return written

    total = 0
    with (
        storage.gdal(),
        dask.config.set(scheduler="synchronous"),
        ThreadPoolExecutor(WORKERS) as pool,
        progress(len(sample.points), "chips", "points") as bar,
    ):
        for written in pool.map(work, sample.points):
            total += written
            bar.update()
    return total


def _pictures(cube: xr.Dataset) -> Iterator[tuple[str, Picture]]:
    """Give each season that has an observation, all in one stretch of the values."""
    values = cube.to_dataarray().transpose("time", "y", "x", "variable").to_numpy()
    months = cube.time.dt.month.to_numpy()
    if not np.isfinite(values).any():
        return
    low, high = np.nanpercentile(values, (2, 98))
    for season, of_season in SEASONS.items():
        part = values[np.isin(months, of_season)]
        if not np.isfinite(part).any():
            continue
        unseen = ~np.isfinite(part).any(axis=0)
        middle = np.nanmedian(np.where(unseen, 0, part), axis=0)
        scaled = 255 * ((middle - low) / max(high - low, 1e-6)).clip(0, 1)
        shades = np.where(unseen, UNSEEN, scaled)
        picture = np.broadcast_to(shades, (*shades.shape[:2], 3)).astype("uint8")
        yield season, _framed(np.kron(picture, np.ones((ZOOM, ZOOM, 1), "uint8")))


def _framed(picture: Picture) -> Picture:
    """Draw a frame around the pixel in the middle, which itself stays as it is."""
    first, last = AROUND_PX * ZOOM - 1, (AROUND_PX + 1) * ZOOM
    picture[[first, last], first : last + 1] = RED
    picture[first : last + 1, [first, last]] = RED
    return picture
