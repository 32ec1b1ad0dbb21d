"""An area on both sides of the antimeridian, as Taveuni in Fiji, from the search to the map."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pystac
import pytest
import rasterio
import shapely
from pyproj import Transformer
from rasterio.transform import from_origin
from shapely.geometry import box, mapping, shape

from area import make_project
from http_server import HttpServer
from maps import make_model
from terraflow.eo.config.bounds import as_geometry
from terraflow.eo.config.project_file import ProjectConfig
from terraflow.eo.features.recipe import FeatureRecipe
from terraflow.eo.features.windows import FeatureSource
from terraflow.eo.images.collection import read_items
from terraflow.eo.images.ingest import ingest
from terraflow.eo.images.sources.selection import read_area
from terraflow.eo.maps.map import make_map
from terraflow.errors import ConfigError
from terraflow.storage import Storage

#: Zone 1 of UTM, in the south; its tile crosses 180 degrees.
CRS = "EPSG:32701"
SIDE, PIXEL_M = 64, 500
WEST, NORTH = 164_000, 8_150_000
TRANSFORM = from_origin(WEST, NORTH, PIXEL_M, PIXEL_M)
TAVEUNI = (179.9, -16.9, -179.9, -16.75)
HALVES = {
    "west": [179.9, -16.9, 180, -16.75],
    "east": [-180, -16.9, -179.9, -16.75],
    "both": list(TAVEUNI),
}


def write_tile(folder: Path, day: str, crs: str = CRS, transform: Any = TRANSFORM) -> pystac.Item:
    """An item whose outline is not cut at the antimeridian, as some catalogues tell it."""
    folder.mkdir(parents=True, exist_ok=True)
    item = pystac.Item(day, None, None, datetime.fromisoformat(day).replace(tzinfo=UTC), {})
    profile = {"driver": "GTiff", "width": SIDE, "height": SIDE, "count": 1}
    for key, dtype, value in (("B04", "uint16", 5000), ("mask", "uint8", 1)):
        path = folder / f"{day}-{key}.tif"
        with rasterio.open(path, "w", dtype=dtype, crs=crs, transform=transform, **profile) as f:
            f.write(np.full((SIDE, SIDE), value, dtype), 1)
        extra = {"raster:bands": [{"scale": 0.0001, "offset": -0.1, "nodata": 0}]}
        item.add_asset(key, pystac.Asset(str(path), extra_fields=extra if key == "B04" else {}))
    corners = [transform * at for at in ((0, 0), (0, SIDE), (SIDE, SIDE), (SIDE, 0))]
    degrees = Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    ring = [degrees.transform(*corner) for corner in corners]
    item.geometry = {"type": "Polygon", "coordinates": [[*ring, ring[0]]]}
    item.bbox = [-180, min(y for _, y in ring), 180, max(y for _, y in ring)]
    return item


@pytest.fixture
def catalogue(tmp_path: Path) -> str:
    items = [write_tile(tmp_path / "tiles", day) for day in ("2024-01-05", "2024-01-25")]
    path = tmp_path / "items.json"
    features = [item.to_dict(include_self_link=False) for item in items]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return str(path)


def project_of(catalogue: str, area: object, **changes: Any) -> ProjectConfig:
    data = {"catalogue": catalogue, "bands": {"red": "B04"}, "area": area}
    return make_project(data=data, **changes)


def centres(file: rasterio.DatasetReader) -> tuple[np.ndarray, np.ndarray]:
    """Longitude and latitude of a map's pixels, each of shape (y, x)."""
    rows, columns = np.mgrid[: file.height, : file.width]
    x, y = file.transform * (columns + 0.5, rows + 0.5)
    degrees = Transformer.from_crs(file.crs, "EPSG:4326", always_xy=True)
    return degrees.transform(x, y)


@pytest.mark.parametrize("half", HALVES)
def test_tile_across_the_antimeridian_is_ingested_for_either_side_and_both(
    half: str, catalogue: str, storage: Storage
) -> None:
    images = ingest(project_of(catalogue, HALVES[half]), storage)
    items = read_items(images.items, storage)
    assert len(items) == 2
    wanted = as_geometry(tuple(HALVES[half]))  # type: ignore[arg-type]
    with rasterio.open(items[0].assets["B04"].href) as file:
        longitude, latitude = centres(file)
        inside = shapely.contains_xy(wanted, longitude, latitude)
        # 0.1 degrees of longitude are 10.6 km, 0.15 of latitude 16.6 km
        expected = (21.3 if half == "both" else 10.65) * 16.6 / (PIXEL_M / 1000) ** 2
        assert inside.sum() == pytest.approx(expected, rel=0.05)
        assert inside.mean() > 0.75  # what is copied is not much more
    assert shape(items[0].geometry).buffer(1e-9).covers(wanted)
    if half == "both":
        assert items[0].bbox is not None
        assert items[0].bbox[0] > 179 > -179 > items[0].bbox[2]
        collection = json.loads(storage.read(images.items))
        (bbox,) = collection["extent"]["spatial"]["bbox"]
        assert bbox[0] > bbox[2]


