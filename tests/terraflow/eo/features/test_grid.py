from __future__ import annotations

import numpy as np
import pytest
from affine import Affine

from area import TRANSFORM, Area
from terraflow.eo.config.imagery import Grid
from terraflow.eo.features.grid import crs_name, native_geobox, project_grid, windows
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
