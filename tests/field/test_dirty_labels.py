"""Kinds: dirty labels, and numbers that mean something."""

from __future__ import annotations

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import rasterio
from shapely import MultiPolygon, Polygon
from shapely.geometry import GeometryCollection, LineString

from field.bed import Bed, beside, latin
from field.scenes import CRS, labels, reflectance, truth, write_scene

ALL = {"water": 960, "crop": 960, "forest": 2176}


@pytest.fixture
def scene(bed: Bed) -> Bed:
    write_scene(bed.folder / "scene_20240514.tif", reflectance().astype("float32"))
    return bed


def save(bed: Bed, frame: gpd.GeoDataFrame) -> None:
    frame.to_file(bed.folder / "labels.gpkg")


def test_names_with_blanks_at_their_ends_are_one_class(scene: Bed) -> None:
    frame = labels()
    frame["class_name"] = [
        name + (" ", "", "\u00a0", "\t")[i % 4] for i, name in enumerate(frame["class_name"])
    ]
    save(scene, frame)
    scene.check_map()


def test_names_with_blanks_have_one_row_in_the_table(scene: Bed) -> None:
    frame = labels()
    frame["class_name"] = [n + " " * (i % 2) for i, n in enumerate(frame["class_name"])]
    save(scene, frame)
    scene.set("labels", classes={"water": "Water", "crop": "Land", "forest ": "Land"})
    scene.check_map(names={"water": "Water", "crop": "Land", "forest": "Land"})


def bow(polygon: Polygon) -> Polygon:
    (x0, y0), (x1, y1) = (polygon.bounds[:2], polygon.bounds[2:])
    return Polygon([(x0, y0), (x1, y1), (x1, y0), (x0, y1)])


def test_bow_ties_are_repaired_before_they_are_shrunk(scene: Bed) -> None:
    frame = labels()
    frame.geometry = [bow(each) for each in frame.geometry]
    save(scene, frame)
    whole = sum(scene.samples().values())
    scene.set("labels", shrink=5)
    assert whole * 0.4 < sum(scene.samples().values()) == pytest.approx(64 * 18, rel=0.1)


def test_dissolved_polygons_are_places_of_their_own(scene: Bed) -> None:
    save(scene, labels().dissolve("class_name").reset_index())
    scene.check_map()


def test_collections_give_their_polygons(scene: Bed) -> None:
    frame = labels()
    frame.geometry = [
        GeometryCollection([each, LineString(each.exterior.coords[:2])]) for each in frame.geometry
    ]
    save(scene, frame)
    assert scene.samples() == ALL


def test_lines_are_no_labels(scene: Bed) -> None:
    lines = gpd.GeoDataFrame(
        {"class_name": ["crop"]},
        geometry=[LineString([(500_000, 5_100_000), (500_900, 5_099_100)])],
    ).set_crs(CRS)
    save(scene, pd.concat([labels(), lines]))
    assert "line" in scene.ok("preprocess").lower()
    assert scene.samples() == ALL


def test_overlap_of_two_classes_is_never_silent(scene: Bed) -> None:
    extra = labels().iloc[:6].copy()
    contradicted = extra["class_name"].map({"forest": "crop", "crop": "water", "water": "forest"})
    save(scene, pd.concat([labels(), extra.assign(class_name=contradicted)]))
    done = scene.run("preprocess")
    assert "384" in done.text or "overlap" in done.text
    assert "overlaps" in done.text or done.code == 0


def test_multipolygon_of_far_places_with_gaps(scene: Bed) -> None:
    """Two polygons of a class in one feature, the other ones plain."""
    frame = labels()
    same = frame[frame["class_name"] == "crop"].iloc[:2]
    pair = MultiPolygon(list(same.geometry))
    rest = frame.drop(same.index)
    one = gpd.GeoDataFrame({"class_name": ["crop"]}, geometry=[pair], crs=CRS)
    save(scene, pd.concat([rest, one]))
    assert scene.samples() == ALL
    scene.check_map()


def codes(numbers: dict[str, int], dtype: str) -> np.ndarray:
    return np.vectorize(numbers.get)(truth()).astype(dtype)


NUMBERS = ((2, 10, 11), (1, 2, 3), (7, 50, 255))
KINDS = ("raster", "integers", "texts", "floats")


@pytest.mark.parametrize(
    ("kind", "numbers"), latin(KINDS, NUMBERS), ids=lambda value: str(value).replace(", ", "-")
)
def test_codes_stay_the_values_of_the_map(
    scene: Bed, kind: str, numbers: tuple[int, int, int]
) -> None:
    code = dict(zip(("water", "crop", "forest"), numbers, strict=True))
    if kind == "raster":
        write_scene(scene.folder / "labels" / "codes.tif", codes(code, "uint8"), nodata=0)
        scene.set("labels", source="labels/codes.tif")
    else:
        frame = labels()
        kinds = {"integers": int, "texts": str, "floats": float}
        frame["class_name"] = [kinds[kind](code[name]) for name in frame["class_name"]]
        save(scene, frame)
    scene.check_map(names={name: str(number) for name, number in code.items()})
    with rasterio.open(scene.map) as file:
        assert (file.read(1) == codes(code, "uint8")).mean() > 0.98


@pytest.mark.parametrize("numbers", beside((0, 1, 2), (111, 211, 311), (-1, 1, 2)))
def test_codes_that_do_not_fit_ask_for_a_table(scene: Bed, numbers: tuple[int, int, int]) -> None:
    code = dict(zip(("water", "crop", "forest"), numbers, strict=True))
    write_scene(scene.folder / "labels" / "codes.tif", codes(code, "int16"))
    scene.set("labels", source="labels/codes.tif")
    scene.fails("train", says=["[labels] classes"])
    scene.set("labels", classes={str(number): name for name, number in code.items()})
    scene.check_map()


@pytest.mark.parametrize("none", beside(np.nan, np.inf, -np.inf))
def test_number_of_labels_that_is_none(scene: Bed, none: float) -> None:
    numbers = codes({"water": 1, "crop": 2, "forest": 3}, "float32")
    numbers[:10] = none
    write_scene(scene.folder / "labels" / "codes.tif", numbers)
    scene.set("labels", source="labels/codes.tif")
    scene.check_map(names={"water": "1", "crop": "2", "forest": "3"})
