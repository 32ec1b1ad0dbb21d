from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pystac
import pytest
import rasterio
from rasterio.enums import ColorInterp

from area import CRS, TRANSFORM, make_project
from terraflow.eo.features.cube import load_clear
from terraflow.eo.features.grid import native_geobox
from terraflow.eo.features.recipe import FeatureRecipe
from terraflow.eo.images.assets import Image
from terraflow.eo.images.clip import write_clip
from terraflow.eo.images.collection import read_items
from terraflow.eo.images.ingest import ingest
from terraflow.eo.images.rasters.validity import can_hold, is_marked, parse_nodata
from terraflow.errors import DataError
from terraflow.storage import Storage

Array = npt.NDArray[Any]
NAN = math.nan
#: All values that uint8 has, so that none is free.
EVERY = np.arange(256, dtype="uint8").reshape(16, 16)
#: What an image's mask or alpha band hides.
HIDDEN = np.zeros((16, 16), bool)
HIDDEN[3:6, 2:9] = True


def write(path: Path, bands: list[Array], **more: Any) -> Path:
    """Write a raster; `mask` and `alpha` beside rasterio's keys."""
    mask, alpha, internal = (more.pop(key, None) for key in ("mask", "alpha", "internal"))
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=bool(internal)),
        rasterio.open(
            path,
            "w",
            **{
                "driver": "GTiff",
                "width": 16,
                "height": 16,
                "count": len(bands) + (alpha is not None),
                "dtype": bands[0].dtype,
                "crs": CRS,
                "transform": TRANSFORM,
                **more,
            },
        ) as file,
    ):
        file.write(np.stack(bands), list(range(1, len(bands) + 1)))
        if alpha is not None:
            file.colorinterp = [*[ColorInterp.gray] * len(bands), ColorInterp.alpha]
            file.write(alpha.astype(bands[0].dtype), len(bands) + 1)
        if mask is not None:
            file.write_mask(mask)
    return path


def ingested(path: Path, storage: Storage, **data: Any) -> Array:
    """Ingest a file's first band as a user does, and load it: float32, shape (y, x)."""
    section = {"files": str(path), "bands": {"red": "image.1"}} | data
    project = make_project(data=section, cloud_mask=None, features={"composites": "whole"})
    items = read_items(ingest(project, storage).items, storage)
    recipe = FeatureRecipe.of(project)
    with storage.gdal():
        cube = load_clear(items, recipe, native_geobox(items[0], "image.1"))
    return np.asarray(cube["red"].values[0])


@pytest.mark.parametrize(
    ("told", "dtype"),
    [
        ({"alpha": ~HIDDEN * 255}, "uint8"),
        ({"alpha": ~HIDDEN * 65535}, "uint16"),
        ({"alpha": ~HIDDEN * 1}, "uint16"),
        ({"alpha": ~HIDDEN * 1}, "float32"),
        ({"mask": ~HIDDEN, "internal": True}, "uint8"),
        ({"mask": ~HIDDEN, "internal": False}, "uint8"),
        ({"mask": ~HIDDEN, "internal": True}, "int32"),
        ({"mask": ~HIDDEN, "internal": False}, "uint32"),
        ({"mask": ~HIDDEN, "internal": False}, "uint64"),
        ({"mask": ~HIDDEN, "internal": True, "nodata": -9999}, "int16"),
        ({"mask": ~HIDDEN, "internal": True}, "float64"),
    ],
)
def test_ingest_what_a_mask_or_alpha_band_hides_is_no_value_and_all_else_is(
    told: dict[str, Any], dtype: str, tmp_path: Path, storage: Storage
) -> None:
    path = write(tmp_path / "a_20240501.tif", [EVERY.astype(dtype)] * 3, **told)
    found = ingested(path, storage)
    assert np.array_equal(found, np.where(HIDDEN, np.nan, EVERY), equal_nan=True)


def test_ingest_of_a_mask_beside_the_file_that_changes_copies_again(
    tmp_path: Path, storage: Storage
) -> None:
    path = write(tmp_path / "a_20240501.tif", [EVERY])
    assert np.isfinite(ingested(path, storage)).all()
    masked = write(tmp_path / "b.tif", [EVERY], mask=~HIDDEN)
    masked.with_name("b.tif.msk").rename(tmp_path / "a_20240501.tif.msk")
    assert (np.isnan(ingested(path, storage)) == HIDDEN).all()


