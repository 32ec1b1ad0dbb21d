"""What was right before this bed was there, and has to stay so."""

from __future__ import annotations

import zipfile
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
from rasterio.transform import from_origin
from shapely.geometry import GeometryCollection, Point

from field.bed import Bed
from field.scenes import CRS, GRID, labels, reflectance, truth, write_catalogue, write_scene

WEST = np.zeros((96, 96), bool)
WEST[:, :20] = True


def test_rows_from_the_south(bed: Bed) -> None:
    write_scene(bed.folder / "scene_20240514.tif", reflectance().astype("float32"), south_up=True)
    labels().to_file(bed.folder / "labels.gpkg")
    bed.check_map()


def test_compound_crs(bed: Bed) -> None:
    path = bed.folder / "scene_20240514.tif"
    write_scene(path, reflectance().astype("float32"), crs="EPSG:32633+5773")
    labels().to_file(bed.folder / "labels.gpkg")
    bed.check_map()


def test_scale_and_offset_in_the_file(bed: Bed) -> None:
    numbers = np.round((reflectance() + 0.1) * 10_000).astype("uint16")
    write_scene(bed.folder / "scene_20240514.tif", numbers, scale=0.0001, offset=-0.1)
    labels().to_file(bed.folder / "labels.gpkg")
    table = bed.table()
    assert table.filter(like="red").min(axis=None) == pytest.approx(0.025, abs=1e-3)
    bed.check_map()


@pytest.mark.parametrize(
    ("dtype", "nodata", "factor"),
    [
        ("int8", -128, 200),
        ("uint32", 2**32 - 1, 1e6),
        ("int32", -(2**31), 1e6),
        ("float64", -1.7976931348623157e308, 1),
        ("float32", -3.4028234663852886e38, 1),
        ("float32", float("nan"), 1),
    ],
)
def test_nodata_of_each_type(bed: Bed, dtype: str, nodata: float, factor: float) -> None:
    values = (reflectance() * factor).astype(dtype)
    values[:, WEST] = nodata
    write_scene(bed.folder / "scene_20240514.tif", values, nodata=nodata)
    labels().to_file(bed.folder / "labels.gpkg")
    bed.check_map(WEST)


def test_nodata_of_one_band(bed: Bed) -> None:
    """A pixel that lacks a band has no class."""
    values = (reflectance() * 1000).astype("int16")
    values[2][WEST] = -9999
    write_scene(bed.folder / "scene_20240514.tif", values, nodata=-9999)
    labels().to_file(bed.folder / "labels.gpkg")
    bed.check_map(WEST)


def test_elevation_of_a_part(bed: Bed) -> None:
    height = np.where(WEST, -9999, 300).astype("float32")
    write_scene(bed.folder / "layers" / "dem.tif", height, nodata=-9999)
    write_scene(bed.folder / "scene_20240514.tif", reflectance().astype("float32"))
    labels().to_file(bed.folder / "labels.gpkg")
    bed.set("features.layers", elevation="layers/dem.tif")
    bed.check_map(WEST)


def test_two_utm_zones_of_mixed_resolution(bed: Bed) -> None:
    """The west half in zone 33 at 10 m, the east half in the same CRS at 5 m, as two items."""
    values = reflectance().astype("float32")
    fine = values[:, :, 48:].repeat(2, axis=1).repeat(2, axis=2)
    write_scene(bed.folder / "west_20240514.tif", values[:, :, :48])
    write_scene(bed.folder / "east_20240514.tif", fine, grid=from_origin(500_480, 5_100_000, 5, 5))
    labels().to_file(bed.folder / "labels.gpkg")
    bed.set("grid", crs=CRS, resolution=10)
    bed.check_map()


def test_one_item_id_in_two_collections_with_different_scaling(bed: Bed) -> None:
    values = reflectance()
    parts = [
        {"id": "scene", "collection": "old", "values": values * 10_000, "scale": 0.0001},
        {"id": "scene", "collection": "new", "values": (values + 0.1) * 10_000, "scale": 0.0001},
    ]
    parts[1] |= {"offset": -0.1, "day": "2024-05-24"}
    write_catalogue(bed.folder, parts, dtype="uint16")
    labels().to_file(bed.folder / "labels.gpkg")
    bed.set("data", files=None, catalogue="catalogue.json")
    bed.set("data.bands", **{name: name for name in ("blue", "green", "red", "nir")})
    table = bed.table()
    assert table.filter(like="red").max(axis=None) == pytest.approx(0.105, abs=2e-3)
    bed.check_map()


def test_z_null_and_empty_geometries(bed: Bed) -> None:
    """Labels with heights, and rows without a geometry."""
    write_scene(bed.folder / "scene_20240514.tif", reflectance().astype("float32"))
    frame = labels()
    frame.geometry = frame.geometry.force_3d(250.0)
    none = gpd.GeoDataFrame(
        {"class_name": ["water", "crop"]}, geometry=[None, GeometryCollection()], crs=CRS
    )
    pd.concat([frame, none]).to_file(bed.folder / "labels.gpkg")
    assert bed.samples() == {"water": 960, "crop": 960, "forest": 2176}


def test_zipped_shapefile_in_latin_1(bed: Bed) -> None:
    write_scene(bed.folder / "scene_20240514.tif", reflectance().astype("float32"))
    names = {"forest": "Wälder", "crop": "Äcker"}
    folder = bed.folder / "shape"
    folder.mkdir()
    labels(names=names).to_file(folder / "labels.shp", encoding="ISO-8859-1")
    with zipfile.ZipFile(bed.folder / "labels.zip", "w") as archive:
        for path in folder.iterdir():
            archive.write(path, path.name)
    bed.set("labels", source="labels.zip")
    bed.check_map(names=names)


def test_names_with_all_kinds_of_signs(bed: Bed) -> None:
    names = {"forest": 'for"est, 50 %', "crop": "crop = Äcker; 'x'", "water": "water|lake"}
    write_scene(bed.folder / "scene_20240514.tif", reflectance().astype("float32"))
    labels(names=names).to_file(bed.folder / "labels.gpkg")
    bed.check_map(names=names)


def test_blanks_and_accents_in_paths(bed: Bed) -> None:
    folder = bed.folder / "Über Felder"
    write_scene(folder / "eine szene_20240514.tif", reflectance().astype("float32"))
    labels().to_file(folder / "löbel mit rand.gpkg")
    bed.set("data", files="Über Felder/*.tif")
    bed.set("labels", source="Über Felder/löbel mit rand.gpkg")
    bed.map = bed.folder / "karten öst" / "karte 1.tif"
    bed.check_map()


def test_points(bed: Bed) -> None:
    """Points as a table in degrees: their pixels alone are samples."""
    write_scene(bed.folder / "scene_20240514.tif", reflectance().astype("float32"))
    rows, columns = np.mgrid[1:96:3, 1:96:3]
    places = [
        Point(*(GRID * (c + 0.5, r + 0.5))) for r, c in zip(rows.flat, columns.flat, strict=True)
    ]
    points = gpd.GeoDataFrame({"class_name": truth()[rows, columns].ravel()}, geometry=places)
    points = points.set_crs(CRS).to_crs("EPSG:4326")
    table = pd.DataFrame({"class_name": points["class_name"]})
    table["longitude"], table["latitude"] = points.geometry.x, points.geometry.y
    table.to_csv(Path(bed.folder / "points.csv"), index=False)
    bed.set("labels", source="points.csv")
    assert sum(bed.samples().values()) == 32 * 32
    bed.check_map()
