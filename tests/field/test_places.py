"""Kinds: coordinate systems that cannot be placed, and addresses with odd signs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.control import GroundControlPoint

from field.bed import Bed, beside
from field.scenes import (
    CRS,
    GRID,
    REFLECTANCE_BANDS,
    labels,
    reflectance,
    write_catalogue,
    write_scene,
)

LOCAL = 'LOCAL_CS["Local Coordinates (m)",LOCAL_DATUM["Local Datum",0],UNIT["metre",1]]'
ENGINEERING = (
    'ENGCRS["site",EDATUM["site"],CS[Cartesian,2],AXIS["x",east],AXIS["y",north],'
    'LENGTHUNIT["metre",1]]'
)
VALUES = reflectance().astype("float32")


@pytest.mark.parametrize("crs", [LOCAL, ENGINEERING])
def test_image_in_a_local_crs(bed: Bed, crs: str) -> None:
    path = bed.folder / "ortho_20240514.tif"
    write_scene(path, VALUES, crs=crs)
    labels().to_file(bed.folder / "labels.gpkg")
    said = bed.fails("train", says=["local", "rio edit-info --crs"])
    assert "{" not in said
    rio = Path(sys.executable).with_name("rio")
    subprocess.run([rio, "edit-info", "--crs", CRS, str(path)], check=True)
    bed.check_map()


def test_layer_in_a_local_crs(bed: Bed) -> None:
    write_scene(bed.folder / "scene_20240514.tif", VALUES)
    write_scene(bed.folder / "layers" / "dem.tif", VALUES[0], crs=LOCAL)
    labels().to_file(bed.folder / "labels.gpkg")
    bed.set("features.layers", dem="layers/dem.tif")
    bed.fails("train", says=["local", "dem"])


def test_labels_in_a_local_crs(bed: Bed) -> None:
    write_scene(bed.folder / "scene_20240514.tif", VALUES)
    labels().set_crs(LOCAL, allow_override=True).to_file(bed.folder / "labels.gpkg")
    bed.fails("train", says=["local"])


def test_control_points_instead_of_a_grid(bed: Bed) -> None:
    path = bed.folder / "s1_20240514.tif"
    write_scene(path, VALUES, crs=None, grid=Affine.identity())
    corners = [(0, 0), (96, 0), (0, 96), (96, 96)]
    points = [GroundControlPoint(row, column, *(GRID * (column, row))) for column, row in corners]
    with rasterio.open(path, "r+") as file:
        file.gcps = points, rasterio.crs.CRS.from_string(CRS)
    labels().to_file(bed.folder / "labels.gpkg")
    said = bed.fails("train", says=["control points", "warp"])
    assert "edit-info" not in said


def test_rotation_is_refused_with_the_line_to_copy(bed: Bed) -> None:
    write_scene(bed.folder / "scene_20240514.tif", VALUES, grid=GRID * Affine.rotation(5))
    labels().to_file(bed.folder / "labels.gpkg")
    bed.fails("train", says=["rotated", "warp"])


def test_rotation_of_rounding_size_is_none(bed: Bed) -> None:
    grid = Affine(10, 1e-9, GRID.c, -1e-9, -10, GRID.f)
    write_scene(bed.folder / "scene_20240514.tif", VALUES, grid=grid)
    labels().to_file(bed.folder / "labels.gpkg")
    bed.check_map()


def test_geojson_in_metres(bed: Bed) -> None:
    write_scene(bed.folder / "scene_20240514.tif", VALUES)
    path = bed.folder / "labels.geojson"
    labels().set_crs(None, allow_override=True).to_file(path, driver="GeoJSON")
    bed.set("labels", source="labels.geojson")
    said = bed.fails("train", says=["degrees"])
    assert "inf" not in said.split()


def test_geoparquet(bed: Bed) -> None:
    write_scene(bed.folder / "scene_20240514.tif", VALUES)
    labels().to_parquet(bed.folder / "labels.parquet")
    bed.set("labels", source="labels.parquet")
    bed.check_map()


@pytest.mark.parametrize("folder", beside("tiles [2024]", "50% *", "a#b?c", "{x} & 'y'"))
def test_folder_with_signs_of_patterns(bed: Bed, folder: str) -> None:
    bed.folder = bed.folder / folder
    bed.folder.mkdir()
    bed.map = bed.folder / "out" / "map.tif"
    write_scene(bed.folder / "scene_20240514.tif", VALUES)
    labels().to_file(bed.folder / "labels.gpkg")
    bed.check_map()


@pytest.mark.parametrize(
    "href", ["my%20images/item{number}_{band}.tif", "%C3%A9t%C3%A9/{band}.tif"]
)
def test_encoded_href_of_a_local_catalogue(bed: Bed, href: str) -> None:
    write_catalogue(bed.folder, [{"values": reflectance(), "href": unquote(href)}])
    path = bed.folder / "catalogue.json"
    folder = href.partition("/")[0]
    text = path.read_text(encoding="utf-8").encode().decode("unicode_escape")
    path.write_text(text.replace(unquote(folder), folder), encoding="utf-8")
    labels().to_file(bed.folder / "labels.gpkg")
    bed.set("data", files=None, catalogue="catalogue.json")
    bed.set("data.bands", **{name: name for name in REFLECTANCE_BANDS})
    bed.check_map()


def test_small_areas_are_not_told_as_0(bed: Bed) -> None:
    fine = Affine(0.05, 0, GRID.c, 0, -0.05, GRID.f)
    write_scene(bed.folder / "ortho_20240514.tif", VALUES, grid=fine)
    labels(grid=fine).to_file(bed.folder / "labels.gpkg")
    said = bed.check_map()
    rows = [line for line in said.splitlines() if line.startswith("| water")]
    assert rows
    assert "| 0.0 |" not in rows[0]
    assert np.isclose(5.4, float(rows[0].split("|")[2]), atol=0.2)  # m2