def test_ingest_of_a_mask_beside_a_nodata_value_takes_both(
    tmp_path: Path, storage: Storage
) -> None:
    told = {"alpha": ~HIDDEN * 255, "nodata": 7}  # GDAL heeds the value alone
    found = ingested(write(tmp_path / "a_20240501.tif", [EVERY] * 3, **told), storage)
    missing = HIDDEN | (EVERY == 7)
    assert np.array_equal(found, np.where(missing, np.nan, EVERY), equal_nan=True)


def test_ingest_resamples_nothing_that_an_alpha_band_hides(
    tmp_path: Path, storage: Storage
) -> None:
    values, columns = np.full((16, 16), 200, "uint8"), np.arange(16) < 6
    values[:, columns] = 0
    path = write(tmp_path / "a_20240501.tif", [values], alpha=np.tile(~columns * 255, (16, 1)))
    section = {"files": str(path), "bands": {"red": "image.1"}}
    project = make_project(data=section, cloud_mask=None, grid={"resolution": 40})
    items = read_items(ingest(project, storage).items, storage)
    coarse = native_geobox(items[0], "image.1").zoom_out(4)
    with storage.gdal():
        found = load_clear(items, FeatureRecipe.of(project), coarse)["red"].values[0]
    assert np.array_equal(found[0], [NAN, 200, 200, 200], equal_nan=True)


def item_of(path: Path, **fields: Any) -> Path:
    """Write an item collection of one image, whose asset tells these fields."""
    item = pystac.Item("a", None, None, pystac.utils.str_to_datetime("2024-05-01"), {})
    item.add_asset("image.1", pystac.Asset(str(path), extra_fields=fields))
    catalogue = path.with_name("items.json")
    pystac.ItemCollection([item]).save_object(str(catalogue))
    return catalogue


LEAST64 = -1.7976931348623157e308


@pytest.mark.parametrize(
    ("dtype", "file", "item", "stored", "expected"),
    [
        ("int16", -9999, 0, [-9999, 0, 5], [NAN, NAN, 5]),
        ("int16", -9999, None, [-9999, 0, 5], [NAN, 0, 5]),
        ("int16", None, -9999, [-9999, 0, 5], [NAN, 0, 5]),
        ("uint16", 0, -9999, [0, 1, 5], [NAN, 1, 5]),
        ("uint16", None, 0.5, [0, 1, 5], [0, 1, 5]),
        ("uint16", None, "nan", [0, 1, 5], [0, 1, 5]),
        ("uint8", None, 256, [0, 1, 255], [0, 1, 255]),
        ("int8", None, 255, [-1, 0, 5], [-1, 0, 5]),
        ("uint32", None, 4294967295, [0, 1, 4294967295], [0, 1, NAN]),
        ("int64", -9999, None, [-9999, 0, 5], [NAN, 0, 5]),
        ("uint64", None, 2**64 - 1, [2**64 - 1, 0, 5], [NAN, 0, 5]),
        ("float32", None, LEAST64, [0, -3.0, 5], [0, -3, 5]),
        ("float32", None, "nan", [0, np.nan, 5], [0, NAN, 5]),
        ("float32", None, "-inf", [0, -np.inf, 5], [0, NAN, 5]),
        ("float32", None, -9999, [0, -np.inf, np.inf], [0, NAN, NAN]),
        ("float32", -9999, 0, [-9999, 0, 5], [NAN, NAN, 5]),
        ("float32", None, -3.4e38, [-3.4028234663852886e38, 0, 5], [NAN, 0, 5]),
        ("float32", None, -3.4028230607370965e38, [-3.4028234663852886e38, 0, 5], [NAN, 0, 5]),
        ("float32", None, -3.4028235e38, [-3.4028234663852886e38, 0, 5], [NAN, 0, 5]),
        ("float32", None, 9.96921e36, [9.969209968386869e36, 0, 5], [NAN, 0, 5]),
        ("float32", None, -9999.9, [-9999.9, -9999, 5], [NAN, -9999, 5]),
        ("float64", None, -9999.9, [float(np.float32(-9999.9)), -9999, 5], [NAN, -9999, 5]),
        ("float64", LEAST64, None, [LEAST64, 0, 5], [NAN, 0, 5]),
        ("float64", None, None, [1e300, 0, 5], [NAN, 0, 5]),
    ],
)
@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_ingest_takes_all_nodata_that_the_type_can_hold(
    *,
    dtype: str,
    file: float | None,
    item: Any,
    stored: list[float],
    expected: list[float],
    tmp_path: Path,
    storage: Storage,
) -> None:
    values = np.full((16, 16), 7, dtype)
    values[0, :3] = np.array(stored, dtype)
    path = write(tmp_path / "a.tif", [values], **({} if file is None else {"nodata": file}))
    for fields in (
        {"raster:bands": [{"nodata": item}]},
        {"bands": [{"name": "x", "nodata": item}]},
        {"nodata": item},
    ):
        catalogue = item_of(path, **({} if item is None else fields))
        found = ingested(path, storage, files="", catalogue=str(catalogue))
        assert np.array_equal(found[0, :3], np.array(expected, "float32"), equal_nan=True)
        assert (found[1:] == 7).all()


