"""Bands and masks of other grids than the project's, through the whole of load_clear."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pystac
import pytest
import rasterio
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox
from pyproj import Transformer
from scipy.ndimage import gaussian_filter
from shapely.geometry import mapping

from area import make_project
from terraflow.eo.features.cube import load_clear
from terraflow.eo.features.grid import native_geobox
from terraflow.eo.features.recipe import FeatureRecipe
from terraflow.storage import Storage

UTM, NEXT_UTM = "EPSG:32633", "EPSG:32634"
WEST, NORTH, SIDE_M = 500_040.0, 5_100_000.0, 2_400
CLOUD, EDGE = 10_000.0, 0
RULES = ["average", "bilinear", "cubic", "nearest", "auto"]


def grid(resolution: float, *, off: float = 0, side: float = SIDE_M, crs: str = UTM) -> GeoBox:
    size = round(side / resolution)
    return GeoBox((size, size), Affine(resolution, 0, WEST + off, 0, -resolution, NORTH - off), crs)


def ramp(geobox: GeoBox) -> npt.NDArray[np.float32]:
    """Where the centre of each pixel lies: metres east and south of the corner, (2, y, x)."""
    x, y = geobox.affine * (np.mgrid[: geobox.height, : geobox.width][::-1] + 0.5)
    if geobox.crs != UTM:
        x, y = Transformer.from_crs(str(geobox.crs), UTM, always_xy=True).transform(x, y)
    return np.stack([x - WEST, NORTH - y]).astype("float32")


def load_places(
    source: GeoBox, target: GeoBox, resampling: str | None, folder: Path, storage: Storage
) -> npt.NDArray[np.float32]:
    """Load an image of `ramp`: (2, y, x)."""
    east, south = ramp(source)
    item = write_item(folder, {"B04": (east, source), "B03": (south, source)})
    data = make_project().data.model_dump(mode="json") | {"bands": {"east": "B04", "south": "B03"}}
    found = load([item], recipe(resampling, data=data, cloud_mask=None), target, storage)
    return np.stack([found["east"].values[0], found["south"].values[0]])


def write_item(
    folder: Path,
    images: dict[str, tuple[npt.NDArray[Any], GeoBox]],
    *,
    name: str = "one",
    nodata: float | None = None,
) -> pystac.Item:
    """Write images of an item, each on a grid of its own."""
    largest = max((geobox for _, geobox in images.values()), key=lambda g: g.extent.area)
    footprint = largest.footprint("EPSG:4326").geom
    item = pystac.Item(
        name,
        mapping(footprint),
        list(footprint.bounds),
        datetime(2024, 4, 1, 10, tzinfo=UTC),
        {},
        stac_extensions=["https://stac-extensions.github.io/projection/v2.0.0/schema.json"],
    )
    for key, (values, geobox) in images.items():
        path = folder / f"{name}-{key}.tif"
        with rasterio.open(
            path,
            "w",
            driver="GTiff",
            width=geobox.width,
            height=geobox.height,
            count=1,
            dtype=values.dtype,
            crs=str(geobox.crs),
            transform=geobox.affine,
            nodata=nodata if key != "mask" else None,
        ) as file:
            file.write(values, 1)
        fields = {
            "proj:code": str(geobox.crs),
            "proj:shape": list(geobox.shape),
            "proj:transform": list(geobox.affine)[:6],
        }
        item.add_asset(key, pystac.Asset(str(path), extra_fields=fields))
    return item


def recipe(resampling: str | None, **changes: Any) -> FeatureRecipe:
    chosen = {"grid": {"resampling": resampling} if resampling else {}}
    return FeatureRecipe.of(make_project(**(chosen | changes)))


def load(
    items: list[pystac.Item], how: FeatureRecipe, geobox: GeoBox, storage: Storage
) -> xr.Dataset:
    with storage.gdal():
        return load_clear(items, how, geobox)


def clouds(geobox: GeoBox, seed: int = 0) -> npt.NDArray[np.bool_]:
    noise = np.random.default_rng(seed).normal(size=geobox.shape)
    smooth = gaussian_filter(noise, 40 / geobox.affine.a, mode="wrap")
    return np.asarray(smooth > np.quantile(smooth, 0.7))


def coarser(values: npt.NDArray[Any], by: int) -> npt.NDArray[Any]:
    """Group pixels into blocks: shape (y, x, by * by)."""
    rows, columns = (size // by for size in values.shape)
    blocks = values.reshape(rows, by, columns, by).swapaxes(1, 2)
    return blocks.reshape(rows, columns, by * by)


@pytest.mark.parametrize("resampling", RULES)
@pytest.mark.parametrize(
    "sizes_m",
    [(10, 10, 60, 0), (10, 20, 60, 0), (10, 20, 10, 3), (20, 20, 10, 0), (60, 20, 60, 0),
     (60, 20, 10, 0), (20, 10, 40, 0), (10, 20, 15, 7)],
)  # fmt: skip
def test_load_clear_no_clear_pixel_holds_any_of_a_cloud(
    resampling: str, sizes_m: tuple[int, ...], tmp_path: Path, storage: Storage
) -> None:
    band_m, mask_m, to_m, off_m = sizes_m
    cloud = np.kron(clouds(grid(mask_m)), np.ones((mask_m // 10, mask_m // 10))) > 0
    seen = np.where(cloud, CLOUD, 1000.0)  # land that is even: all that differs is of a cloud
    band = coarser(seen, band_m // 10).mean(-1).astype("float32")
    mask = np.where(coarser(cloud, mask_m // 10).any(-1), 9, 1).astype("uint8")
    item = write_item(tmp_path, {"B04": (band, grid(band_m)), "mask": (mask, grid(mask_m))})
    target = grid(to_m, off=off_m, side=SIDE_M - 120)
    found = load([item], recipe(resampling), target, storage)["red"].values[0]
    clear = np.isfinite(found)
    assert (np.abs(found[clear] - 1000) > 0.5).sum() == 0
    assert 0.3 < clear.mean() < 0.8 or (mask_m < band_m and clear.any())


@pytest.mark.parametrize("resampling", [*RULES[:3], "auto"])
def test_load_clear_seam_of_configured_nodata_gives_no_value_between(
    resampling: str, tmp_path: Path, storage: Storage
) -> None:
    values = np.full(grid(10).shape, 3000, "uint16")
    values[:, :100] = 0  # neither the file nor the item says that it is nodata
    item = write_item(tmp_path, {"B04": (values, grid(10))})
    data = make_project().data.model_dump(mode="json") | {"scaling": {"red": {"nodata": 0}}}
    how = recipe(resampling, data=data, cloud_mask=None)
    for target in (grid(60), grid(15), grid(10, off=3, side=2_100), grid(5)):
        found = load([item], how, target, storage)["red"]
        assert np.isnan(found.values).any()
        assert set(np.unique(found.values[np.isfinite(found.values)])) == {3000}
        assert np.array_equal(found["observed"].values, np.isfinite(found.values))


@pytest.mark.parametrize(
    ("band_m", "to_m", "off_m"),
    [(10, 20, 0), (10, 40, 0), (10, 60, 0), (10, 20, 10), (20, 10, 0), (20, 10, 3), (10, 10, 3),
     (10, 10, 5), (30, 10, 5)],
)  # fmt: skip
def test_load_clear_shifts_content_by_0_m(
    band_m: int, to_m: int, off_m: int, tmp_path: Path, storage: Storage
) -> None:
    target = grid(to_m, off=off_m, side=SIDE_M - 240)
    found = load_places(grid(band_m), target, None, tmp_path, storage)
    away = (found - ramp(target))[:, 3:-3, 3:-3]
    np.testing.assert_allclose(away, 0, atol=0.001)


def test_load_clear_in_another_zone_shifts_content_by_less_than_a_hundredth_of_a_pixel(
    tmp_path: Path, storage: Storage
) -> None:
    source = grid(10)
    box = source.footprint(NEXT_UTM).boundingbox
    corner = Affine(10, 0, round(box.left) + 600, 0, -10, round(box.top) - 600)
    target = GeoBox((100, 100), corner, NEXT_UTM)
    found = load_places(source, target, None, tmp_path, storage)
    np.testing.assert_allclose(found, ramp(target), atol=0.1)


@pytest.mark.parametrize("resampling", RULES)
@pytest.mark.parametrize("crs", [UTM, NEXT_UTM, "EPSG:3857"])
@pytest.mark.parametrize("to_m", [15, 60])
def test_load_clear_of_parts_equals_that_of_the_whole(
    resampling: str, crs: str, to_m: int, tmp_path: Path, storage: Storage
) -> None:
    source = grid(10)
    texture = np.random.default_rng(1).uniform(500, 4000, source.shape).astype("float32")
    mask = np.where(clouds(grid(20)), 9, 1).astype("uint8")
    images = {"B04": (texture, source), "mask": (mask, grid(20))}
    item = write_item(tmp_path, images)
    box = source.footprint(crs).boundingbox
    count = round(2700 / to_m)
    corner = Affine(to_m, 0, round(box.left) - 95, 0, -to_m, round(box.top) + 95)
    whole = GeoBox((count, count), corner, crs)
    how = recipe(resampling, cloud_mask={"asset": "mask", "clear": [1], "dilate_m": 25})
    at_once = load([item], how, whole, storage)
    assert 0.2 < np.isfinite(at_once["red"].values).mean() < 0.8
    for rows, columns in (
        (slice(0, 7), slice(0, count)),
        (slice(7, 30), slice(11, 38)),
        (slice(count - 9, count), slice(count - 13, count)),
    ):
        part = load([item], how, whole[rows, columns], storage)
        inside = at_once.isel(y=rows, x=columns)
        np.testing.assert_allclose(part["red"].values, inside["red"].values, rtol=1e-5)
        assert np.array_equal(part["observed"].values, inside["observed"].values)


def test_load_clear_half_of_a_pixel_must_be_clear(tmp_path: Path, storage: Storage) -> None:
    small = grid(10, side=120)
    values = np.arange(144, dtype="float32").reshape(12, 12)
    mask = np.ones((12, 12), "uint8")
    mask[:6, :3] = 9  # 18 of 36
    mask[:6, 6:10], mask[5, 10] = 9, 1  # 24 of 36
    item = write_item(tmp_path, {"B04": (values, small), "mask": (mask, small)})
    found = load([item], recipe("average"), grid(60, side=120), storage)
    expected = np.where(mask == 1, values, np.nan)
    assert found["red"].values[0, 0, 0] == pytest.approx(np.nanmean(expected[:6, :6]))
    assert np.isnan(found["red"].values[0, 0, 1])
    assert np.isfinite(found["red"].values[0, 1]).all()
    assert found["observed"].values.all()  # cloudy is observed


def test_load_clear_item_that_does_not_reach_the_part_is_missing_there(
    tmp_path: Path, storage: Storage
) -> None:
    near, far = grid(10), grid(10, off=600_000)
    items = [
        write_item(tmp_path, {"B04": (np.full(g.shape, v, "float32"), g)}, name=name)
        for name, g, v in (("a", far, 1), ("b", near, 2), ("c", far, 3))
    ]
    for day, item in enumerate(items, start=1):
        item.datetime = datetime(2024, 4, day, tzinfo=UTC)
    found = load(items, recipe(None, cloud_mask=None), grid(20), storage)
    assert found.sizes["time"] == 3
    assert np.isfinite(found["red"].values).mean((1, 2)).tolist() == [0, 1, 0]
    assert found["observed"].values.mean((1, 2)).tolist() == [0, 1, 0]


@pytest.mark.parametrize("to_m", [10, 20])
def test_load_clear_dilates_the_mask_by_metres(to_m: int, tmp_path: Path, storage: Storage) -> None:
    mask = np.ones(grid(20).shape, "uint8")
    mask[50, 50] = 9
    values = np.full(grid(10).shape, 1000, "float32")
    item = write_item(tmp_path, {"B04": (values, grid(10)), "mask": (mask, grid(20))})
    rows, columns = np.mgrid[:240, :240]
    away_m = 10 * np.hypot(rows - rows.clip(100, 101), columns - columns.clip(100, 101))
    for dilate_m in (0, 30, 100):
        how = recipe(None, cloud_mask={"asset": "mask", "clear": [1], "dilate_m": dilate_m})
        found = load([item], how, grid(to_m), storage)
        assert found["observed"].values.all()
        clear = np.isfinite(found["red"].values[0])
        expected = coarser(away_m > dilate_m, to_m // 10).mean(-1) >= 0.5
        assert np.array_equal(clear, expected)
        part = load([item], how, grid(to_m)[: 960 // to_m], storage)["red"].values[0]
        assert np.array_equal(np.isfinite(part), clear[: 960 // to_m])


def test_load_clear_dilated_mask_does_not_grow_from_where_no_image_is(
    tmp_path: Path, storage: Storage
) -> None:
    source = grid(10)
    ones = np.ones(source.shape, "uint8")
    item = write_item(tmp_path, {"B04": (ones * 7, source), "mask": (ones, source)})
    how = recipe(None, cloud_mask={"asset": "mask", "clear": [1], "dilate_m": 100})
    assert load([item], how, source, storage)["red"].notnull().all()
    assert native_geobox(item, "B04") == source
