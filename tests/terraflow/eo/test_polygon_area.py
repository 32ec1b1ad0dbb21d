"""An area that is a polygon, through all steps: no pixel beyond it counts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
from rasterio.warp import transform_geom
from shapely.geometry import MultiPolygon, Polygon, box, mapping, shape
from shapely.geometry.base import BaseGeometry

from area import CRS, Area, make_project, write_labels
from maps import make_model
from terraflow.eo.config.project_file import ProjectConfig
from terraflow.eo.features import windows
from terraflow.eo.features.recipe import FeatureRecipe
from terraflow.eo.features.windows import FeatureSource
from terraflow.eo.hooks import Hooks
from terraflow.eo.images.collection import of_month, read_items
from terraflow.eo.images.ingest import find_waiting, ingest
from terraflow.eo.maps.map import make_map, map_uri
from terraflow.eo.monitoring.monitor import draw_pixels
from terraflow.eo.samples.preprocess import preprocess, read_report
from terraflow.errors import DataError
from terraflow.storage import Storage

SIDE = 16
WEST, NORTH = 500_000, 5_100_000
ONES = np.ones((SIDE, SIDE), "uint8")
SQUARE = box(WEST + 11, NORTH - 149, WEST + 149, NORTH - 11)
TRIANGLE = Polygon([(WEST + 1, NORTH - 159), (WEST + 1, NORTH - 2), (WEST + 158, NORTH - 159)])
HOLE = SQUARE.difference(box(WEST + 40, NORTH - 120, WEST + 80, NORTH - 40))
TWO = MultiPolygon(
    [
        box(WEST + 1, NORTH - 49, WEST + 49, NORTH - 1),
        box(WEST + 91, NORTH - 159, WEST + 159, NORTH - 91),
    ]
)
OUTLINES = pytest.mark.parametrize(
    "outline", [TRIANGLE, HOLE, TWO], ids=["triangle", "hole", "two"]
)
BLOCKS = {"block_size_px": 2, "folds": 2, "whole_polygons": False}


def centres_in(outline: BaseGeometry) -> np.ndarray:
    """Which of the pixels have their centre in it: bool, shape (y, x)."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    found: np.ndarray = shapely.contains_xy(outline, WEST + 10 * columns + 5, NORTH - 10 * rows - 5)
    return found


def write_outline(path: Path, outline: BaseGeometry) -> str:
    degrees = transform_geom(CRS, "EPSG:4326", mapping(outline))
    path.write_text(json.dumps({"type": "Feature", "properties": {}, "geometry": degrees}))
    return str(path)


