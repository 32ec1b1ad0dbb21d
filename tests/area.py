"""Small data whose every pixel is known."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pystac
import rasterio
from rasterio.transform import from_origin
from shapely.geometry import box

from terraflow.eo.config.project_file import ProjectConfig

CRS = "EPSG:32633"
TRANSFORM = from_origin(500_000, 5_100_000, 10, 10)


def write_raster(
    path: Path,
    data: npt.NDArray[np.generic],
    nodata: float | None = None,
    crs: str | None = CRS,
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        width=data.shape[1],
        height=data.shape[0],
        count=1,
        dtype=data.dtype,
        crs=crs,
        transform=TRANSFORM,
        nodata=nodata,
    ) as file:
        file.write(data, 1)


class Area:
    """A small catalogue whose every pixel value is known."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.items: list[pystac.Item] = []

    def add(
        self,
        day: str,
        red: npt.NDArray[np.uint16],
        mask: npt.NDArray[np.uint8],
        *,
        scale: float = 0.0001,
        offset: float = -0.1,
    ) -> None:
        folder = self.folder / day
        write_raster(folder / "red.tif", red, 0)
        write_raster(folder / "mask.tif", mask)
        item = pystac.Item(
            day,
            None,
            None,
            datetime.fromisoformat(day).replace(tzinfo=UTC),
            {
                "proj:code": CRS,
                "proj:shape": list(red.shape),
                "proj:transform": list(TRANSFORM)[:6],
            },
            stac_extensions=["https://stac-extensions.github.io/projection/v2.0.0/schema.json"],
        )
        extra = {"raster:bands": [{"scale": scale, "offset": offset, "nodata": 0}]}
        item.add_asset("B04", pystac.Asset(str(folder / "red.tif"), extra_fields=extra))
        item.add_asset("mask", pystac.Asset(str(folder / "mask.tif")))
        self.items.append(item)

    def save(self, *, relative: bool = False) -> Path:
        catalogue = pystac.Catalog("area", "area")
        catalogue.add_items(self.items)
        catalogue.normalize_hrefs(str(self.folder))
        if relative:  # as a catalogue that is served by HTTP needs
            catalogue.make_all_asset_hrefs_relative()
        catalogue.save(pystac.CatalogType.SELF_CONTAINED)
        return self.folder / "catalog.json"


def make_project(**changes: object) -> ProjectConfig:
    values: dict[str, object] = {
        "name": "land-cover",
        "data": {"start": "2024-01-01", "end": "2024-12-31", "bands": {"red": "B04"}},
        "cloud_mask": {"asset": "mask", "clear": [1]},
        "labels": {"field": "kind"},
        "validation": {"block_size_px": 4, "folds": 2},
        "model": {"name": "random_forest", "parameters": {"n_estimators": 10}},
    }
    return ProjectConfig.model_validate(json.loads(json.dumps(values | changes)))


def write_labels(path: Path, crs: str | None = CRS, xoff: float = 0) -> Path:
    """West half "water", east half "forest" of 16 x 16 pixels."""
    west, north = 500_000 + xoff, 5_100_000
    halves = [
        box(west, north - 160, west + 80, north),
        box(west + 80, north - 160, west + 160, north),
    ]
    gpd.GeoDataFrame({"kind": ["water", "forest"]}, geometry=halves, crs=crs).to_file(path)
    return path
