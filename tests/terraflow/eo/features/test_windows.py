from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

import dask
import numpy as np
import pytest
import rasterio
import xarray as xr
from rasterio.windows import Window

from area import CRS, TRANSFORM, Area, make_project, write_raster
from terraflow.eo.features import windows
from terraflow.eo.features.recipe import FeatureFunction, FeatureRecipe
from terraflow.eo.features.windows import FeatureSource
from terraflow.eo.samples.data_report import count
from terraflow.errors import ConfigError, DataError, NothingToDoError
from terraflow.storage import Storage

ONES = np.ones((16, 16), "uint8")
RECIPE = FeatureRecipe.of(make_project())


def test_feature_source_undated_scene_needs_the_whole_period(area: Area, storage: Storage) -> None:
    area.add("2024-04-01", np.full((16, 16), 2000, "uint16"), ONES)
    area.items[0].properties["terraflow:undated"] = True
    with pytest.raises(DataError, match=r'has no date, .* set .* composites = "whole"'):
        FeatureSource(area.items, RECIPE, storage)
    project = make_project(features={"composites": "whole"})
    assert FeatureSource(area.items, FeatureRecipe.of(project), storage).periods == ["all"]


def test_feature_source_item_of_a_month_is_composited_by_its_beginning(
    area: Area, storage: Storage
) -> None:
    area.add("2024-04-01", np.full((16, 16), 2000, "uint16"), ONES)
    item = area.items[0]
    item.properties |= {
        "start_datetime": "2024-04-01T00:00:00Z",
        "end_datetime": "2024-04-30T23:59:59Z",
    }
    item.datetime = None
    source = FeatureSource(area.items, RECIPE, storage)
    assert source.periods == ["2024-04"]
    assert np.isfinite(source.compute(source.windows()[0]).values).all()


def test_feature_source_items_outside_the_models_periods_are_refused(
    area: Area, storage: Storage
) -> None:
    area.add("2025-04-01", np.full((16, 16), 2000, "uint16"), ONES)
    told = r"of 2025-04-01 to 2025-04-01, lies .* periods 2024-04 to"
    with pytest.raises(NothingToDoError, match=told):
        FeatureSource(area.items, RECIPE, storage, ["2024-04", "2024-05"])