def test_map_holds_both_sides(catalogue: str, storage: Storage) -> None:
    images = ingest(project_of(catalogue, HALVES["both"]), storage)
    made = make_map(make_model(), images.items, storage)
    with rasterio.open(made.map) as file:
        longitude, latitude = centres(file)
        mapped = file.read(1) > 0
    inside = shapely.contains_xy(as_geometry(TAVEUNI), longitude, latitude)
    assert np.array_equal(mapped, inside)
    assert (longitude[mapped] > 179).any()
    assert (longitude[mapped] < -179).any()
    item = pystac.Item.from_file(made.item)
    assert item.bbox is not None
    assert item.bbox[0] > 179 > -179 > item.bbox[2]
    outline = shape(item.geometry)
    assert outline.is_valid
    assert outline.bounds[2] - outline.bounds[0] == 360
    assert outline.area < 0.1


@pytest.mark.parametrize(
    "outline",
    [as_geometry(TAVEUNI), box(179.9, -16.9, 180.1, -16.75), box(-180.1, -16.9, -179.9, -16.75)],
    ids=["cut", "past 180", "before -180"],
)
def test_polygons_across_the_antimeridian_are_the_box(
    outline: shapely.Geometry, catalogue: str, storage: Storage, tmp_path: Path
) -> None:
    path = tmp_path / "outline.geojson"
    path.write_text(json.dumps(mapping(outline)))
    project = project_of(catalogue, str(path))
    area = read_area(project.data, storage)
    assert area is not None
    assert area.equals_exact(as_geometry(TAVEUNI), 1e-9, normalize=True)
    assert len(read_items(ingest(project, storage).items, storage)) == 2


def test_tiles_of_both_zones_come_onto_one_grid(storage: Storage, tmp_path: Path) -> None:
    # the same place in zone 60, where it lies beyond 800 km east
    there = Transformer.from_crs(CRS, "EPSG:32760", always_xy=True)
    west, north = there.transform(WEST, NORTH)
    sixty = from_origin(round(west), round(north), PIXEL_M, PIXEL_M)
    items = [
        write_tile(tmp_path / "a", "2024-01-05"),
        write_tile(tmp_path / "b", "2024-01-25", "EPSG:32760", sixty),
    ]
    path = tmp_path / "items.json"
    features = [item.to_dict(include_self_link=False) for item in items]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    found = read_items(ingest(project_of(str(path), TAVEUNI), storage).items, storage)
    source = FeatureSource(found, FeatureRecipe.of(make_project()), storage)
    assert source.geobox.width < 1.5 * SIDE
    values = source.compute(source.windows()[0]).sel(feature="red_std").values
    assert np.isfinite(values).sum() > 0.5 * values.size


def test_api_is_searched_on_both_sides_for_each_item_once(
    server: HttpServer, storage: Storage, tmp_path: Path
) -> None:
    sides = {
        "west": box(179.8, -17, 180, -16),
        "east": box(-180, -17, -179.8, -16),
        "both": as_geometry((179.8, -17, -179.8, -16)),
        "far": box(0, -17, 1, -16),
    }
    items = []
    for number, (name, place) in enumerate(sides.items(), 1):
        item = write_tile(server.folder, f"2024-01-0{number}")
        item.id, item.geometry, item.bbox = name, mapping(place), list(place.bounds)
        items.append(item)
    api = server.serve_items(items, "tiles")
    data = {"catalogue": api, "collection": "tiles", "bands": {"red": "B04"}, "area": TAVEUNI}
    found = read_items(ingest(make_project(data=data), storage).items, storage)
    assert [item.id for item in found] == ["west", "east", "both"]


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:3857"])
def test_grid_that_ends_at_the_antimeridian_is_refused(
    crs: str, catalogue: str, storage: Storage
) -> None:
    items = read_items(ingest(project_of(catalogue, TAVEUNI), storage).items, storage)
    step = 0.005 if crs == "EPSG:4326" else 500
    project = make_project(grid={"crs": crs, "resolution": step})
    told = rf"crs {crs} has the two sides of the antimeridian at its two ends, .* as EPSG:3832"
    with pytest.raises(ConfigError, match=told):
        FeatureSource(items, FeatureRecipe.of(project), storage)
    pacific = make_project(grid={"crs": "EPSG:3832", "resolution": 500})
    assert FeatureSource(items, FeatureRecipe.of(pacific), storage).geobox.width < 100
