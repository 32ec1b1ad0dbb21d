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
from terraflow.eo.config.sections import Map
from terraflow.eo.maps.map_file import category_names, create_map, open_map, read_info, write_cog
from terraflow.eo.maps.map_origin import MapOrigin
from terraflow.eo.targets.classes.classification import Classification
from terraflow.eo.targets.parts import Band
from terraflow.errors import DataError
from terraflow.storage import Storage

CLASSES = ["forest", "Wäld & <Wiese>"]
SECTION = Map(colours=dict(zip(CLASSES, ["#00ff00", "#ffa500"], strict=True)))
BANDS = Classification().bands(CLASSES, SECTION)
ORIGIN = MapOrigin(
    model="models:/a/1",
    model_name="a",
    items="items.json",
    items_digest="1234",
    config_digest="5678",
    version="0.2.0",
    scores={"macro_f1": 0.5},
    note="simulated",
)
GRID = GeoBox((1100, 1030), Affine(10, 0, 500_000, 0, -10, 5_100_000), "EPSG:32633")


def write(folder: Path, bands: np.ndarray, grid: GeoBox = GRID) -> Path:
    folder.mkdir(exist_ok=True)
    with create_map(folder / "plain.tif", grid, BANDS, "uint8", ORIGIN) as file:
        file.write(bands)
    write_cog(folder / "plain.tif", folder / "map.tif", "nearest")
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
    write_cog(path.with_name("plain.tif"), tmp_path / "big.tif", "nearest")
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
    (tmp_path / "map.tif.aux.xml").write_bytes(category_names(BANDS[0]))
    rasterio.shutil.copy(tmp_path / "map.tif", tmp_path / "map.vrt", driver="VRT")
    categories = (tmp_path / "map.vrt").read_text().partition("<CategoryNames>")[2]
    names = ["nodata", "forest", "Wäld &amp; &lt;Wiese&gt;"]
    assert [line.strip() for line in categories.splitlines()[1:4]] == [
        f"<Category>{name}</Category>" for name in names
    ]
    with rasterio.open(tmp_path / "map.tif") as file:
        assert file.colorinterp == (ColorInterp.palette, ColorInterp.undefined)


def test_create_map_tells_the_unit_of_the_confidence(path: Path) -> None:
    with rasterio.open(path) as file:
        assert file.tags(2) == {"UNIT": "per cent, probability of the class"}


def test_read_info_gives_what_was_written(path: Path, storage: Storage) -> None:
    info = read_info(str(path), storage)
    classes, confidence = info.bands
    assert (classes.name, confidence.name) == ("class", "confidence")
    assert list(classes.names.items()) == [(1, CLASSES[0]), (2, CLASSES[1])]
    assert classes.colours == {1: "#00ff00", 2: "#ffa500"}
    assert not confidence.names
    assert not confidence.colours
    assert confidence.unit == "per cent, probability of the class"
    assert classes.nodata == confidence.nodata == 0
    assert info.origin == ORIGIN
    assert (info.shape, info.transform, info.crs) == (GRID.shape, GRID.affine, "EPSG:32633")


def test_read_info_of_ten_classes_keeps_their_order(storage: Storage, tmp_path: Path) -> None:
    names = [f"class {i}" for i in range(1, 12)]
    bands = Classification().bands(names, Map())
    with create_map(tmp_path / "m.tif", GRID[:4, :4], bands, "uint8", ORIGIN) as file:
        file.write(np.ones((2, 4, 4), "uint8"))
    assert list(read_info(str(tmp_path / "m.tif"), storage).bands[0].names.values()) == names


def test_read_info_of_numbers_tells_units_and_has_no_names(
    storage: Storage, tmp_path: Path
) -> None:
    bands = [Band("yield", "Yield", "t/ha", nodata=np.nan), Band("error", nodata=np.nan)]
    values = np.array([[[1.5, np.nan], [2.5, 3.5]], [[0.1, np.nan], [0.2, 0.3]]], "float32")
    with create_map(tmp_path / "plain.tif", GRID[:2, :2], bands, "float32", ORIGIN) as file:
        file.write(values)
    write_cog(tmp_path / "plain.tif", tmp_path / "m.tif", "average")
    info = read_info(str(tmp_path / "m.tif"), storage)
    assert [(band.name, band.unit) for band in info.bands] == [("yield", "t/ha"), ("error", "")]
    assert not any(band.names or band.colours for band in info.bands)
    with rasterio.open(tmp_path / "m.tif") as file:
        assert np.array_equal(file.read(), values, equal_nan=True)
        assert np.isnan(file.nodatavals).all()
        assert file.colorinterp == (ColorInterp.gray, ColorInterp.undefined)
    assert info.bands[0].is_valid(values[0]).tolist() == [[True, False], [True, True]]


def test_read_info_without_the_items_names_what_is_missing(
    storage: Storage, tmp_path: Path
) -> None:
    write_raster(tmp_path / "m.tif", np.zeros((4, 4), "uint8"))
    tags = {f"TERRAFLOW_{key.upper()}": value for key, value in ORIGIN.to_tags().items()}
    del tags["TERRAFLOW_ITEMS"]
    with rasterio.open(tmp_path / "m.tif", "r+") as file:
        file.update_tags(**tags)
    with pytest.raises(DataError, match=r"m\.tif does not tell its whole origin \(items\)"):
        read_info(str(tmp_path / "m.tif"), storage)


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
