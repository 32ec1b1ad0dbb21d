"""Kinds: validity told by a mask; nodata of several sources; values that are none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from field.bed import Bed, beside, latin
from field.scenes import REFLECTANCE_BANDS, labels, reflectance, truth, write_catalogue, write_scene

MASKS = ("alpha", "internal", "msk")
RING = np.ones((96, 96), bool)
RING[8:-8, 8:-8] = False
WEST = np.zeros((96, 96), bool)
WEST[:, :20] = True


def catalogue(bed: Bed, items: list[dict[str, Any]], **options: Any) -> None:
    write_catalogue(bed.folder, items, **options)
    bed.set("data", files=None, catalogue="catalogue.json")
    bed.set("data.bands", **{name: name for name in REFLECTANCE_BANDS})
    labels().to_file(bed.folder / "labels.gpkg")


@pytest.mark.parametrize(("mask", "dtype"), latin(MASKS, ("uint8", "uint16", "float32")))
def test_mask_of_an_image(bed: Bed, mask: str, dtype: str) -> None:
    """What the mask hides looks like water: dark."""
    values = reflectance() * (1 if dtype == "float32" else 250)
    values[:, RING] = 0
    path = bed.folder / "scene_20240514.tif"
    write_scene(path, values.astype(dtype), hidden=RING, mask=mask)
    labels().to_file(bed.folder / "labels.gpkg")
    bed.check_map(RING)


def test_mask_and_nodata_of_one_file(bed: Bed) -> None:
    values = (reflectance() * 10_000).astype("uint16")
    values[:, WEST] = 65_535
    path = bed.folder / "scene_20240514.tif"
    write_scene(path, values, nodata=65_535, hidden=RING, mask="msk")
    labels().to_file(bed.folder / "labels.gpkg")
    bed.check_map(WEST | RING)


def test_mask_on_a_coarser_grid(bed: Bed) -> None:
    """At 20 m a pixel is valid where at least half of its own are."""
    values = (reflectance() * 250).astype("uint8")
    values[:, RING] = 0
    path = bed.folder / "scene_20240514.tif"
    write_scene(path, values, hidden=RING, mask="alpha")
    labels().to_file(bed.folder / "labels.gpkg")
    bed.set("grid", resolution=20)
    bed.set("validation", block_size_px=6)
    bed.check_map(RING[::2, ::2], expected=truth()[::2, ::2])


def test_mask_of_a_layer(bed: Bed) -> None:
    write_scene(bed.folder / "scene_20240514.tif", reflectance().astype("float32"))
    height = np.full((96, 96), 200, "uint8")
    write_scene(bed.folder / "layers" / "height.tif", height, hidden=RING, mask="msk")
    labels().to_file(bed.folder / "labels.gpkg")
    bed.set("features.layers", height="layers/height.tif")
    bed.check_map(RING)


@pytest.mark.parametrize("mask", beside(*MASKS))
def test_mask_of_a_raster_of_labels(bed: Bed, mask: str) -> None:
    """Where the mask hides, codes are wrong."""
    write_scene(bed.folder / "scene_20240514.tif", reflectance().astype("float32"))
    codes = np.vectorize({"water": 1, "crop": 2, "forest": 3}.get)(truth()).astype("uint8")
    codes[RING] = 4
    write_scene(bed.folder / "labels" / "codes.tif", codes, hidden=RING, mask=mask)
    bed.set("labels", source="labels/codes.tif")
    bed.check_map(names={"water": "1", "crop": "2", "forest": "3"})


@pytest.mark.parametrize(
    ("dtype", "of_file", "of_item"), [("int16", -9999, 0), ("uint16", 65535, 1), ("float32", -1, 9)]
)
def test_nodata_of_item_and_file(bed: Bed, dtype: str, of_file: float, of_item: float) -> None:
    """Both hold: what the file marks is nodata, and what the item tells."""
    values = reflectance() * (1 if dtype == "float32" else 10_000)
    values[:, WEST] = of_file
    values[:, :10] = of_item
    hidden = WEST.copy()
    hidden[:10] = True
    catalogue(bed, [{"values": values, "nodata": of_item}], dtype=dtype, nodata=of_file)
    bed.check_map(hidden)


@pytest.mark.parametrize(
    ("dtype", "nodata"),
    [("float32", -1.7976931348623157e308), ("uint16", -9999), ("uint8", 256), ("int16", 0.5)],
)
def test_nodata_of_an_item_that_the_type_can_not_hold(bed: Bed, dtype: str, nodata: float) -> None:
    values = reflectance() * (1 if dtype == "float32" else 250)
    catalogue(bed, [{"values": values, "nodata": nodata}], dtype=dtype)
    bed.check_map()


@pytest.mark.parametrize("told", beside(-3.4e38, -3.4028234663852886e38, -3.402823e38))
def test_nodata_rounded_by_another_writer(bed: Bed, told: float) -> None:
    values = reflectance()
    values[:, WEST] = np.finfo("float32").min
    catalogue(bed, [{"values": values, "nodata": told}])
    bed.check_map(WEST)


@pytest.mark.parametrize("value", beside(np.inf, -np.inf, np.nan))
def test_value_that_is_not_finite(bed: Bed, value: float) -> None:
    """In the first of four dates: the median is of the three others, in every statistic."""
    for number, day in enumerate(("03", "12", "21", "28")):
        values = reflectance(number)
        if number == 0:
            values[:, WEST] = value
        write_scene(bed.folder / f"scene_202405{day}.tif", values.astype("float32"))
    labels().to_file(bed.folder / "labels.gpkg")
    bed.set("features", composites="month", percentile=10, statistics=["min", "max", "std", "p25"])
    table = bed.table()
    features = table.select_dtypes("float")
    assert np.isfinite(features).all(axis=None)
    assert features.filter(like="red").drop(columns="red_std").to_numpy().max() < 0.12
    assert bed.samples() == {"water": 960, "crop": 960, "forest": 2176}
    bed.check_map()


def cloudy(bed: Bed, mask: Any, dtype: str, **rule: Any) -> None:
    """A second file a date with the band mask."""
    write_scene(bed.folder / "scene_20240514_refl.tif", reflectance().astype("float32"))
    write_scene(bed.folder / "scene_20240514_mask.tif", mask.astype(dtype), **rule.pop("file", {}))
    labels().to_file(bed.folder / "labels.gpkg")
    bed.set("data", name_pattern=r"(?P<date>\d{8})_(?P<band>\w+)")
    bed.set("data.bands", **{n: f"refl.{i + 1}" for i, n in enumerate(REFLECTANCE_BANDS)})
    bed.set("cloud_mask", asset="mask", **rule)


@pytest.mark.parametrize(("above", "hidden"), [(0.4, WEST), (0.5, np.zeros_like(WEST))])
def test_fractions_of_clouds_have_a_threshold(bed: Bed, above: float, hidden: Any) -> None:
    cloudy(bed, np.where(WEST, 0.45, 0.02), "float32", clear=[0])
    bed.fails("train", says=["holds fractions", "in [cloud_mask]", "above = 0.4"])
    bed.set("cloud_mask", clear=None, above=above)
    bed.check_map(hidden)


def test_per_cent_of_clouds_have_a_threshold(bed: Bed) -> None:
    cloudy(bed, np.where(WEST, 41, 40), "uint8", above=40)
    bed.check_map(WEST)


@pytest.mark.parametrize("bit", beside(31, 0, 15))
def test_flags_of_32_bits(bed: Bed, bit: int) -> None:
    cloudy(bed, np.where(WEST, 1 << bit, 0).astype("uint32"), "uint32", cloudy_bits=[bit])
    bed.check_map(WEST)


def test_listed_value_of_a_mask_wins_over_its_nodata(bed: Bed) -> None:
    cloudy(bed, np.where(WEST, 3, 0), "uint8", clear=[0], file={"nodata": 0})
    bed.check_map(WEST)


def test_flags_whose_clear_value_is_nodata_are_a_contradiction(bed: Bed) -> None:
    cloudy(bed, np.where(WEST, 2, 0), "uint8", cloudy_bits=[1, 3], file={"nodata": 0})
    bed.fails("train", says=["has the nodata 0", 'nodata = "none" in [cloud_mask]'])
    bed.set("cloud_mask", nodata="none")
    bed.check_map(WEST)
