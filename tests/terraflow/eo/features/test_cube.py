from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pystac
import pytest
import rasterio
import xarray as xr
from affine import Affine

from area import CRS, TRANSFORM, Area, make_project
from terraflow.eo.config.imagery import CloudMask, Grid
from terraflow.eo.config.project_file import ProjectConfig
from terraflow.eo.features.cube import load_clear
from terraflow.eo.features.grid import native_geobox, project_grid
from terraflow.eo.features.native import clear_pixels
from terraflow.eo.features.recipe import FeatureRecipe
from terraflow.errors import DataError
from terraflow.storage import Storage

ONES = np.ones((16, 16), "uint8")
UNMASKED = FeatureRecipe.of(make_project(cloud_mask=None))


def load(area: Area, project: ProjectConfig | None = None) -> xr.Dataset:
    recipe = FeatureRecipe.of(project or make_project())
    return load_clear(area.items, recipe, native_geobox(area.items[0], "B04"))


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
    with pytest.raises(DataError, match=r"1 of 2 items lack assets .*2024-05-01 lacks mask"):
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


def add_image(
    area: Area, day: str, values: np.ndarray, *, column: int = 0, nodata: float | None = None
) -> None:
    """Add an item of one image whose left edge is so many pixels east of the area's."""
    transform = TRANSFORM * Affine.translation(column, 0)
    path = area.folder / day / "image.tif"
    path.parent.mkdir(parents=True)
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        width=values.shape[1],
        height=values.shape[0],
        count=1,
        dtype=values.dtype,
        crs=CRS,
        transform=transform,
        nodata=nodata,
    ) as file:
        file.write(values, 1)
    item = pystac.Item(
        day,
        None,
        None,
        datetime.fromisoformat(day).replace(tzinfo=UTC),
        {"proj:code": CRS, "proj:shape": list(values.shape), "proj:transform": list(transform)[:6]},
        stac_extensions=["https://stac-extensions.github.io/projection/v2.0.0/schema.json"],
    )
    item.add_asset("B04", pystac.Asset(str(path)))
    area.items.append(item)


def load_all(area: Area, storage: Storage) -> xr.DataArray:
    grid = project_grid(area.items, "B04", Grid())
    with storage.gdal():
        return load_clear(area.items, UNMASKED, grid)["red"].compute()


def test_load_clear_beyond_an_image_without_nodata_is_missing(area: Area, storage: Storage) -> None:
    add_image(area, "2024-04-01", np.full((4, 4), 1000, "uint16"))
    add_image(area, "2024-04-02", np.full((4, 4), 3000, "uint16"), column=4)
    found = load_all(area, storage)
    nan = np.nan
    assert np.array_equal(found[:, 0], [[1000] * 4 + [nan] * 4, [nan] * 4 + [3000] * 4], True)
    observed = found["observed"].values
    assert observed.sum() == 32


def test_load_clear_takes_each_items_own_nodata(area: Area, storage: Storage) -> None:
    add_image(area, "2024-04-01", np.array([[0, 65535]], "uint16"), nodata=0)
    add_image(area, "2024-04-02", np.array([[0, 65535]], "uint16"), nodata=65535)
    assert np.array_equal(load_all(area, storage)[:, 0], [[np.nan, 65535], [0, np.nan]], True)


def test_load_clear_takes_each_items_own_type(area: Area, storage: Storage) -> None:
    add_image(area, "2024-04-01", np.array([[7, 8]], "uint8"))
    add_image(area, "2024-04-02", np.array([[3000, 4000]], "uint16"))
    add_image(area, "2024-04-03", np.array([[-50, -9999]], "int16"), nodata=-9999)
    expected = [[7, 8], [3000, 4000], [-50, np.nan]]
    assert np.array_equal(load_all(area, storage)[:, 0], expected, True)


def test_load_clear_in_degrees_has_the_same_axes(area: Area, storage: Storage) -> None:
    add_image(area, "2024-04-01", np.full((16, 16), 1000, "uint16"))
    grid = project_grid(area.items, "B04", Grid(crs="EPSG:4326", resolution=0.0001))
    with storage.gdal():
        cube = load_clear(area.items, UNMASKED, grid).compute()
    assert cube["red"].dims == ("time", "y", "x")
    assert cube.odc.geobox == grid
    assert np.nanmax(cube["red"]) == 1000


def test_load_clear_averages_to_a_coarser_grid(area: Area, storage: Storage) -> None:
    values = np.random.default_rng(0).integers(0, 9999, (64, 64)).astype("uint16")
    add_image(area, "2024-04-01", values)
    data = {"resolution": 20, "resampling": "average"}
    project = make_project(cloud_mask=None, grid=data)
    grid = project_grid(area.items, "B04", project.grid)
    with storage.gdal():
        found = load_clear(area.items, FeatureRecipe.of(project), grid)["red"].values[0]
    np.testing.assert_allclose(found, values.reshape(32, 2, 32, 2).mean((1, 3)), atol=1)