@pytest.fixture
def project_of(area: Area, tmp_path: Path) -> Callable[..., ProjectConfig]:
    """A project of one image of all 16 x 16 pixels, whose area is an outline."""
    red = np.full((SIDE, SIDE), 5000, "uint16")
    red[:, : SIDE // 2] = 2000
    for day in ("2024-01-05", "2024-01-25"):
        area.add(day, red, ONES)
    catalogue = str(area.save())

    def make(outline: BaseGeometry, **changes: Any) -> ProjectConfig:
        data = {
            "catalogue": catalogue,
            "bands": {"red": "B04"},
            "area": write_outline(tmp_path / "outline.geojson", outline),
        }
        labels = {"source": str(write_labels(tmp_path / "labels.gpkg")), "field": "kind"}
        return make_project(data=data, labels=labels, **changes)

    return make


def place(table: gpd.GeoDataFrame) -> set[tuple[int, int]]:
    rows = ((NORTH - table["y"]) // 10).astype(int)
    columns = ((table["x"] - WEST) // 10).astype(int)
    return set(zip(rows, columns, strict=True))


def mapped(uri: str) -> np.ndarray:
    """Which pixels of the whole grid the map holds."""
    whole = np.zeros((SIDE, SIDE), bool)
    with rasterio.open(uri) as file:
        left = round((file.transform.c - WEST) / 10)
        top = round((NORTH - file.transform.f) / 10)
        whole[top : top + file.height, left : left + file.width] = file.read(1) > 0
    return whole


@OUTLINES
@pytest.mark.parametrize("window_px", [5, 512])
def test_map_holds_the_pixels_whose_centre_lies_in_the_polygon(
    outline: BaseGeometry,
    window_px: int,
    project_of: Callable[..., ProjectConfig],
    storage: Storage,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(windows, "WINDOW_PX", window_px)
    images = ingest(project_of(outline), storage)
    found = mapped(make_map(make_model(), images.items, storage).map)
    assert np.array_equal(found, centres_in(outline))


def test_map_of_a_triangle_counts_its_area_and_not_its_boxs(
    project_of: Callable[..., ProjectConfig], storage: Storage
) -> None:
    images = ingest(project_of(TRIANGLE), storage)
    found = mapped(make_map(make_model(), images.items, storage).map)
    assert 100 * found.sum() == pytest.approx(TRIANGLE.area, rel=0.06)
    assert 100 * found.sum() < 0.6 * TRIANGLE.envelope.area


@OUTLINES
def test_samples_and_population_lie_in_the_polygon(
    outline: BaseGeometry, project_of: Callable[..., ProjectConfig], storage: Storage
) -> None:
    project = project_of(outline, validation=BLOCKS)
    prepared = preprocess(project, Hooks(), ingest(project, storage), storage)
    inside = set(zip(*np.nonzero(centres_in(outline)), strict=True))
    assert place(gpd.read_parquet(prepared.samples)) == inside
    assert place(gpd.read_parquet(prepared.population)) == inside
    report = read_report(prepared.report, storage)
    assert sum(report.label_counts.values()) == len(inside)
    assert report.incomplete == 0


def test_what_is_unclear_beyond_the_polygon_is_not_counted(
    area: Area, project_of: Callable[..., ProjectConfig], storage: Storage
) -> None:
    project = project_of(TRIANGLE, validation=BLOCKS)
    for item in area.items:
        with rasterio.open(item.assets["mask"].href, "r+") as file:
            file.write(np.where(centres_in(TRIANGLE), 1, 9).astype("uint8"), 1)
    prepared = preprocess(project, Hooks(), ingest(project, storage), storage)
    assert read_report(prepared.report, storage).clear_share == {"2024-01": 1.0}


def test_class_beyond_the_polygon_is_not_asked_for(
    project_of: Callable[..., ProjectConfig], storage: Storage, tmp_path: Path
) -> None:
    project = project_of(TRIANGLE, validation=BLOCKS)
    labels = gpd.read_file(tmp_path / "labels.gpkg")
    beyond = gpd.GeoDataFrame(
        {"kind": ["rock"]}, geometry=[box(WEST + 120, NORTH - 30, WEST + 150, NORTH)], crs=CRS
    )
    gpd.pd.concat([labels, beyond]).to_file(tmp_path / "labels.gpkg")
    prepared = preprocess(project, Hooks(), ingest(project, storage), storage)
    assert set(read_report(prepared.report, storage).label_counts) == {"forest", "water"}


def test_monitored_pixels_lie_in_the_polygon(
    project_of: Callable[..., ProjectConfig], storage: Storage
) -> None:
    images = ingest(project_of(TRIANGLE), storage)
    pixels = draw_pixels(make_model(), images.items, storage).pixels
    assert len(pixels) == centres_in(TRIANGLE).sum()


def test_scenes_of_a_month_keep_the_polygon(
    project_of: Callable[..., ProjectConfig], storage: Storage, tmp_path: Path
) -> None:
    images = ingest(project_of(TRIANGLE), storage)
    month, _ = of_month(images.items, "2024-01", str(tmp_path / "part"), storage)
    found = mapped(make_map(make_model(), month, storage).map)
    assert np.array_equal(found, centres_in(TRIANGLE))


def test_another_polygon_of_the_same_box_is_another_map(
    project_of: Callable[..., ProjectConfig], storage: Storage
) -> None:
    uris = []
    for outline in (HOLE, SQUARE):
        project = project_of(outline)
        assert len(find_waiting(project, storage)) == 2
        images = ingest(project, storage)
        assert find_waiting(project, storage) == []
        uris.append(map_uri(make_model(), images.items, read_items(images.items, storage), storage))
    assert uris[0] != uris[1]


def test_items_of_two_polygons_are_not_taken_together(
    project_of: Callable[..., ProjectConfig], storage: Storage
) -> None:
    both = [
        read_items(ingest(project_of(outline), storage).items, storage)[0]
        for outline in (HOLE, SQUARE)
    ]
    told = r"Items .* were ingested for 2 areas; .* ingest them for one"
    with pytest.raises(DataError, match=told):
        FeatureSource(both, FeatureRecipe.of(make_project()), storage)


def test_area_far_larger_than_the_images_is_cut_to_them(
    project_of: Callable[..., ProjectConfig], storage: Storage, tmp_path: Path
) -> None:
    project = project_of(TRIANGLE)
    world = mapping(
        box(-179, -89, 179, 89).difference(shape(transform_geom(CRS, "EPSG:4326", mapping(HOLE))))
    )
    (tmp_path / "outline.geojson").write_text(json.dumps(world))
    found = mapped(make_map(make_model(), ingest(project, storage).items, storage).map)
    assert np.array_equal(found, ~centres_in(HOLE))
