from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pystac
import pytest
import rasterio
from affine import Affine
from pydantic import ValidationError

from area import CRS, TRANSFORM, make_project
from terraflow.eo.config.imagery import CloudMask
from terraflow.eo.config.project_file import read_recorded
from terraflow.eo.features.recipe import FeatureRecipe
from terraflow.eo.features.windows import FeatureSource
from terraflow.eo.images.collection import read_items
from terraflow.eo.images.ingest import ingest
from terraflow.errors import ConfigError, DataError
from terraflow.storage import Storage

Array = npt.NDArray[Any]
SIDE = 16


def write(path: Path, data: Array, transform: Affine = TRANSFORM, **more: Any) -> None:
    mask, scale = more.pop("mask", None), more.pop("scale", None)
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(
            path,
            "w",
            driver="GTiff",
            height=data.shape[0],
            width=data.shape[1],
            count=1,
            dtype=data.dtype,
            crs=CRS,
            transform=transform,
            **more,
        ) as file,
    ):
        file.write(data, 1)
        if scale:
            file.scales = (scale,)
        if mask is not None:
            file.write_mask(mask)


def loaded(
    folder: Path,
    storage: Storage,
    flags: Array,
    rule: Mapping[str, Any],
    *,
    data: Mapping[str, Any] | None = None,
    red: Array | None = None,
    transform: Affine = TRANSFORM,
    item_nodata: float | None = None,
    **more: Any,
) -> tuple[Array, Array]:
    """Ingest an image and its mask; give the red values and where it is observed."""
    write(folder / "red.tif", np.full((SIDE, SIDE), 1000, "uint16") if red is None else red)
    write(folder / "mask.tif", flags, transform, **more)
    item = pystac.Item("a", None, None, pystac.utils.str_to_datetime("2024-05-01"), {})
    item.add_asset("red", pystac.Asset(str(folder / "red.tif")))
    told = {} if item_nodata is None else {"nodata": item_nodata}
    item.add_asset("mask", pystac.Asset(str(folder / "mask.tif"), extra_fields=told))
    pystac.ItemCollection([item]).save_object(str(folder / "items.json"))
    section = {"catalogue": str(folder / "items.json"), "bands": {"red": "red"}} | dict(data or {})
    project = make_project(
        data=section,
        cloud_mask={"asset": "mask"} | dict(rule),
        features={"composites": "whole"},
    )
    items = read_items(ingest(project, storage).items, storage)
    source = FeatureSource(items, FeatureRecipe.of(project), storage)
    (window,) = source.windows()
    with storage.gdal():
        cube = source.cube(window).compute()
    return cube["red"].values[0], cube["observed"].values[0]


def halves(left: float, right: float, dtype: str = "uint8") -> Array:
    """Mask of two values: the left and the right half of the image."""
    return np.where(np.arange(SIDE) < SIDE // 2, left, right).astype(dtype) * np.ones(
        (SIDE, 1), dtype
    )


