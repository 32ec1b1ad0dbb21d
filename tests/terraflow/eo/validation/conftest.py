"""A map of known pixels, and samples of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from odc.geo.geobox import GeoBox

from terraflow.eo.config.sections import Map
from terraflow.eo.maps.map_file import create_map, write_cog
from terraflow.eo.maps.map_origin import MapOrigin
from terraflow.eo.targets.classes.classification import Classification
from terraflow.eo.validation.sample import Sample, draw_sample
from terraflow.storage import Storage

NAMES = ["forest", "grassland", "water"]
MakeMap = Callable[..., str]


def known_values() -> np.ndarray:
    """Half forest, a third grassland, a sixth water; the first row is nodata."""
    values = np.repeat(np.array([[1] * 30 + [2] * 20 + [3] * 10], "uint8"), 40, axis=0)
    values[0] = 0
    return values


@pytest.fixture
def make_map(tmp_path: Path) -> MakeMap:
    def make(values: np.ndarray | None = None, name: str = "map", **origin: str) -> str:
        numbers = known_values() if values is None else values
        grid = GeoBox(numbers.shape, Affine(10, 0, 500_000, 0, -10, 5_100_000), "EPSG:32633")
        bands = Classification().bands(NAMES, Map())
        told = {
            "model": "models:/land-cover/3",
            "model_name": "land-cover",
            "items": "items.json",
            "items_digest": "1",
            "config_digest": "2",
            "version": "0.2.0",
            "run_id": "5" * 32,
        }
        folder = tmp_path / "maps"
        folder.mkdir(exist_ok=True)
        origin_ = MapOrigin.model_validate(told | origin)
        with create_map(folder / "plain.tif", grid, bands, "uint8", origin_) as file:
            columns = np.arange(numbers.shape[1]) % 10
            confidence = np.where(numbers > 0, 50 + 5 * columns, 0).astype("uint8")
            file.write(np.stack([numbers, confidence]))
        write_cog(folder / "plain.tif", folder / f"{name}.tif", "nearest")
        return str(folder / f"{name}.tif")

    return make


@pytest.fixture
def sample(make_map: MakeMap, storage: Storage) -> Sample:
    """60 points."""
    return draw_sample(make_map(), Classification(), storage, scores={}, points=60, seed=3)
