from __future__ import annotations

import re

import numpy as np
import pytest
from affine import Affine
from pydantic import ValidationError

from area import TRANSFORM, Area
from terraflow.eo.config.imagery import Grid
from terraflow.eo.features.grid import crs_name, native_geobox, project_grid, windows
from terraflow.eo.features.limits.size import MOST_PX
from terraflow.errors import ConfigError, DataError

ONES = np.ones((16, 16), "uint8")


@pytest.fixture
def one(area: Area) -> Area:
    area.add("2024-04-01", ONES.astype("uint16"), ONES)
    return area


def shifted(area: Area, columns: int, rows: int) -> Area:
    """Add an item beside the first, of the same pixels."""
    area.add("2024-05-01", ONES.astype("uint16"), ONES)
    moved = TRANSFORM * Affine.translation(columns, rows)
    area.items[1].properties["proj:transform"] = list(moved)[:6]
    return area


def test_native_geobox_without_projection_is_refused(one: Area) -> None:
    del one.items[0].properties["proj:transform"]
    with pytest.raises(DataError, match="does not tell the grid of B04"):
        native_geobox(one.items[0], "B04")


def test_native_geobox_south_up_is_refused(one: Area) -> None:
    one.items[0].properties["proj:transform"][4] = 10
    with pytest.raises(DataError, match="grid of B04 that is not north-up"):
        native_geobox(one.items[0], "B04")


def test_project_grid_of_one_item_is_its_own(one: Area) -> None:
    assert project_grid(one.items, "B04", Grid()) == native_geobox(one.items[0], "B04")


def test_project_grid_holds_all_items_on_the_firsts_pixels(one: Area) -> None:
    shifted(one, 10, -4)
    grid = project_grid(one.items, "B04", Grid())
    assert grid.shape == (20, 26)
    assert grid.affine == TRANSFORM * Affine.translation(0, -4)


def test_project_grid_reaches_half_a_pixel_outward(one: Area) -> None:
    shifted(one, 10, 0)
    one.items[1].properties["proj:transform"][2] += 5
    assert project_grid(one.items, "B04", Grid()).shape == (16, 27)


def test_project_grid_takes_the_configured_resolution(one: Area) -> None:
    grid = project_grid(one.items, "B04", Grid(resolution=20))
    assert grid.shape == (8, 8)
    assert grid.affine == Affine(20, 0, 500_000, 0, -20, 5_100_000)


def test_project_grid_in_another_crs_holds_the_area(one: Area) -> None:
    grid = project_grid(one.items, "B04", Grid(crs="EPSG:3035"))
    inside = native_geobox(one.items[0], "B04").extent.to_crs("EPSG:3035")
    assert grid.extent.contains(inside)
    assert grid.crs.epsg == 3035
    assert max(grid.shape) <= 20


def test_project_grid_other_units_without_resolution_is_refused(one: Area) -> None:
    with pytest.raises(ConfigError, match="EPSG:4326 has other units than the images' EPSG:32633"):
        project_grid(one.items, "B04", Grid(crs="EPSG:4326"))


def test_project_grid_unknown_crs_is_refused(one: Area) -> None:
    with pytest.raises(ConfigError, match="crs 'EPSG:99999' is not known"):
        project_grid(one.items, "B04", Grid(crs="EPSG:99999"))


def test_windows_cover_every_pixel_once(one: Area) -> None:
    seen = np.zeros((16, 16), int)
    for place in windows(native_geobox(one.items[0], "B04"), 7):
        seen[place] += 1
    assert (seen == 1).all()


def test_crs_name_without_a_code_is_its_name() -> None:
    from odc.geo.crs import CRS

    assert crs_name(CRS("EPSG:32633")) == "EPSG:32633"
    sinusoidal = CRS("+proj=sinu +lon_0=0 +x_0=0 +y_0=0 +R=6371007.181 +units=m +no_defs")
    assert len(crs_name(sinusoidal)) < 20


@pytest.mark.parametrize(
    ("grid", "told"),
    [
        (Grid(resolution=1e-9), r"1.6e\+11 x 1.6e\+11: 2.6e\+22 pixels, 1.02e\+05 EB .* years"),
        (Grid(resolution=1e-4), r"1.6e\+06 x 1.6e\+06: 2.6e\+12 pixels, 10.2 TB .* 5.9 days"),
        (Grid(crs="EPSG:4326", resolution=1e-10), r"of 1e-10 degrees \(EPSG:4326\), configured"),
        (Grid(resolution=1e-200), "has no place on a grid"),
        (Grid(resolution=1e-320), "has no place on a grid of EPSG:32633"),
    ],
)
def test_project_grid_too_fine_is_refused_with_what_fits(one: Area, grid: Grid, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        project_grid(one.items, "B04", grid)


@pytest.mark.parametrize("grid", [Grid(resolution=1e-6), Grid(crs="EPSG:4326", resolution=1e-12)])
def test_project_grid_resolution_that_is_told_to_fit_fits(one: Area, grid: Grid) -> None:
    with pytest.raises(ConfigError) as refused:
        project_grid(one.items, "B04", grid)
    [least] = re.findall(r"resolution to (\S+) or more", str(refused.value))
    fits = project_grid(one.items, "B04", grid.model_copy(update={"resolution": float(least)}))
    assert 0.5 * MOST_PX < fits.shape[0] * fits.shape[1] <= MOST_PX


def test_project_grid_of_images_with_tiny_pixels_is_refused(one: Area) -> None:
    one.items[0].properties |= {"proj:shape": [2**22, 2**22]}
    with pytest.raises(ConfigError, match=r"10 metre .* of the images' own resolution"):
        project_grid(one.items, "B04", Grid())


def test_project_grid_longer_than_gdal_counts_is_refused(one: Area) -> None:
    one.items[0].properties |= {"proj:shape": [1, 2**31 + 8]}
    with pytest.raises(ConfigError, match="resolution to 11 or more"):
        project_grid(one.items, "B04", Grid())


def test_project_grid_of_images_far_apart_is_refused(one: Area) -> None:
    shifted(one, 10**7, 10**6)
    with pytest.raises(ConfigError, match="take images of a smaller area"):
        project_grid(one.items, "B04", Grid())


def test_project_grid_of_a_country_is_taken(one: Area) -> None:
    one.items[0].properties |= {"proj:shape": [10**6, 10**6 // 2]}
    assert project_grid(one.items, "B04", Grid()).shape == (10**6, 10**6 // 2)


@pytest.mark.parametrize(
    "grid",
    [Grid(resolution=size) for size in (1e5, 1e9, 1e60)]
    + [Grid(crs="EPSG:4326", resolution=size) for size in (10, 1000)],
)
def test_project_grid_too_coarse_is_refused(one: Area, grid: Grid) -> None:
    with pytest.raises(ConfigError, match=r"covers more than 2.5e\+07 pixels of an image"):
        project_grid(one.items, "B04", grid)


def test_grid_resolution_is_a_number() -> None:
    for wrong in (float("inf"), float("nan"), 0, -1):
        with pytest.raises(ValidationError):
            Grid(resolution=wrong)
