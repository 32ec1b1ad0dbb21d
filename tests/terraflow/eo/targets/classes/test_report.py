"""What is read of a map of classes."""

from __future__ import annotations

import json
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
from terraflow.eo.targets.classes.areas import ASSUMPTION, WEIGHTED
from terraflow.eo.targets.classes.classification import Classification
from terraflow.eo.targets.classes.report import class_areas, polygons, report_classes, sieve
from terraflow.eo.targets.parts import HeldOut, MapView
from terraflow.errors import DataError

CLASSES = ["forest", "water"]
SECTION = Map(colours={"forest": "#00ff00", "water": "#0000ff"})
PIXEL_M2 = 100
PREDICTIONS = pd.DataFrame(
    {
        "class_name": ["forest"] * 9 + ["water"] + ["water"] * 4 + ["forest"],
        "predicted": ["forest"] * 10 + ["water"] * 5,
    }
)
ALL_USED = HeldOut(PREDICTIONS, {"forest": 10, "water": 5})


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
        transform=Affine(10, 0, 15, 0, -10, 46),
        pixel_m2=PIXEL_M2,
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
    frame = polygons(known_map(), view_of(known_map()), CLASSES)
    assert frame.crs.to_epsg() == 32633
    rows = sorted(zip(frame["class_name"], frame["class_number"], frame["area_m2"], strict=True))
    assert rows == [
        ("forest", 1, 101 * PIXEL_M2),
        ("water", 2, PIXEL_M2),
        ("water", 2, 6 * PIXEL_M2),
    ]
    assert frame.geometry.is_valid.all()
    assert frame.total_bounds.tolist() == [15, 46 - 90, 15 + 120, 46]


@given(arrays("uint8", (8, 9), elements=st.integers(0, 2)))
def test_polygons_cover_each_class_once(numbers: np.ndarray) -> None:
    frame = polygons(numbers, view_of(numbers), CLASSES)
    for number in (1, 2):
        mine = frame[frame["class_number"] == number]
        assert mine["area_m2"].sum() == PIXEL_M2 * (numbers == number).sum()
        assert len(mine) == ndimage.label(numbers == number)[1]


def test_class_areas_are_of_the_map_before_the_sieve() -> None:
    areas = class_areas(view_of(known_map()), ALL_USED, CLASSES)
    assert areas["adjusted"]
    assert areas["map"]["model"] == "models:/land-cover/3"
    assert (areas["total_px"], areas["nodata_px"], areas["pixel_m2"]) == (120, 12, 100)
    forest, water = areas["classes"]["forest"], areas["classes"]["water"]
    assert (forest["mapped_m2"], water["mapped_m2"]) == (101 * PIXEL_M2, 7 * PIXEL_M2)
    # of 10 mapped forest 9 are; of 5 mapped water 4 are
    assert areas["error_matrix"]["samples"] == [[9, 1], [1, 4]]
    assert water["area_m2"]["value"] == pytest.approx(PIXEL_M2 * (7 * 0.8 + 101 * 0.1))
    error = np.sqrt((7 / 108) ** 2 * 0.16 / 4 + (101 / 108) ** 2 * 0.09 / 9)
    assert water["area_m2"]["margin"] == pytest.approx(PIXEL_M2 * 108 * 1.96 * error)
    assert areas["overall_accuracy"]["value"] == pytest.approx((101 * 0.9 + 7 * 0.8) / 108)
    assert json.loads(json.dumps(areas)) == areas


def test_class_areas_weight_samples_of_a_class_of_which_not_all_pixels_were_used() -> None:
    held_out = HeldOut(PREDICTIONS, {"forest": 20, "water": 5})
    areas = class_areas(view_of(known_map()), held_out, CLASSES)
    assert areas["weights"] == {"forest": 2, "water": 1}
    # of 10 mapped forest 9 are, each for 2: 18 of 19; of 5 mapped water 4 are, of 6
    users = [areas["classes"][name]["users_accuracy"]["value"] for name in CLASSES]
    assert users == pytest.approx([18 / 19, 4 / 6])
    assert areas["remark"] == f"{ASSUMPTION} {WEIGHTED}"


