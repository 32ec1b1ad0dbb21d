from __future__ import annotations

import numpy as np
import pystac
import pytest

from area import Area, make_project
from land_cover.cube import band_scaling, load_clear, native_geobox
from terraflow.errors import DataError
from terraflow.storage import Storage

ONES = np.ones((16, 16), "uint8")


def coordinates() -> np.ndarray:
    """Pixels that tell where they are: a shift or a swap of axes shows."""
    rows, columns = np.mgrid[:16, :16]
    return (1000 + 100 * rows + columns).astype("uint16")


def test_load_clear_applies_scale_and_offset_of_each_item(area: Area, storage: Storage) -> None:
    area.add("2024-04-01", coordinates(), ONES, scale=0.0001, offset=-0.1)
    area.add("2024-05-01", coordinates(), ONES, scale=0.0002, offset=0.0)
    with storage.gdal():
        red = load_clear(area.items, make_project())["red"].compute()
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
        values = load_clear(area.items, make_project())["red"].values[0]
    assert sorted(zip(*map(list, np.nonzero(np.isnan(values))), strict=True)) == [(3, 5), (7, 2)]


def test_load_clear_keeps_the_grid(area: Area, storage: Storage) -> None:
    area.add("2024-04-01", coordinates(), ONES)
    cube = load_clear(area.items, make_project())
    assert cube.odc.geobox == native_geobox(area.items[0], "B04")
    assert cube.odc.geobox.shape == (16, 16)


def test_load_clear_missing_asset_names_items_and_assets(area: Area) -> None:
    area.add("2024-04-01", coordinates(), ONES)
    area.add("2024-05-01", coordinates(), ONES)
    del area.items[1].assets["mask"]
    with pytest.raises(DataError, match=r"1 of 2 items lack assets .*2024-05-01: mask"):
        load_clear(area.items, make_project())


def test_native_geobox_without_projection_is_refused(area: Area) -> None:
    area.add("2024-04-01", coordinates(), ONES)
    del area.items[0].properties["proj:transform"]
    with pytest.raises(DataError, match="does not tell the grid of B04"):
        native_geobox(area.items[0], "B04")


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