def test_feature_source_windows_of_a_large_area_are_wider_unless_memory_forbids(
    area: Area, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    area.add("2024-04-01", np.full((16, 16), 2000, "uint16"), ONES)
    source = FeatureSource(area.items, RECIPE, storage)

    def widths() -> set[int]:
        return {window.width for window in source.windows()}

    for side, width in ((8, 8), (4, 4), (2, 4)):
        monkeypatch.setattr(windows, "WINDOW_PX", side)
        assert widths() == {width}
    monkeypatch.undo()
    source.geobox = source.geobox.expand((4096, 4096))
    assert widths() == {1024}
    monkeypatch.setattr(windows, "WINDOW_BYTES", 1024**2)
    assert widths() == {128}  # of three features, each twice in memory


def test_feature_source_windows_of_a_coarse_grid_hold_no_more_of_the_images_own_pixels(
    area: Area, storage: Storage
) -> None:
    area.add("2024-04-01", np.full((16, 16), 2000, "uint16"), ONES)
    for resolution, width in ((10, 512), (60, 512), (100, 256), (1000, 32)):
        recipe = FeatureRecipe.of(make_project(grid={"resolution": resolution}))
        source = FeatureSource(area.items, recipe, storage)
        source.geobox = source.geobox.expand((1024, 1024))
        assert source.windows()[0].width == width
        own_px = (width * resolution / 10) ** 2
        assert own_px * 5 * 4 <= windows.WINDOW_BYTES


def test_feature_source_windows_of_the_coarsest_grid_hold_a_pixel(
    area: Area, storage: Storage
) -> None:
    area.add("2024-04-01", np.full((16, 16), 2000, "uint16"), ONES)
    recipe = FeatureRecipe.of(make_project(grid={"resolution": 40_000}))
    source = FeatureSource(area.items, recipe, storage)
    assert [(window.width, window.height) for window in source.windows()] == [(1, 1)]


@pytest.mark.parametrize(("configured", "used"), [(None, "synchronous"), ("threads", "threads")])
def test_over_windows_dask_has_no_threads_of_its_own_unless_configured(
    configured: str | None, used: str, area: Area, storage: Storage
) -> None:
    area.add("2024-04-01", np.full((16, 16), 2000, "uint16"), ONES)
    source = FeatureSource(area.items, RECIPE, storage)
    with dask.config.set(scheduler=configured):
        found = source.over_windows(lambda window: dask.config.get("scheduler"), "look")
        assert [scheduler for _, scheduler in found] == [used]


def test_feature_source_names_the_models_periods_that_items_lack(
    area: Area, storage: Storage
) -> None:
    area.add("2024-04-01", np.full((16, 16), 2000, "uint16"), ONES)
    source = FeatureSource(area.items, RECIPE, storage, ["2024-04", "2024-05"])
    assert source.missing_periods == ["2024-05"]
    window = source.compute(source.windows()[0])
    assert (window.sel(feature="red_2024-05") == window.sel(feature="red_2024-04")).all()


def test_feature_source_names_the_periods_that_no_item_reaches(
    area: Area, storage: Storage
) -> None:
    area.add("2024-04-01", np.full((16, 16), 2000, "uint16"), ONES)
    periods = ["2024-04", "2024-07", "2024-08"]
    assert FeatureSource(area.items, RECIPE, storage, periods).far_periods == ["2024-08"]
    project = make_project(features={"max_gap_days": 123})
    farther = FeatureSource(area.items, FeatureRecipe.of(project), storage, periods)
    assert farther.far_periods == []


def test_feature_source_counts_gaps_and_clear_observations_of_windows(
    area: Area, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    cloudy = ONES.copy()
    cloudy[2:5, 3] = 9
    for day, mask in (("2024-01-05", ONES), ("2024-06-05", cloudy), ("2024-09-05", ONES)):
        area.add(day, np.full((16, 16), 2000, "uint16"), mask)
    features = {"composites": "month_of_year", "max_gap_days": 91, "neighbourhood": [3]}
    recipe = FeatureRecipe.of(make_project(features=features))
    monkeypatch.setattr(windows, "WINDOW_PX", 4)
    source = FeatureSource(area.items, recipe, storage, ["01", "06"])
    clear = np.zeros((16, 16), int)
    gaps = 0
    for window in source.windows():
        with storage.gdal():
            cube = source.cube(window)
            (top, bottom), (left, right) = window.toranges()
            clear[top:bottom, left:right] = source.clear_observations(cube, window)
            gaps += source.count_gaps(source.features(cube, window))
    assert gaps == 3
    assert np.array_equal(clear, np.where(cloudy == 1, 2, 1))


def test_feature_source_own_features_and_counts_see_a_solar_day_once(
    area: Area, storage: Storage
) -> None:
    def dates(cube: xr.Dataset) -> dict[str, Any]:
        return {f"dates_{cube.sizes['time']}": cube["red"].notnull().sum("time")}

    for day, red in (("2024-04-30", 2000), ("2024-05-01", 3000)):
        area.add(day, np.full((16, 16), red, "uint16"), ONES)
    for item, taken in zip(area.items, ("2024-04-30T23:59:50", "2024-05-01T00:00:10"), strict=True):
        item.datetime = datetime.fromisoformat(taken).replace(tzinfo=UTC)
        item.bbox = [150.0, -30.0, 151.0, -29.0]
    source = FeatureSource(area.items, FeatureRecipe.of(make_project(), [dates]), storage)
    assert source.periods == ["2024-04"]
    assert source.names[-1] == "dates_1"
    (window,) = source.windows()
    with storage.gdal():
        cube = source.cube(window)
    assert (source.clear_observations(cube, window) == 1).all()
    assert (source.features(cube, window).sel(feature="dates_1") == 1).all()
    tally = count(cube, RECIPE.features, make_project().checks)
    assert tally.seen == tally.clear == {"2024-04": 256}


def coordinates(size: int = 16) -> np.ndarray:
    """Pixels that tell where they are: a shift or a swap of axes shows."""
    rows, columns = np.mgrid[:size, :size]
    return (1000 + 100 * rows + columns).astype("uint16")


def reach(cube: xr.Dataset) -> dict[str, Any]:
    red = cube["red"]
    return {"red_reach": red.max("time") - red.min("time"), "red_first": red.isel(time=0)}


def source_of(area: Area, storage: Storage, *own: FeatureFunction, **changes: Any) -> FeatureSource:
    area.add("2024-04-01", coordinates(), ONES)
    area.add("2024-05-01", coordinates()[::-1].copy(), ONES)
    return FeatureSource(area.items, FeatureRecipe.of(make_project(**changes), own), storage)


def whole(source: FeatureSource) -> np.ndarray:
    """Put the windows together; what no window gives stays -9."""
    image = np.full((len(source.names), *source.geobox.shape), -9, "float32")
    for window, values in source.iterate("test"):
        assert [str(name) for name in values.feature.values] == source.names
        (top, bottom), (left, right) = window.toranges()
        image[:, top:bottom, left:right] = values.values
    return image


def test_feature_source_names_are_those_configured_then_the_projects_own(
    area: Area, storage: Storage
) -> None:
    source = source_of(area, storage, reach, features={"statistics": ["min"]})
    assert source.names == ["red_2024-04", "red_2024-05", "red_min", "red_reach", "red_first"]
    assert [str(n) for n in source.compute(source.windows()[0]).feature.values] == source.names


def test_feature_source_own_feature_named_as_a_configured_one_is_refused(
    area: Area, storage: Storage
) -> None:
    def twice(cube: xr.Dataset) -> dict[str, Any]:
        return {"red_max": cube["red"].max("time")}

    with pytest.raises(ConfigError, match=r"twice returned red_max, which is the name of another"):
        source_of(area, storage, twice)


def test_feature_source_own_features_that_depend_on_the_pixels_are_refused(
    area: Area, storage: Storage
) -> None:
    def fickle(cube: xr.Dataset) -> dict[str, Any]:
        name = "large" if cube.sizes["x"] > 10 else "small"
        return {name: cube["red"].isel(time=0)}

    source = source_of(area, storage, fickle)
    wanted = r"^Feature functions .*fickle returned large of one window and small of made-up pix"
    with pytest.raises(ConfigError, match=wanted):
        source.compute(source.windows()[0])


@pytest.mark.parametrize("side", [5, 8, 16, 512])
def test_feature_source_windows_cover_every_pixel_once(
    side: int, area: Area, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = source_of(area, storage)
    monkeypatch.setattr(windows, "WINDOW_PX", side)
    seen = np.zeros((16, 16), int)
    for window in source.windows():
        (top, bottom), (left, right) = window.toranges()
        assert 0 <= top < bottom <= 16
        assert 0 <= left < right <= 16
        seen[top:bottom, left:right] += 1
    assert (seen == 1).all()


def test_feature_source_cube_has_a_halo_as_wide_as_neighbourhoods_reach(
    area: Area, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = source_of(area, storage, features={"neighbourhood": [3, 5]})
    monkeypatch.setattr(windows, "WINDOW_PX", 8)
    window = source.windows()[0]
    with storage.gdal():
        cube = source.cube(window)
    assert dict(cube.sizes) == {"time": 2, "y": 12, "x": 12}
    red = cube["red"].values[0]
    assert np.isnan(red[:2]).all()  # beyond the images
    assert np.isnan(red[:, :2]).all()
    np.testing.assert_allclose(red[2:, 2:], coordinates()[:10, :10] * 0.0001 - 0.1, atol=1e-6)
    assert source.compute(window).shape == (len(source.names), 8, 8)


def test_feature_source_own_features_over_window_edges_equal_those_of_one_window(
    area: Area, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = source_of(area, storage, reach, features={"neighbourhood": [5]})
    assert len(source.windows()) == 1
    at_once = whole(source)
    monkeypatch.setattr(windows, "WINDOW_PX", 5)
    assert len(source.windows()) == 16
    np.testing.assert_allclose(whole(source), at_once, rtol=1e-5, atol=1e-6)
    first = at_once[source.names.index("red_first")]
    np.testing.assert_allclose(first, coordinates() * 0.0001 - 0.1, atol=1e-6)
    apart = np.abs(coordinates().astype(float) - coordinates()[::-1]) * 0.0001
    np.testing.assert_allclose(at_once[source.names.index("red_reach")], apart, atol=1e-6)


def test_over_windows_gives_results_in_order(
    area: Area, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = source_of(area, storage)
    monkeypatch.setattr(windows, "WINDOW_PX", 4)

    def corner(window: Window) -> tuple[int, int]:
        time.sleep(0.02 if window.col_off == 0 else 0)  # the first of each row ends last
        return window.row_off, window.col_off

    found = [corner for _, corner in source.over_windows(corner, "test")]
    assert found == [(row, column) for row in range(0, 16, 4) for column in range(0, 16, 4)]


def test_over_windows_image_that_cannot_be_read_is_named(area: Area, storage: Storage) -> None:
    source = source_of(area, storage)
    path = area.folder / "2024-05-01" / "red.tif"
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(DataError, match=r"2024-05-01/red\.tif can't be read: .*; check that the"):
        list(source.iterate("test"))


def test_feature_source_layer_of_many_bands_gives_a_feature_of_each(
    area: Area, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = area.folder.parent / "embedding.tif"
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        width=16,
        height=16,
        count=2,
        dtype="float32",
        crs=CRS,
        transform=TRANSFORM,
    ) as file:
        file.write(np.stack([coordinates(), -coordinates()]).astype("float32"))
    features = {"layers": {"embedding": str(path)}, "neighbourhood": [3]}
    source = source_of(area, storage, features=features)
    names = [name for name in source.names if name.startswith("embedding")]
    assert names == [
        "embedding_1",
        "embedding_2",
        *(f"embedding_{band}_{what}3" for band in (1, 2) for what in ("mean", "std")),
    ]
    later = FeatureSource(area.items, source.recipe, storage, [*source.periods, "2024-06"])
    told = later.features_of(source.periods)
    assert "red_2024-06" not in told
    assert [name for name in told if name.startswith("embedding")] == names
    monkeypatch.setattr(windows, "WINDOW_PX", 5)
    values = whole(source)
    np.testing.assert_allclose(values[source.names.index("embedding_1")], coordinates())
    np.testing.assert_allclose(values[source.names.index("embedding_2")], -coordinates())


def test_feature_source_layer_is_told_missing_before_any_window(
    area: Area, storage: Storage
) -> None:
    with pytest.raises(DataError, match=r"Layer height can't be read from /nowhere\.tif"):
        source_of(area, storage, features={"layers": {"height": "/nowhere.tif"}})


def test_feature_source_layer_is_read_on_each_windows_grid(
    area: Area, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_raster(area.folder / "height.tif", coordinates().astype("float32"))
    layers = {"layers": {"height": str(area.folder / "height.tif")}}
    source = source_of(area, storage, features=layers)
    monkeypatch.setattr(windows, "WINDOW_PX", 5)
    np.testing.assert_allclose(whole(source)[source.names.index("height")], coordinates())