def test_class_areas_of_all_labelled_pixels_weight_none() -> None:
    plain, told = (
        class_areas(view_of(known_map()), HeldOut(PREDICTIONS, counts), CLASSES)
        for counts in ({}, {"forest": 10, "water": 5})
    )
    assert plain == told
    assert plain["remark"] == ASSUMPTION
    assert "may be biased" in ASSUMPTION


def test_class_areas_of_a_class_without_samples_are_told_without_accuracies() -> None:
    numbers = np.where(known_map() == 2, 0, known_map()).astype("uint8")
    forest = PREDICTIONS[PREDICTIONS["class_name"] == "forest"].assign(predicted="forest")
    areas = class_areas(view_of(numbers), HeldOut(forest, {}), CLASSES)
    water = areas["classes"]["water"]
    assert (water["mapped_m2"], water["users_accuracy"], water["producers_accuracy"]) == (
        0,
        None,
        None,
    )
    assert "NaN" not in json.dumps(areas)


def test_class_areas_held_out_of_another_map_are_refused() -> None:
    other = HeldOut(PREDICTIONS.replace("water", "ice"), {})
    with pytest.raises(DataError, match="class ice, which the map does not know"):
        class_areas(view_of(known_map()), other, CLASSES)


def test_report_classes_without_samples_of_a_mapped_class_tells_mapped_areas_and_why() -> None:
    few = HeldOut(PREDICTIONS[PREDICTIONS["predicted"] == "forest"], {})
    areas = class_areas(view_of(known_map()), few, CLASSES)
    assert not areas["adjusted"]
    assert areas["classes"]["water"] == {"mapped_m2": 700}
    table = report_classes(view_of(known_map()), few, SECTION).table
    assert "water (7 px, 0 samples)" in table
    assert "| water | 0.1 | not known | not known | not known |" in table


def test_report_classes_table_tells_areas_intervals_and_what_they_assume() -> None:
    table = report_classes(view_of(known_map(), note="Simulated."), ALL_USED, SECTION).table
    assert "12 of 120 pixels have no class" in table
    assert "models:/land-cover/3, run unknown" in table
    assert "**Simulated.**" in table
    assert "| forest | 1.0 | 0.9 ± 0.2 | 0.90 ± 0.20 | 0.98 ± 0.03 |" in table
    assert "stratified random sample" in table
    assert "10.1016/j.rse.2014.02.015" in table


@pytest.mark.parametrize("unit", [1, 4])
def test_report_classes_polygons_follow_the_minimum_mapping_unit(unit: int, tmp_path: Path) -> None:
    import geopandas as gpd

    section = SECTION.model_copy(update={"minimum_mapping_unit_px": unit})
    ending, write = report_classes(view_of(known_map()), ALL_USED, section).files["polygons"]
    assert ending == "polygons.parquet"
    write(tmp_path / ending)
    frame = gpd.read_parquet(tmp_path / ending)
    assert sorted(frame["area_m2"] / PIXEL_M2) == ([1, 6, 101] if unit == 1 else [6, 102])


def test_report_classes_quicklook_shows_the_classes_in_their_colours(tmp_path: Path) -> None:
    numbers = np.repeat(np.repeat(known_map(), 300, axis=0), 300, axis=1)
    _, draw = report_classes(view_of(numbers), ALL_USED, SECTION).files["quicklook"]
    draw(tmp_path / "q.png")
    picture = (255 * matplotlib.image.imread(tmp_path / "q.png")[..., :3]).round().astype(int)
    pixels = picture.reshape(-1, 3)
    green, blue = ((pixels == colour).all(axis=1).sum() for colour in ((0, 255, 0), (0, 0, 255)))
    assert 8 < green / blue < 20  # 101 : 7 in the map; the legend has patches of the same size
    assert max(picture.shape) < 2500
