from __future__ import annotations

import time
from pathlib import Path

import geopandas as gpd
import numpy as np
import pystac
import pytest
import rasterio

from terraflow.eo.images.collection import read_items
from terraflow.eo.images.sources import simulate
from terraflow.eo.images.sources.simulate import make_area
from terraflow.settings import Settings
from terraflow.storage import Storage

SIZE_PX = 256


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch, settings: Settings, tmp_path: Path) -> tuple[str, str]:
    """Half of the area in each direction, which is made sooner."""
    monkeypatch.setattr(simulate, "SIZE_PX", SIZE_PX)
    monkeypatch.setattr(simulate, "PARCELS", 60)
    return make_area(Storage(settings), str(tmp_path / "store"), seed=1)


def files(catalogue: str) -> dict[str, bytes]:
    folder = Path(catalogue).parent
    found = {str(path.relative_to(folder)): path for path in folder.rglob("*.tif")}
    return {name: path.read_bytes() for name, path in sorted(found.items())}


def test_make_area_again_gives_the_same_files_whenever(
    made: tuple[str, str], storage: Storage, tmp_path: Path
) -> None:
    time.sleep(1.1)  # GeoPackage writes the time, in milliseconds
    again = make_area(storage, str(tmp_path / "again"), seed=1)
    assert files(again[0]) == files(made[0])
    assert Path(again[1]).read_bytes() == Path(made[1]).read_bytes()


def read(item: pystac.Item, key: str) -> np.ndarray:
    with rasterio.open(item.assets[key].href) as file:
        image: np.ndarray = file.read(1)
        assert file.crs == "EPSG:32633"
        assert file.nodata == 0
    return image


def blocks(image: np.ndarray) -> np.ndarray:
    """Pixels of 10 m in those of 20 m: shape (y, x, 4)."""
    side = image.shape[0] // 2
    return image.reshape(side, 2, side, 2).swapaxes(1, 2).reshape(side, side, 4)


def test_make_area_larger_pixels_are_the_mean_of_what_they_cover(
    made: tuple[str, str], storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(simulate, "BANDS_M", simulate.BANDS_M | {"B11": 10})
    fine, _ = make_area(storage, str(tmp_path / "fine"), seed=1)
    for item, same in zip(read_items(made[0], storage), read_items(fine, storage), strict=True):
        parts = blocks(read(same, "B11"))
        whole = np.ma.masked_equal(parts, 0).mean(axis=-1)
        assert np.abs(np.ma.masked_equal(read(item, "B11"), 0) - whole).max() <= 1
        scene, counted = read(item, "SCL"), parts.all(-1)
        assert scene[counted].all()


def test_make_area_says_that_nothing_is_measured(made: tuple[str, str], storage: Storage) -> None:
    items = read_items(made[0], storage)
    assert [f"{item.datetime:%Y-%m-%d}" for item in items] == [
        f"2024-{month:02}-14" for month in range(4, 10)
    ]
    for item in items:
        assert item.properties["simulated"] is True
        assert "not measured" in item.properties["description"]
        assert set(item.assets) == {"B02", "B03", "B04", "B08", "B11", "SCL"}


def test_make_area_assets_tell_the_grid_of_their_files(
    made: tuple[str, str], storage: Storage
) -> None:
    item = read_items(made[0], storage)[0]
    for key, side in (("B04", SIZE_PX), ("B11", SIZE_PX // 2), ("SCL", SIZE_PX // 2)):
        fields = item.assets[key].extra_fields
        with rasterio.open(item.assets[key].href) as file:
            assert fields["proj:shape"] == [side, side] == list(file.shape)
            assert fields["proj:transform"] == list(file.transform)[:6]
            assert fields["raster:bands"][0]["data_type"] == file.dtypes[0]


def test_make_area_reflectances_are_plausible_and_vegetation_is_green_in_summer(
    made: tuple[str, str], storage: Storage
) -> None:
    july = next(item for item in read_items(made[0], storage) if "0714" in item.id)
    clear = np.repeat(np.repeat(read(july, "SCL"), 2, 0), 2, 1) == 4
    red, nir = (read(july, key)[clear] * 0.0001 - 0.1 for key in ("B04", "B08"))
    assert clear.sum() > 1000
    assert -0.1 < red.min() < red.max() < 1
    ndvi = (nir - red) / (nir + red)
    assert np.median(ndvi) > 0.4


def test_make_area_clouds_are_bright_and_gaps_are_nodata_in_every_asset(
    made: tuple[str, str], storage: Storage
) -> None:
    clouds = gaps = 0
    for item in read_items(made[0], storage):
        scene, red = read(item, "SCL"), blocks(read(item, "B04"))
        bright = red * 0.0001 - 0.1 > 0.45
        clouds += (scene == 9).sum()
        gaps += (red == 0).sum()
        # a pixel of 20 m is cloudy or missing where any of its four of 10 m is
        gap = (red == 0).any(-1)
        assert np.array_equal(scene == 0, gap)
        assert np.array_equal(scene == 9, bright.any(-1) & ~gap)
        assert np.array_equal(read(item, "B11") == 0, (red == 0).all(-1))
    assert clouds > 0
    assert gaps > 0


def test_make_area_labels_hold_every_class_in_polygons_smaller_than_parcels(
    made: tuple[str, str],
) -> None:
    labels = gpd.read_file(made[1])
    assert labels.crs == "EPSG:32633"
    assert set(labels["class_name"]) == {"water", "forest", "grassland", "cropland", "built_up"}
    assert not labels.is_empty.any()
    joined = labels.union_all()
    assert np.isclose(joined.area, labels.area.sum())  # none overlaps another
    west, south, east, north = joined.bounds
    assert west >= 500_000 + 15
    assert north <= 5_100_000 - 15
    assert east <= 500_000 + SIZE_PX * 10 - 15
    assert south >= 5_100_000 - SIZE_PX * 10 + 15


def test_make_area_same_seed_same_pixels_and_another_seed_others(
    made: tuple[str, str], storage: Storage, tmp_path: Path
) -> None:
    again, _ = make_area(storage, str(tmp_path / "again"), seed=1)
    assert len(files(again)) == 36
    assert files(again) == files(made[0])
    other, _ = make_area(storage, str(tmp_path / "store"), seed=2)
    assert Path(other).parent != Path(made[0]).parent
    assert files(other) != files(made[0])


def test_make_area_that_is_there_is_not_made_again(
    made: tuple[str, str], storage: Storage, tmp_path: Path
) -> None:
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "store").rglob("*")}
    assert make_area(storage, str(tmp_path / "store"), seed=1) == made
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "store").rglob("*")} == before


def test_make_area_without_its_catalogue_is_made_again(
    made: tuple[str, str], storage: Storage, tmp_path: Path
) -> None:
    Path(made[0]).unlink()  # it is written last
    assert make_area(storage, str(tmp_path / "store"), seed=1) == made
    assert Path(made[0]).exists()
