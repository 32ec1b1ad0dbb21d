"""What is read of a map of classes."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import matplotlib.image
import numpy as np
import pandas as pd
import pytest
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from rasterio.crs import CRS
from scipy import ndimage

from terraflow.eo.config.sections import Map
from terraflow.eo.targets.area.design import Stratum
from terraflow.eo.targets.classes.areas import estimate_areas
from terraflow.eo.targets.classes.classification import Classification
from terraflow.eo.targets.classes.report import class_areas, polygons, report_classes, sieve
from terraflow.eo.targets.parts import Accuracy, MapView

CLASSES = ["forest", "water"]
NAMES = {1: "forest", 2: "water"}
SECTION = Map(colours={"forest": "#00ff00", "water": "#0000ff"})
#: Square metres on the ellipsoid of 10 m x 10 m on the central meridian of a UTM zone.
PIXEL_M2 = 100 / 0.9996**2
SCORES = {
    "overall_accuracy": 0.9,
    "users_accuracy_forest": 0.95,
    "producers_accuracy_forest": 0.85,
    "users_accuracy_water": 0.5,
}
COUNTED_ONLY = Accuracy(SCORES)


def known_map() -> np.ndarray:
    """Forest 1 around one pixel and one 2 x 3 patch of water 2; the last row is nodata."""
    numbers = np.ones((10, 12), dtype="uint8")
    numbers[2, 2] = 2
    numbers[5:7, 6:9] = 2
    numbers[-1] = 0
    return numbers


def view_of(numbers: np.ndarray, **origin: str) -> MapView:
    def thumbnail(most_px: int) -> np.ndarray:
        step = max(1, -(-max(numbers.shape) // most_px))
        return numbers[::step, ::step]

    return MapView(
        numbers,
        bands=Classification().bands(CLASSES, SECTION),
        crs=CRS.from_epsg(32633),
        transform=Affine(10, 0, 500_000, 0, -10, 5_100_000),
        uri="s3://eo-data/map.tif",
        origin={"model": "models:/land-cover/3", "model_name": "land-cover"} | origin,
        thumbnail=thumbnail,
    )


def test_sieve_merges_the_small_patch_and_keeps_the_larger_and_nodata() -> None:
    numbers = known_map()
    expected = numbers.copy()
    expected[2, 2] = 1
    assert (sieve(numbers, 4) == expected).all()


def test_sieve_of_one_pixel_changes_nothing() -> None:
    numbers = known_map()
    assert (sieve(numbers, 1) == numbers).all()


def test_sieve_patch_among_nodata_stays() -> None:
    numbers = np.zeros((5, 5), dtype="uint8")
    numbers[2, 2] = 2
    assert (sieve(numbers, 4) == numbers).all()


def test_sieve_takes_the_largest_neighbour() -> None:
    numbers = np.repeat(np.array([[1, 1, 3, 2, 2, 2]], dtype="uint8"), 2, axis=0)
    assert sieve(numbers, 3).tolist() == [[1, 1, 2, 2, 2, 2]] * 2


@given(arrays("uint8", (12, 12), elements=st.integers(0, 3)))
def test_sieve_never_touches_nodata_nor_makes_classes(numbers: np.ndarray) -> None:
    sieved = sieve(numbers, 4)
    assert ((sieved == 0) == (numbers == 0)).all()
    assert set(np.unique(sieved)) <= set(np.unique(numbers))


def test_polygons_have_class_and_area_of_every_patch() -> None:
    frame = polygons(known_map(), view_of(known_map()), NAMES)
    assert frame.crs.to_epsg() == 32633
    frame = frame.sort_values("area_m2")
    assert frame["class_name"].tolist() == ["water", "water", "forest"]
    assert frame["class_number"].tolist() == [2, 2, 1]
    assert (frame["area_m2"] / PIXEL_M2).tolist() == pytest.approx([1, 6, 101], rel=1e-5)
    assert frame.geometry.is_valid.all()
    assert frame.total_bounds.tolist() == [500_000, 5_099_910, 500_120, 5_100_000]


@given(arrays("uint8", (8, 9), elements=st.integers(0, 2)))
def test_polygons_cover_each_class_once(numbers: np.ndarray) -> None:
    frame = polygons(numbers, view_of(numbers), NAMES)
    for number in (1, 2):
        mine = frame[frame["class_number"] == number]
        expected = PIXEL_M2 * (numbers == number).sum()
        assert mine["area_m2"].sum() == pytest.approx(expected, rel=1e-5)
        assert len(mine) == ndimage.label(numbers == number)[1]


def test_class_areas_without_a_sample_are_pixel_counts_without_intervals() -> None:
    areas = class_areas(view_of(known_map()), COUNTED_ONLY, NAMES)
    assert (areas["method"], areas["remark"]) == ("pixel count", "")
    assert areas["map"]["model"] == "models:/land-cover/3"
    assert areas["map"]["uri"] == "s3://eo-data/map.tif"
    assert (areas["total_px"], areas["nodata_px"]) == (120, 12)
    assert areas["pixel_m2"] == pytest.approx(PIXEL_M2, rel=1e-6)
    forest, water = areas["classes"]["forest"], areas["classes"]["water"]
    assert (forest["pixels"], water["pixels"]) == (101, 7)  # before the sieve
    assert forest["mapped_m2"] == pytest.approx(101 * PIXEL_M2, rel=1e-6)
    assert forest["cross_validated"] == {"users_accuracy": 0.95, "producers_accuracy": 0.85}
    assert water["cross_validated"] == {"users_accuracy": 0.5, "producers_accuracy": None}
    assert "area_m2" not in forest
    assert json.loads(json.dumps(areas)) == areas


def test_class_areas_of_a_map_in_degrees_are_those_on_the_ellipsoid() -> None:
    numbers = np.ones((10, 10), "uint8")
    degrees = replace(
        view_of(numbers), crs=CRS.from_epsg(4326), transform=Affine(1e-4, 0, 15, 0, -1e-4, 46)
    )
    areas = class_areas(degrees, COUNTED_ONLY, NAMES)
    metres = 111_147 * 77_466  # a degree of latitude and of longitude at 46 degrees north
    expected = 100 * 1e-8 * metres
    assert areas["classes"]["forest"]["mapped_m2"] == pytest.approx(expected, rel=1e-3)
    [forest] = polygons(numbers, degrees, NAMES)["area_m2"]
    assert forest == pytest.approx(expected, rel=1e-3)


def sampled() -> Accuracy:
    """Of 10 points mapped as forest 9 are forest; of 5 mapped as water all are."""
    mapped = ["forest"] * 10 + ["water"] * 5
    sample = pd.DataFrame(
        {"stratum": mapped, "mapped": mapped, "reference": ["forest"] * 9 + ["water"] * 6}
    )
    strata = {
        name: Stratum(level=name, pixels=n, area_m2=n * PIXEL_M2)
        for name, n in (("forest", 101), ("water", 7))
    }
    return Accuracy(SCORES, estimate_areas(sample, strata, CLASSES).to_dict())


def test_class_areas_with_a_sample_are_its_estimates() -> None:
    areas = class_areas(view_of(known_map()), sampled(), NAMES)
    assert (areas["method"], areas["points"], areas["strata"]) == ("probability sample", 15, 2)
    water = areas["classes"]["water"]
    assert water["pixels"] == 7
    assert water["area_m2"]["value"] == pytest.approx(PIXEL_M2 * (7 + 101 * 0.1))
    assert areas["overall_accuracy"]["value"] == pytest.approx((101 * 0.9 + 7) / 108)
    assert json.loads(json.dumps(areas)) == areas


def test_report_table_without_a_sample_calls_areas_what_they_are() -> None:
    table = report_classes(view_of(known_map(), note="Simulated."), COUNTED_ONLY, SECTION).table
    assert "12 of 120 pixels have no class" in table
    assert "models:/land-cover/3, run unknown" in table
    assert "**Simulated.**" in table
    assert "| class | mapped area (pixel count), ha | cross-validated user's accuracy |" in table
    assert "| forest | 1.0 | 0.95 | 0.85 |" in table
    assert "| water | 0.1 | 0.50 | not known |" in table
    assert "Cross-validated overall accuracy: 0.90." in table
    assert "they have no interval" in table
    assert "`invoke validate draw --map s3://eo-data/map.tif`" in table
    assert "±" not in table
    assert " to " not in table.partition("Cross-validated overall")[0]


def test_report_table_of_a_small_map_is_in_square_metres() -> None:
    """Of 5 cm pixels all areas were told as 0.0 hectares."""
    small = replace(view_of(known_map()), transform=Affine(0.05, 0, 500_000, 0, -0.05, 5_100_000))
    table = report_classes(small, COUNTED_ONLY, SECTION).table
    assert "mapped area (pixel count), m2" in table
    assert "| forest | 0.3 | 0.95" in table
    assert "| water | 0.018 | 0.50" in table
    told = report_classes(small, sampled(), SECTION).table
    assert "estimated area, m2" in told


def test_report_table_with_a_sample_has_its_intervals() -> None:
    table = report_classes(view_of(known_map()), sampled(), SECTION).table
    assert "probability sample of this map, of 15 points in 2 strata" in table
    forest = next(line for line in table.splitlines() if line.startswith("| forest"))
    assert re.match(
        r"\| forest \| 1\.0 \| 0\.9 \(0\.7 to 1\.1\) \| 0\.90 \(0\.\d\d to 1\.00\) \|", forest
    )
    assert "10.1016/j.rse.2014.02.015" in table
    assert "10.1080/01431161.2014.930207" in table
    assert "cross-validated" not in table


def test_report_table_tells_why_a_sample_is_not_taken() -> None:
    other = Accuracy(SCORES, None, "The sample was drawn from another map.")
    assert "The sample was drawn from another map." in (
        report_classes(view_of(known_map()), other, SECTION).table
    )


@pytest.mark.parametrize("unit", [1, 4])
def test_report_classes_polygons_follow_the_minimum_mapping_unit(unit: int, tmp_path: Path) -> None:
    import geopandas as gpd

    section = SECTION.model_copy(update={"minimum_mapping_unit_px": unit})
    ending, write = report_classes(view_of(known_map()), COUNTED_ONLY, section).files["polygons"]
    assert ending == "polygons.parquet"
    write(tmp_path / ending)
    frame = gpd.read_parquet(tmp_path / ending)
    expected = [1, 6, 101] if unit == 1 else [6, 102]
    assert sorted(frame["area_m2"] / PIXEL_M2) == pytest.approx(expected, rel=1e-5)


def test_report_classes_quicklook_shows_the_classes_in_their_colours(tmp_path: Path) -> None:
    numbers = np.repeat(np.repeat(known_map(), 300, axis=0), 300, axis=1)
    _, draw = report_classes(view_of(numbers), COUNTED_ONLY, SECTION).files["quicklook"]
    draw(tmp_path / "q.png")
    picture = (255 * matplotlib.image.imread(tmp_path / "q.png")[..., :3]).round().astype(int)
    pixels = picture.reshape(-1, 3)
    green, blue = ((pixels == colour).all(axis=1).sum() for colour in ((0, 255, 0), (0, 0, 255)))
    assert 8 < green / blue < 20  # 101 : 7 in the map; the legend has patches of the same size
    assert max(picture.shape) < 2500
