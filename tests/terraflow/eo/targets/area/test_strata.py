from __future__ import annotations

import numpy as np
import pytest
from affine import Affine
from rasterio.crs import CRS

from terraflow.eo.targets.area.pixel_areas import PixelAreas
from terraflow.eo.targets.area.strata import draw_pixels, part_map, part_numbers
from terraflow.errors import ConfigError, DataError

NAMES = {1: "forest", 2: "water", 3: "ice"}
VALUES = np.repeat(np.array([[0, 1, 1, 1, 2, 2]], "uint8"), 30, axis=0)
UTM = Affine(10, 0, 500_000, 0, -10, 5_100_000)


def areas_of(values: np.ndarray, crs: int = 32633, transform: Affine = UTM) -> PixelAreas:
    return PixelAreas(CRS.from_epsg(crs), transform, values.shape)


def test_strata_are_the_values_that_the_map_has() -> None:
    numbers, strata = part_map(VALUES, None, NAMES, areas_of(VALUES))
    assert (numbers == VALUES).all()
    assert {name: each.pixels for name, each in strata.items()} == {"forest": 90, "water": 60}
    assert strata["forest"].level == "forest"
    assert strata["forest"].area_m2 == pytest.approx(9000, rel=1e-3)


def test_strata_by_confidence_part_the_unsure_third() -> None:
    confidence = np.repeat(np.array([[0, 40, 80, 90, 70, 70]], "uint8"), 30, axis=0)
    numbers, strata = part_map(VALUES, confidence, NAMES, areas_of(VALUES), by="classes+confidence")
    assert {name: each.pixels for name, each in strata.items()} == {
        "forest, confidence up to 40 %": 30,
        "forest, confidence above 40 %": 60,
        "water, confidence up to 70 %": 60,
    }
    assert [each.level for each in strata.values()] == ["forest", "forest", "water"]
    assert numbers[0].tolist() == [0, 1, 2, 2, 3, 3]


def test_draw_is_of_each_stratum_without_repetition_and_the_same_by_seed() -> None:
    drawn = draw_pixels(VALUES, [20, 60], areas_of(VALUES), 7)
    assert [len(places) for places in drawn] == [20, 60]
    for number, places in enumerate(drawn, 1):
        assert (VALUES[tuple(places.T)] == number).all()
        assert len(np.unique(places, axis=0)) == len(places)
    again = draw_pixels(VALUES, [20, 60], areas_of(VALUES), 7)
    assert all((a == b).all() for a, b in zip(drawn, again, strict=True))
    assert (drawn[0] != draw_pixels(VALUES, [20, 60], areas_of(VALUES), 8)[0]).any()


def test_draw_gives_each_pixel_its_chance() -> None:
    values = np.ones((4, 5), "uint8")
    seen, areas = np.zeros(values.shape), areas_of(values)
    for seed in range(2000):
        [places] = draw_pixels(values, [2], areas, seed)
        np.add.at(seen, tuple(places.T), 1)
    assert seen.sum() == 4000
    assert np.abs(seen - 200).max() < 5 * np.sqrt(200 * 0.9)


def test_draw_is_by_area_where_pixels_shrink_towards_the_pole() -> None:
    values = np.ones((60, 40), "uint8")
    areas = areas_of(values, 4326, Affine(1, 0, 0, 0, -1, 70))  # 10 to 70 degrees north
    north = 0
    for seed in range(200):
        [places] = draw_pixels(values, [20], areas, seed)
        north += int((places[:, 0] < 30).sum())
    sines = np.sin(np.radians([10, 40, 70]))
    assert north / 4000 == pytest.approx((sines[2] - sines[1]) / (sines[2] - sines[0]), abs=0.03)


def test_draw_of_a_large_map_is_made_of_all_its_blocks() -> None:
    values = np.ones((1500, 1000), "uint8")
    [places] = draw_pixels(values, [300], areas_of(values), 1)
    assert abs((places[:, 0] < 1000).sum() - 200) < 40
    assert places[:, 0].max() > 1400


def test_mistakes_are_a_sentence() -> None:
    with pytest.raises(ConfigError, match=r"--strata rows is not known; write classes or"):
        part_map(VALUES, None, NAMES, areas_of(VALUES), by="rows")
    with pytest.raises(DataError, match="no band of confidence; draw with --strata classes"):
        part_map(VALUES, None, NAMES, areas_of(VALUES), by="classes+confidence")
    with pytest.raises(DataError, match="no pixel with a value"):
        part_map(0 * VALUES, None, NAMES, areas_of(VALUES))


def test_ranges_of_numbers_have_the_same_area_and_tell_mean_and_spread() -> None:
    values = np.arange(100.0).reshape(10, 10)
    values[0, 0] = np.nan
    numbers, strata = part_numbers(values, areas_of(values))
    assert numbers[0, 0] == 0
    assert [each.pixels for each in strata.values()] == [20, 20, 20, 20, 19]
    assert list(strata)[:2] == ["range 1: 1 to 20", "range 2: 20 to 40"]
    for i, each in enumerate(strata.values(), 1):
        inside = values[numbers == i]
        assert each.level == ""
        assert each.mean == pytest.approx(inside.mean(), rel=1e-6)
        assert each.spread == pytest.approx(inside.std(), rel=1e-6)


def test_ranges_of_numbers_are_of_area_and_not_of_pixels() -> None:
    """Towards the pole a degree is short: the northern half has more pixels of an area."""
    values = np.repeat(np.linspace(80, 0.5, 160)[:, None], 4, axis=1)
    areas = areas_of(values, 4326, Affine(0.5, 0, 10, 0, -0.5, 80))
    _, strata = part_numbers(values, areas)
    area_m2 = np.array([each.area_m2 for each in strata.values()])
    pixels = [each.pixels for each in strata.values()]
    assert np.abs(area_m2 / area_m2.mean() - 1).max() < 0.05
    assert pixels[-1] > 1.5 * pixels[0]


def test_ranges_are_fewer_where_many_pixels_have_one_number() -> None:
    values = np.repeat(np.array([[0.0] * 7 + [1, 2, 3]]), 10, axis=0)
    numbers, strata = part_numbers(values, areas_of(values))
    assert [each.pixels for each in strata.values()] == [70, 10, 20]
    assert numbers[0].tolist() == [1] * 7 + [2, 3, 3]
    _, one = part_numbers(0 * values, areas_of(values))
    assert [(each.pixels, each.spread) for each in one.values()] == [(100, 0)]


def test_numbers_take_values_as_strata_alone() -> None:
    values = np.ones((3, 3))
    assert part_numbers(values, areas_of(values), by="values")[1]
    with pytest.raises(ConfigError, match="--strata classes is not for a map of numbers; write va"):
        part_numbers(values, areas_of(values), by="classes")
    with pytest.raises(DataError, match="no pixel with a value"):
        part_numbers(np.nan * values, areas_of(values))