def add_at(area: Area, time: str, red: int, mask: np.ndarray, **properties: object) -> None:
    """Add one of several items of a day, which has the scaling of its baseline."""
    day = f"{time[:10]}-{len(area.items)}"
    new = properties.get("s2:processing_baseline", "05.00") >= "04.00"  # type: ignore[operator]
    stored = np.where(red, red + 1000 * new, 0).astype("uint16") * ONES
    other = Area(area.folder)
    other.add(time[:10], stored, mask, scale=0.0001, offset=-0.1 if new else 0.0)
    item = other.items[0]
    for key in ("B04", "mask"):
        path = area.folder / f"{day}-{key}.tif"
        (area.folder / time[:10] / {"B04": "red.tif"}.get(key, "mask.tif")).rename(path)
        item.assets[key].href = str(path)
    item.id, item.datetime = day, datetime.fromisoformat(time).replace(tzinfo=UTC)
    item.properties |= properties
    area.items.append(item)


def median(area: Area, storage: Storage) -> np.ndarray:
    with storage.gdal():
        cube = load(area)
    return np.asarray(np.nanmedian(cube["red"].values, axis=0) * 10_000).round()


def test_load_clear_two_tiles_of_one_overpass_count_once(area: Area, storage: Storage) -> None:
    days = ["2024-04-01", "2024-04-11", "2024-04-21"]
    for day, red in zip(days, (1000, 2200, 3000), strict=True):
        add_at(area, f"{day}T10:00:00", red, ONES)
    add_at(area, "2024-04-21T10:00:14", 3000, ONES)
    assert (median(area, storage) == 2200).all()
    with storage.gdal():
        cube = load(area)
    assert [str(time)[:10] for time in cube.time.values] == [
        "2024-04-01",
        "2024-04-11",
        "2024-04-21",
    ]
    assert cube["observed"].shape == (3, 16, 16)


@pytest.mark.parametrize("newest", [0, 1])
def test_load_clear_newest_baseline_first_and_the_other_where_that_is_not_clear(
    newest: int, area: Area, storage: Storage
) -> None:
    cloudy = ONES.copy()
    cloudy[:4] = 9
    both = ONES.copy()
    both[0] = 9
    for number in (0, 1):
        new = number == newest
        baseline = "10.00" if new else "02.14"
        values = {"s2:processing_baseline": baseline}
        add_at(
            area, "2024-04-01T10:00:00", 3000 if new else 2000, cloudy if new else both, **values
        )
    with storage.gdal():
        cube = load(area)
    assert cube.sizes["time"] == 1
    found = (cube["red"].values[0] * 10_000).round()
    assert np.isnan(found[0]).all()
    assert (found[1:4] == 2000).all()
    assert (found[4:] == 3000).all()
    assert cube["observed"].values.all()


def test_load_clear_day_is_the_suns_not_that_of_utc(area: Area, storage: Storage) -> None:
    add_at(area, "2024-04-01T23:59:50", 1000, ONES)
    add_at(area, "2024-04-02T00:00:10", 3000, ONES)
    for item in area.items:
        item.bbox = [150.0, -30.0, 151.0, -29.0]  # ten in the morning
    with storage.gdal():
        assert load(area).sizes["time"] == 1
    for item in area.items:
        item.bbox = [0.0, 40.0, 0.0, 41.0]
    with storage.gdal():
        assert load(area).sizes["time"] == 2


def test_load_clear_undated_items_are_not_of_one_day(area: Area, storage: Storage) -> None:
    for red in (1000, 3000):
        add_at(area, "2024-04-01T00:00:00", red, ONES, **{"terraflow:undated": True})
    with storage.gdal():
        assert load(area).sizes["time"] == 2


def test_clear_pixels_reads_the_bits_of_qa_pixel() -> None:
    # Landsat Collection 2: bit 0 fill, 1 dilated cloud, 3 cloud, 4 cloud shadow, 6 clear
    flags = xr.DataArray(np.array([21824, 22280, 23888, 1], "int32"), dims="x")
    rule = CloudMask(asset="qa_pixel", cloudy_bits=[0, 1, 3, 4])
    assert clear_pixels(flags, rule).values.tolist() == [True, False, False, False]


def test_clear_pixels_nodata_of_flags_is_not_clear() -> None:
    flags = xr.DataArray(np.array([-1, 64], "int32"), dims="x")
    assert clear_pixels(flags, CloudMask(asset="qa", cloudy_bits=[3])).values.tolist() == [
        False,
        True,
    ]
