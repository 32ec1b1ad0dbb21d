from __future__ import annotations

import numpy as np
import pystac
import pytest
import xarray as xr

from area import Area, make_project
from land_cover.config import ProjectConfig
from land_cover.cube import band_scaling, clear_pixels, load_clear
from land_cover.grid import native_geobox
from land_cover.sections import CloudMask
from terraflow.errors import DataError
from terraflow.storage import Storage

ONES = np.ones((16, 16), "uint8")


def load(area: Area, project: ProjectConfig | None = None) -> xr.Dataset:
    return load_clear(area.items, project or make_project(), native_geobox(area.items[0], "B04"))


def coordinates() -> np.ndarray:
    """Pixels that tell where they are: a shift or a swap of axes shows."""
    rows, columns = np.mgrid[:16, :16]
    return (1000 + 100 * rows + columns).astype("uint16")


def test_load_clear_applies_scale_and_offset_of_each_item(area: Area, storage: Storage) -> None:
    area.add("2024-04-01", coordinates(), ONES, scale=0.0001, offset=-0.1)
    area.add("2024-05-01", coordinates(), ONES, scale=0.0002, offset=0.0)
    with storage.gdal():
        red = load(area)["red"].compute()
    assert red.dims == ("time", "y", "x")
    assert red.dtype == "float32"
    np.testing.assert_allclose(red[0], coordinates() * 0.0001 - 0.1, atol=1e-7)
    np.testing.assert_allclose(red[1], coordinates() * 0.0002, atol=1e-7)


def test_load_clear_hides_clouds_and_nodata(area: Area, storage: Storage) -> None:
    red, mask = coordinates(), ONES.copy()
    red[3, 5] = 0
    mask[7, 2] = 9
    area.add("2024-04-01", red, mask)
    with storage.gdal():
        values = load(area)["red"].values[0]
    assert sorted(zip(*map(list, np.nonzero(np.isnan(values))), strict=True)) == [(3, 5), (7, 2)]


def test_load_clear_keeps_the_grid(area: Area, storage: Storage) -> None:
    area.add("2024-04-01", coordinates(), ONES)
    cube = load(area)
    assert cube.odc.geobox == native_geobox(area.items[0], "B04")
    assert cube.odc.geobox.shape == (16, 16)


def test_load_clear_missing_asset_names_items_and_assets(area: Area) -> None:
    area.add("2024-04-01", coordinates(), ONES)
    area.add("2024-05-01", coordinates(), ONES)
    del area.items[1].assets["mask"]
    with pytest.raises(DataError, match=r"1 of 2 items lack assets .*2024-05-01: mask"):
        load(area)


def test_load_clear_without_a_mask_keeps_all(area: Area, storage: Storage) -> None:
    area.add("2024-04-01", coordinates(), ONES * 9)
    project = make_project(cloud_mask=None)
    with storage.gdal():
        assert load(area, project)["red"].notnull().all()


def test_load_clear_config_overrides_scale_offset_and_nodata(area: Area, storage: Storage) -> None:
    area.add("2024-04-01", coordinates(), ONES)
    data = make_project().data.model_dump(mode="json")
    scaling = {"red": {"scale": 2, "offset": 1, "nodata": 1000}}
    project = make_project(data=data | {"scaling": scaling})
    with storage.gdal():
        red = load(area, project)["red"].values[0]
    assert np.isnan(red[0, 0])
    assert red[0, 1] == 2 * 1001 + 1


def test_clear_pixels_reads_the_bits_of_qa_pixel() -> None:
    # Landsat Collection 2: bit 0 fill, 1 dilated cloud, 3 cloud, 4 cloud shadow, 6 clear
    flags = xr.DataArray(np.array([21824, 22280, 23888, 1], "uint16"), dims="x")
    rule = CloudMask(asset="qa_pixel", cloudy_bits=[0, 1, 3, 4])
    assert clear_pixels(flags, rule).values.tolist() == [True, False, False, False]


def test_clear_pixels_nodata_of_flags_is_not_clear() -> None:
    flags = xr.DataArray(np.array([0, 64], "uint16"), dims="x", attrs={"nodata": 0})
    assert clear_pixels(flags, CloudMask(asset="qa", cloudy_bits=[3])).values.tolist() == [
        False, True,
    ]  # fmt: skip


@pytest.mark.parametrize(
    "fields",
    [
        {"raster:bands": [{"scale": 0.1, "offset": 2, "nodata": -1}]},
        {"bands": [{"raster:scale": 0.1, "raster:offset": 2, "nodata": -1}]},
        {"raster:scale": 0.1, "raster:offset": 2, "nodata": -1},
    ],
)
def test_band_scaling_reads_both_versions_of_stac(fields: dict[str, object]) -> None:
    item = pystac.Item("x", None, None, None, {"start_datetime": "2024-01-01T00:00:00Z",
                                               "end_datetime": "2024-01-01T00:00:00Z"})  # fmt: skip
    item.add_asset("a", pystac.Asset("a.tif", extra_fields=fields))
    assert band_scaling(item, "a") == (0.1, 2, -1)


def test_band_scaling_without_metadata_changes_nothing(area: Area) -> None:
    area.add("2024-04-01", coordinates(), ONES)
    assert band_scaling(area.items[0], "mask") == (1, 0, None)