def test_ingest_says_what_nodata_is_left_aside_and_which_two_count(
    tmp_path: Path, storage: Storage, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "a.tif", [EVERY.astype("uint16")], nodata=1)
    ingested(path, storage, files="", catalogue=str(item_of(path, nodata=-9999)))
    said = "1 image (image.1): nodata -9999 is that of no pixel, since uint16 can't hold it\n"
    assert said in capsys.readouterr().out
    ingested(path, storage, files="", catalogue=str(item_of(path, nodata=0)))
    said = "1 image (image.1): nodata 0 by the item and 1 by the file both count\n"
    assert said in capsys.readouterr().out


def test_ingest_of_nodata_that_is_no_number_names_item_and_asset(
    tmp_path: Path, storage: Storage
) -> None:
    path = write(tmp_path / "a.tif", [EVERY])
    with pytest.raises(DataError, match=r"Asset image\.1 of item a tells nodata 'missing'; expec"):
        ingested(path, storage, files="", catalogue=str(item_of(path, nodata="missing")))


def test_write_clip_of_a_plain_image_has_its_type_values_and_nodata(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", [EVERY], nodata=3)
    with rasterio.open(path) as file:
        assert write_clip(file, Image("a", "red", str(path)), None, tmp_path / "copy.tif") == []
    with rasterio.open(tmp_path / "copy.tif") as copy:
        assert (copy.dtypes[0], copy.nodata) == ("uint8", 3)
        assert (copy.read(1) == EVERY).all()


def test_write_clip_of_complex_numbers_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", [np.ones((16, 16), "complex64")])
    image = Image("a", "vv", str(path))
    with rasterio.open(path) as file, pytest.raises(DataError, match="is of complex numbers"):
        write_clip(file, image, None, tmp_path / "copy.tif")


@pytest.mark.parametrize(
    ("value", "dtype", "held"),
    [
        (-9999, "uint16", False),
        (255, "uint8", True),
        (0.5, "int16", False),
        (NAN, "int16", False),
        (math.inf, "float32", True),
        (-3.4028235e38, "float32", True),
        (LEAST64, "float32", False),
        (LEAST64, "float64", True),
        (2.0**64, "int64", False),
        (2.0**64, "uint64", True),
    ],
)
def test_can_hold(value: float, dtype: str, held: bool) -> None:
    assert can_hold(value, dtype) == held


def test_is_marked_leaves_values_that_are_near_a_small_nodata() -> None:
    data = np.array([0, 1e-3, -9999, -9998.5], "float32")
    assert is_marked(data, [0, -9999]).tolist() == [True, False, True, False]


@pytest.mark.parametrize("text", [None, "", "none", "null", "None"])
def test_parse_nodata_of_none_is_none(text: object) -> None:
    assert parse_nodata(text, "Asset") is None


@pytest.mark.parametrize("text", [[0], {"a": 1}, "x"])
def test_parse_nodata_of_what_is_no_number_is_refused(text: object) -> None:
    with pytest.raises(DataError, match=r"^Asset tells nodata"):
        parse_nodata(text, "Asset")
