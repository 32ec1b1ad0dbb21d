from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.enums import ColorInterp, MaskFlags

from area import write_raster
from terraflow.eo.maps.map_file import category_names, create_map, open_map, read_info, write_cog
from terraflow.errors import DataError
from terraflow.storage import Storage

CLASSES = ["forest", "Wäld & <Wiese>"]
COLOURS = ["#00ff00", "#ffa500"]
METADATA = {"model": "models:/a/1", "note": "simulated"}
GRID = GeoBox((1100, 1030), Affine(10, 0, 500_000, 0, -10, 5_100_000), "EPSG:32633")


def write(folder: Path, bands: np.ndarray, grid: GeoBox = GRID) -> Path:
    folder.mkdir(exist_ok=True)
    with create_map(folder / "plain.tif", grid, CLASSES, COLOURS, METADATA) as file:
        file.write(bands)
    write_cog(folder / "plain.tif", folder / "map.tif")
    return folder / "map.tif"


@pytest.fixture(scope="module")
def bands() -> np.ndarray:
    random = np.random.default_rng(0)
    classes = random.integers(0, 3, GRID.shape)
    confidence = np.where(classes, 10 * classes + random.integers(0, 9, GRID.shape), 0)
    return np.stack([classes, confidence]).astype("uint8")


@pytest.fixture(scope="module")
def path(bands: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("map"), bands)


def test_write_cog_keeps_bands_and_nodata(path: Path, bands: np.ndarray) -> None:
    with rasterio.open(path) as file:
        assert (file.read() == bands).all()
        assert file.nodatavals == (0, 0)
        assert file.descriptions == ("class", "confidence")
        assert file.mask_flag_enums == ([MaskFlags.nodata], [MaskFlags.nodata])


def test_write_cog_layout_is_a_cog_with_tiles_and_overviews(path: Path) -> None:
    with rasterio.open(path) as file:
        assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert file.block_shapes == [(512, 512)] * 2
        assert file.overviews(1) == file.overviews(2) == [2, 4]


@pytest.mark.parametrize("level", [None, 0, 1])
def test_write_cog_confidence_is_no_alpha_at_any_level(path: Path, level: int | None) -> None:
    options = {} if level is None else {"overview_level": level}
    with rasterio.open(path, **options) as file:
        assert file.colorinterp == (ColorInterp.palette, ColorInterp.undefined)


def test_write_cog_overviews_keep_class_and_confidence_of_a_pixel_together(path: Path) -> None:
    with rasterio.open(path, overview_level=0) as file:
        classes, confidence = file.read()
    assert set(np.unique(classes)) == {0, 1, 2}
    assert (confidence // 10 == classes).all()


def test_write_cog_file_alone_tells_colours_classes_and_origin(path: Path, tmp_path: Path) -> None:
    alone = tmp_path / "alone.tif"
    alone.write_bytes(path.read_bytes())
    with rasterio.open(alone) as file:
        assert file.colormap(1)[1] == (0, 255, 0, 255)
        assert file.colormap(1)[0][3] == 0
        assert file.tags(1) == {"CLASS_1": CLASSES[0], "CLASS_2": CLASSES[1]}
        assert file.tags()["TERRAFLOW_MODEL"] == "models:/a/1"


def test_write_cog_same_content_gives_same_bytes(
    path: Path, bands: np.ndarray, tmp_path: Path
) -> None:
    assert write(tmp_path, bands).read_bytes() == path.read_bytes()


def test_write_cog_of_a_bigtiff_declares_no_alpha(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = rasterio.shutil.copy

    def big(source: Path, target: Path, **options: object) -> None:
        copy(source, target, **options | {"bigtiff": "YES"})

    monkeypatch.setattr(rasterio.shutil, "copy", big)
    write_cog(path.with_name("plain.tif"), tmp_path / "big.tif")
    assert (tmp_path / "big.tif").read_bytes()[:4] == b"II" + struct.pack("<H", 43)
    for options in ({}, {"overview_level": 0}):
        with rasterio.open(tmp_path / "big.tif", **options) as file:
            assert file.colorinterp == (ColorInterp.palette, ColorInterp.undefined)


def test_write_cog_smaller_than_a_tile_is_whole(tmp_path: Path) -> None:
    small = np.array([[[1, 0], [2, 2]], [[90, 0], [50, 51]]], dtype="uint8")
    path = write(tmp_path, small, GRID[:2, :2])
    with rasterio.open(path) as file:
        assert (file.read() == small).all()
        assert file.colorinterp == (ColorInterp.palette, ColorInterp.undefined)


def test_category_names_beside_the_file_are_read_by_gdal(path: Path, tmp_path: Path) -> None:
    (tmp_path / "map.tif").write_bytes(path.read_bytes())
    (tmp_path / "map.tif.aux.xml").write_bytes(category_names(CLASSES))
    rasterio.shutil.copy(tmp_path / "map.tif", tmp_path / "map.vrt", driver="VRT")
    categories = (tmp_path / "map.vrt").read_text().partition("<CategoryNames>")[2]
    names = ["nodata", "forest", "Wäld &amp; &lt;Wiese&gt;"]
    assert [line.strip() for line in categories.splitlines()[1:4]] == [
        f"<Category>{name}</Category>" for name in names
    ]
    with rasterio.open(tmp_path / "map.tif") as file:
        assert file.colorinterp == (ColorInterp.palette, ColorInterp.undefined)


def test_read_info_gives_what_was_written(path: Path, storage: Storage) -> None:
    info = read_info(str(path), storage)
    assert (info.classes, info.colours, info.metadata) == (CLASSES, COLOURS, METADATA)
    assert (info.shape, info.transform, info.crs) == (GRID.shape, GRID.affine, "EPSG:32633")


def test_read_info_of_ten_classes_keeps_their_order(storage: Storage, tmp_path: Path) -> None:
    names = [f"class {i}" for i in range(1, 12)]
    with create_map(tmp_path / "m.tif", GRID[:4, :4], names, ["#102030"] * 11, METADATA) as file:
        file.write(np.ones((2, 4, 4), "uint8"))
    assert read_info(str(tmp_path / "m.tif"), storage).classes == names


def test_open_map_of_another_raster_is_refused(storage: Storage, tmp_path: Path) -> None:
    write_raster(tmp_path / "other.tif", np.zeros((4, 4), "uint8"))
    with (
        pytest.raises(DataError, match=r"other\.tif does not tell which model .* `invoke map`"),
        open_map(str(tmp_path / "other.tif"), storage),
    ):
        pass


@pytest.mark.parametrize("content", [None, b"no raster"])
def test_open_map_of_no_raster_is_refused(
    content: bytes | None, storage: Storage, tmp_path: Path
) -> None:
    if content:
        (tmp_path / "map.tif").write_bytes(content)
    with (
        pytest.raises(DataError, match=r"map\.tif can't be read: .*name a map that `invoke map`"),
        open_map(str(tmp_path / "map.tif"), storage),
    ):
        pass