LEFT = np.tile(np.arange(SIDE) < SIDE // 2, (SIDE, 1))


@pytest.mark.parametrize("told", [{"nodata": 0}, {"item_nodata": 0}], ids=["file", "item"])
def test_load_clear_value_that_is_listed_is_clear_though_it_is_nodata(
    told: dict[str, Any], tmp_path: Path, storage: Storage
) -> None:
    red, observed = loaded(tmp_path, storage, halves(0, 9), {"clear": [0]}, **told)
    assert (np.isfinite(red) == LEFT).all()
    assert observed.all()


def test_load_clear_nodata_that_is_not_listed_is_unobserved(
    tmp_path: Path, storage: Storage
) -> None:
    red, observed = loaded(tmp_path, storage, halves(4, 0), {"clear": [4]}, nodata=0)
    assert (np.isfinite(red) == LEFT).all()
    assert (observed == LEFT).all()


@pytest.mark.parametrize(
    ("rule", "value"),
    [({"cloudy_bits": [1, 3]}, 0), ({"cloudy_bits": [1, 3]}, 64), ({"above": 40}, 0)],
)
def test_load_clear_nodata_that_is_clear_by_the_rule_tells_two_ways_on(
    rule: dict[str, Any], value: int, tmp_path: Path, storage: Storage
) -> None:
    flags = halves(value, 32)
    with pytest.raises(DataError, match=rf"mask of item a has the nodata {value}, which by .* "):
        loaded(tmp_path, storage, flags, rule, nodata=value)
    red, observed = loaded(tmp_path, storage, flags, rule | {"nodata": "none"}, nodata=value)
    assert np.isfinite(red).all()
    assert observed.all()
    red, observed = loaded(tmp_path, storage, flags, rule | {"nodata": value}, nodata=value)
    assert (np.isfinite(red) == ~LEFT).all()
    assert (observed == ~LEFT).all()


@pytest.mark.parametrize(("dtype", "value"), [("uint8", 255), ("uint16", 1), ("int16", -9999)])
def test_load_clear_nodata_of_cloudy_bits_or_below_zero_is_no_contradiction(
    dtype: str, value: int, tmp_path: Path, storage: Storage
) -> None:
    rule = {"cloudy_bits": [0, 1, 3]}
    _, observed = loaded(tmp_path, storage, halves(value, 64, dtype), rule, nodata=value)
    assert (observed == ~LEFT).all()


def test_load_clear_nodata_of_the_configuration_goes_before_the_files(
    tmp_path: Path, storage: Storage
) -> None:
    rule = {"cloudy_bits": [1], "nodata": 255}
    red, observed = loaded(tmp_path, storage, halves(0, 255), rule, nodata=0)
    assert (np.isfinite(red) == LEFT).all()
    assert (observed == LEFT).all()


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32", "int64", "float32"])
def test_load_clear_what_a_mask_of_the_mask_hides_is_unobserved_whatever_it_holds(
    dtype: str, tmp_path: Path, storage: Storage
) -> None:
    rule = {"clear": [0, 4], "nodata": "none"}
    red, observed = loaded(tmp_path, storage, halves(4, 0, dtype), rule, nodata=0, mask=LEFT)
    assert (np.isfinite(red) == LEFT).all()
    assert (observed == LEFT).all()


def test_load_clear_records_of_before_take_nodata_as_it_was() -> None:
    values = make_project(cloud_mask={"asset": "qa", "cloudy_bits": [3]}).model_dump(mode="json")
    mask = read_recorded(values).cloud_mask
    assert mask is not None
    assert mask.nodata is None
    del values["cloud_mask"]["nodata"], values["cloud_mask"]["above"]
    mask = read_recorded(values).cloud_mask
    assert mask is not None
    assert mask.nodata == "file"


def test_load_clear_nodata_file_is_nodata_though_it_is_listed(
    tmp_path: Path, storage: Storage
) -> None:
    rule = {"clear": [0, 4], "nodata": "file"}
    _, observed = loaded(tmp_path, storage, halves(4, 0), rule, nodata=0)
    assert (observed == LEFT).all()


@pytest.mark.parametrize(
    ("values", "above", "more"),
    [
        ((0.02, 0.95), 0.4, {}),
        ((0.4, 0.41), 0.4, {}),
        ((0.0, 1.0), 0.5, {}),
        ((2, 95), 40, {}),
        ((2, 95), 0.4, {"scale": 0.01}),
        ((0.02, -9999), 0.4, {"nodata": -9999}),
        ((0.02, np.nan), 0.4, {}),
        ((0.02, -np.inf), 0.4, {}),
        ((0.02, np.inf), 0.4, {}),
    ],
)
def test_load_clear_what_is_above_the_threshold_is_cloudy(
    values: tuple[float, float],
    above: float,
    more: dict[str, Any],
    tmp_path: Path,
    storage: Storage,
) -> None:
    dtype = "uint8" if isinstance(values[0], int) else "float32"
    red, _ = loaded(tmp_path, storage, halves(*values, dtype), {"above": above}, **more)
    assert (np.isfinite(red) == LEFT).all()


@pytest.mark.parametrize(("factor", "hidden"), [(2, 8), (0.5, 9)], ids=["coarser", "finer"])
def test_load_clear_threshold_of_a_mask_of_other_pixels(
    factor: float, hidden: int, tmp_path: Path, storage: Storage
) -> None:
    side = int(SIDE / factor)
    clouds = np.zeros((side, side), "float32")
    clouds[:, : side // 2 + (factor < 1)] = 0.9  # of finer pixels one more, half of one of red
    red, _ = loaded(
        tmp_path, storage, clouds, {"above": 0.4}, transform=TRANSFORM * Affine.scale(factor)
    )
    assert np.isnan(red).all(axis=0).tolist() == [True] * hidden + [False] * (SIDE - hidden)


@pytest.mark.parametrize("rule", [{"clear": [0]}, {"cloudy_bits": [0]}])
def test_load_clear_codes_of_fractions_are_refused_and_the_threshold_gets_on(
    rule: dict[str, Any], tmp_path: Path, storage: Storage
) -> None:
    flags = halves(0.02, 0.95, "float32")
    with pytest.raises(DataError, match=r"item a holds fractions, as 0\.02, .* above = 0\.4"):
        loaded(tmp_path, storage, flags, rule)
    red, _ = loaded(tmp_path, storage, flags, {"above": 0.4})
    assert (np.isfinite(red) == LEFT).all()


def test_load_clear_whole_numbers_of_floats_are_codes(tmp_path: Path, storage: Storage) -> None:
    red, _ = loaded(tmp_path, storage, halves(4, 9, "float32"), {"clear": [4]})
    assert (np.isfinite(red) == LEFT).all()


def test_load_clear_threshold_in_per_cent_of_fractions_is_refused(
    tmp_path: Path, storage: Storage
) -> None:
    flags = halves(0.02, 0.95, "float32")
    with pytest.raises(DataError, match=r"none of which is above 40; write above = 0\.4"):
        loaded(tmp_path, storage, flags, {"above": 40})


@pytest.mark.parametrize(("dtype", "bit"), [("uint32", 31), ("uint64", 40), ("int64", 52)])
def test_load_clear_flags_keep_all_bits(
    dtype: str, bit: int, tmp_path: Path, storage: Storage
) -> None:
    flags = np.where(LEFT, 1, (1 << bit) + 1).astype(dtype)
    red, _ = loaded(tmp_path, storage, flags, {"cloudy_bits": [bit]})
    assert (np.isfinite(red) == LEFT).all()
    assert np.isfinite(loaded(tmp_path, storage, flags, {"cloudy_bits": [1, 30]})[0]).all()


def test_load_clear_flags_of_more_than_53_bits_are_refused(
    tmp_path: Path, storage: Storage
) -> None:
    flags = np.where(LEFT, 1, 1 << 60).astype("uint64")
    with pytest.raises(DataError, match="holds numbers of more than 53 bits"):
        loaded(tmp_path, storage, flags, {"cloudy_bits": [0]})


def test_load_clear_band_that_is_the_cloud_mask_too_has_its_nodata(
    tmp_path: Path, storage: Storage
) -> None:
    data = {"bands": {"red": "red", "scl": "mask"}}
    loaded(tmp_path, storage, halves(0, 4), {"clear": [0, 4]}, data=data, nodata=0)
    project = make_project(
        data={"catalogue": str(tmp_path / "items.json")} | data,
        cloud_mask={"asset": "mask", "clear": [0, 4]},
        features={"composites": "whole"},
    )
    items = read_items(ingest(project, storage).items, storage)
    source = FeatureSource(items, FeatureRecipe.of(project), storage)
    with storage.gdal():
        cube = source.cube(source.windows()[0])
    assert np.array_equal(
        cube["scl"].values[0], np.where(LEFT, math.nan, 4).astype("float32"), equal_nan=True
    )


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_load_clear_what_scale_makes_infinite_is_no_value(tmp_path: Path, storage: Storage) -> None:
    red = np.where(LEFT, 1, 3e38).astype("float32")
    values, observed = loaded(
        tmp_path,
        storage,
        halves(1, 1),
        {"clear": [1]},
        red=red,
        data={"scaling": {"red": {"scale": 1000}}},
    )
    assert (np.isfinite(values) == LEFT).all()
    assert not np.isinf(values).any()
    assert (observed == LEFT).all()


@pytest.mark.parametrize("nodata", [-9999, 0.5, math.nan, 65536])
def test_feature_source_nodata_that_no_image_can_hold_is_refused(
    nodata: float, tmp_path: Path, storage: Storage
) -> None:
    data = {"scaling": {"red": {"nodata": nodata}}}
    with pytest.raises(ConfigError, match=r"\[data\.scaling\] red has nodata .* uint16 can't hold"):
        loaded(tmp_path, storage, halves(1, 1), {"clear": [1]}, data=data)


def test_cloud_mask_nodata_in_clear_is_refused() -> None:
    with pytest.raises(ValidationError, match="nodata 0 is a value of clear, too"):
        CloudMask(asset="scl", clear=[0, 1], nodata=0)


def test_cloud_mask_of_two_rules_is_refused() -> None:
    with pytest.raises(ValidationError, match="exactly one of clear, cloudy_bits and above"):
        CloudMask(asset="scl", clear=[1], above=0.4)
