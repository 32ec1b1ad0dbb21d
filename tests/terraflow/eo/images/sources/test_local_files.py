from __future__ import annotations

import re
import shlex
import shutil
import warnings
import zipfile
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pystac
import pytest
import rasterio
import rasterio.shutil
import xarray as xr
from click.testing import CliRunner
from rasterio.rio.main import main_group
from rasterio.transform import from_origin

from area import CRS, TRANSFORM, write_raster
from terraflow.eo.images.assets import find_images
from terraflow.eo.images.sources.local_files import find_files
from terraflow.errors import DataError

ONES = np.ones((16, 16), "uint8")
DATE = r"(?P<date>\d{4}[-_]?\d{2}[-_]?\d{2})"  # the default of before version 0.2
HLS = r"(?P<date>\d{7})T\d{6}\.v2\.0\.(?P<band>\w+)"
SENTINEL_2 = r"(?P<date>\d{8})T\d{6}_(?P<band>B\w\w|SCL)_\d\dm"


def write_jpeg2000(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(
        path,
        "w",
        driver="JP2OpenJPEG",
        width=16,
        height=16,
        count=1,
        dtype="uint8",
        crs=CRS,
        transform=TRANSFORM,
        reversible="YES",
        quality="100",
    ) as file:
        file.write(ONES, 1)


def find(folder: Path, pattern: str = "*.tif", name_pattern: str = DATE) -> list[pystac.Item]:
    return find_files(str(folder / pattern), name_pattern)


@pytest.mark.parametrize("name", ["s_20240401_v2", "2024-04-01", "x2024_04_01"])
def test_find_files_date_in_the_name_with_and_without_separators(name: str, tmp_path: Path) -> None:
    write_raster(tmp_path / f"{name}.tif", ONES)
    (item,) = find(tmp_path)
    assert item.id == name
    assert item.datetime == datetime(2024, 4, 1, tzinfo=UTC)
    assert item.assets["image"].href == str(tmp_path / f"{name}.tif")
    assert item.bbox is not None
    assert item.bbox[:2] == pytest.approx([15.0, 46.05], abs=0.02)


def test_find_files_one_jpeg_2000_file_a_band_makes_one_item_a_date_and_tile(
    tmp_path: Path,
) -> None:
    """As in a Sentinel-2 product, with folders by resolution."""
    for name in (
        "R10m/T33TVM_20240401T100031_B04_10m",
        "R20m/T33TVM_20240401T100031_B11_20m",
        "R20m/T33TVM_20240401T100031_SCL_20m",
        "R10m/T33TVM_20240501T100031_B04_10m",
        "R10m/T33TVN_20240401T100031_B04_10m",
    ):
        write_jpeg2000(tmp_path / f"{name}.jp2")
    items = find(tmp_path, "**/*.jp2", SENTINEL_2)
    assert {item.id: sorted(item.assets) for item in items} == {
        "T33TVM_20240401": ["B04", "B11", "SCL"],
        "T33TVM_20240501": ["B04"],
        "T33TVN_20240401": ["B04"],
    }
    assert items[0].assets["B04"].media_type == pystac.MediaType.JPEG2000


def test_find_files_days_of_the_year_make_one_item_a_day(tmp_path: Path) -> None:
    for day in ("2024135T100031", "2024160T100031"):
        for band in ("B04", "B8A"):
            write_raster(tmp_path / f"HLS.S30.T33TVL.{day}.v2.0.{band}.tif", ONES)
    items = find(tmp_path, name_pattern=HLS)
    assert [(item.id, f"{item.datetime:%m-%d}", sorted(item.assets)) for item in items] == [
        ("HLS.S30.T33TVL_20240514", "05-14", ["B04", "B8A"]),
        ("HLS.S30.T33TVL_20240608", "06-08", ["B04", "B8A"]),
    ]


def test_find_files_without_a_pattern_takes_no_processing_date(tmp_path: Path) -> None:
    write_raster(tmp_path / "LC08_L2SP_191028_20240514_20240520_02_T1_SR.TIF", ONES)
    (item,) = find_files(str(tmp_path / "*.TIF"))
    assert item.datetime == datetime(2024, 5, 14, tzinfo=UTC)


def test_find_files_dates_in_folders(tmp_path: Path) -> None:
    for day in ("2024-05-14", "2024-06-08"):
        write_raster(tmp_path / "scenes" / day / "B04.tif", ONES)
    pattern = r"(?P<date>[\d-]+)/(?P<band>B\d\d)$"
    items = find(tmp_path, "scenes/*/*.tif", pattern)
    assert [f"{item.datetime:%Y-%m-%d}" for item in items] == ["2024-05-14", "2024-06-08"]
    (one,) = find(tmp_path, "scenes/2024-05-14/*.tif", pattern)
    assert one.datetime == datetime(2024, 5, 14, tzinfo=UTC)


def test_find_files_pattern_in_the_documentation_fits_its_example(tmp_path: Path) -> None:
    text = (Path(__file__).parents[5] / "docs/data.md").read_text()
    pattern, name = re.findall(r"^name_pattern = '(.*)' +# (\S+)$", text, re.MULTILINE)[0]
    assert "B04_10m" in name
    for other in (name, name.replace("B04_10m", "B11_20m"), name.replace("B04_10m", "SCL_20m")):
        write_jpeg2000(tmp_path / other)
    (item,) = find(tmp_path, "*.jp2", pattern)
    assert sorted(item.assets) == ["B04", "B11", "SCL"]


@pytest.mark.parametrize("keys", [("image.1", "image.2"), ("b1", "b2"), ("red", "nir")])
def test_find_files_many_bands_go_by_the_names_in_the_documentation(
    keys: tuple[str, str], tmp_path: Path
) -> None:
    with rasterio.open(
        tmp_path / "20240401.tif",
        "w",
        driver="GTiff",
        width=16,
        height=16,
        count=2,
        dtype="uint8",
        crs=CRS,
        transform=TRANSFORM,
    ) as file:
        file.write(np.stack([ONES, ONES]))
        file.descriptions = ("red", "nir")
    ((first, second),) = find_images(find(tmp_path), keys)
    assert (first.band, second.band) == (1, 2)
    ((image,),) = find_images(find(tmp_path), ["image"])
    assert image.band == 1


def test_find_files_many_bands_are_told_by_number_and_description(tmp_path: Path) -> None:
    with rasterio.open(
        tmp_path / "20240401.tif",
        "w",
        driver="GTiff",
        width=16,
        height=16,
        count=2,
        dtype="uint8",
        crs=CRS,
        transform=TRANSFORM,
    ) as file:
        file.write(np.stack([ONES, ONES]))
        file.descriptions = ("red", "nir")
    (item,) = find(tmp_path)
    bands = item.assets["image"].to_dict()["eo:bands"]
    assert [(band["name"], band["description"]) for band in bands] == [("b1", "red"), ("b2", "nir")]


def test_find_files_undated_scene_says_so(tmp_path: Path) -> None:
    write_raster(tmp_path / "scene.tif", ONES)
    (item,) = find(tmp_path)
    assert item.id == "scene"
    assert item.properties["terraflow:undated"] is True
    assert item.datetime == datetime(1970, 1, 1, tzinfo=UTC)
    again = pystac.Item.from_dict(item.to_dict())
    assert again.datetime == item.datetime
    assert again.properties["terraflow:undated"] is True


def test_find_files_undated_bands_make_one_scene(tmp_path: Path) -> None:
    for band in ("B04", "B08"):
        write_raster(tmp_path / f"{band}.tif", ONES)
    (item,) = find(tmp_path, name_pattern=r"(?P<band>B\d\d)")
    assert item.id == "scene"
    assert sorted(item.assets) == ["B04", "B08"]


def test_find_files_undated_beside_dated_is_named(tmp_path: Path) -> None:
    write_raster(tmp_path / "20240401.tif", ONES)
    write_raster(tmp_path / "scene.tif", ONES)
    with pytest.raises(DataError, match=r"scene\.tif has no date in its name, others of .* have"):
        find(tmp_path)


def test_find_files_none_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"No file matches .*\*\.tif; correct \[data\] files"):
        find(tmp_path)


def test_find_files_impossible_date_is_named(tmp_path: Path) -> None:
    write_raster(tmp_path / "20241301.tif", ONES)
    with pytest.raises(
        DataError, match=r"20241301\.tif holds the date '20241301'; expected digits"
    ):
        find(tmp_path)


def test_find_files_name_without_the_band_is_named(tmp_path: Path) -> None:
    write_raster(tmp_path / "20240401.tif", ONES)
    with pytest.raises(DataError, match=r"20240401\.tif does not fit \[data\] name_pattern"):
        find(tmp_path, name_pattern=r"(?P<date>\d{8})_(?P<band>B\d\d)")


def test_find_files_two_files_for_one_band_are_named(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        write_raster(tmp_path / folder / "20240401.tif", ONES)
    wanted = r"a/20240401\.tif and .*b/20240401\.tif are both image of one scene, 20240401; make"
    with pytest.raises(DataError, match=wanted):
        find(tmp_path, "*/*.tif")


def test_find_files_without_crs_is_named(tmp_path: Path) -> None:
    write_raster(tmp_path / "20240401.tif", ONES, crs=None)
    with pytest.raises(DataError, match=r"20240401\.tif has no CRS; write it into the file"):
        find(tmp_path)


@pytest.mark.parametrize("size", [0, 4, 100])
def test_find_files_truncated_raster_is_named(size: int, tmp_path: Path) -> None:
    path = tmp_path / "20240401.tif"
    write_raster(path, ONES)
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(DataError, match=r"20240401\.tif is no raster that can be read \("):
        find(tmp_path)


def test_find_files_container_of_subdatasets_is_told(tmp_path: Path) -> None:
    for name in ("red", "nir"):
        with rasterio.open(
            tmp_path / "20240401.gpkg",
            "w",
            driver="GPKG",
            width=16,
            height=16,
            count=1,
            dtype="uint8",
            crs=CRS,
            transform=from_origin(500_000, 5_100_000, 10, 10),
            raster_table=name,
            append_subdataset="YES" if name == "nir" else "NO",
        ) as file:
            file.write(ONES, 1)
    with pytest.raises(DataError, match=r"20240401\.gpkg holds 2 images and .*:red, .*:nir; write"):
        find(tmp_path, "*.gpkg")


def follow(remedy: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the command that an error's message holds."""
    (command,) = re.findall(r"`(.*)`", remedy)
    program, *arguments = shlex.split(command)
    assert program == "rio"
    monkeypatch.chdir(folder)
    result = CliRunner().invoke(main_group, arguments)
    assert result.exit_code == 0, result.output


def make_pages(path: Path, count: int = 2) -> None:
    """A TIFF of several images, of which GDAL opens the first."""
    path.parent.mkdir(exist_ok=True)
    write_raster(path, ONES)
    write_raster(path.with_name("page"), ONES * 2)
    for _ in range(count - 1):
        rasterio.shutil.copy(path.with_name("page"), path, driver="GTiff", append_subdataset="YES")


@pytest.mark.parametrize("folder", ["plain", "a b's"])
def test_find_files_several_pages_of_a_tiff_are_refused_and_the_remedy_works(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_pages(tmp_path / folder / "20240401.tif")
    with pytest.raises(DataError, match=r"holds 2 images and .*GTIFF_DIR:1:.*GTIFF_DIR:2:") as e:
        find(tmp_path / folder)
    follow(str(e.value), tmp_path, monkeypatch)
    (item,) = find(tmp_path, "image.tif")
    assert sorted(item.assets) == ["image"]


def test_find_files_variables_of_a_netcdf_file_are_refused_and_the_remedy_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = {"x": 500_005 + 10 * np.arange(4.0), "y": 5_099_995 - 10 * np.arange(4.0)}
    values = (("y", "x"), np.ones((4, 4), "float32"))
    xr.Dataset({"red": values, "nir": values}, coords=places).to_netcdf(tmp_path / "20240401.nc")
    with pytest.raises(DataError, match=r"holds 2 images and no one of its own: .*red, .*nir") as e:
        find(tmp_path, "*.nc")
    with warnings.catch_warnings(action="ignore"):
        follow(str(e.value), tmp_path, monkeypatch)
    with pytest.raises(DataError, match=r"image\.tif has no CRS"):  # as the variable has none
        find(tmp_path, "image.tif")


def test_find_files_archive_is_refused_and_the_remedy_works(tmp_path: Path) -> None:
    write_raster(tmp_path / "20240401.tif", ONES)
    with zipfile.ZipFile(tmp_path / "scenes.zip", "w") as archive:
        archive.write(tmp_path / "20240401.tif", "inner/20240401.tif")
    with pytest.raises(DataError, match=r"scenes\.zip is an archive, .*; unpack it, and name"):
        find(tmp_path, "*.zip")
    shutil.unpack_archive(tmp_path / "scenes.zip", tmp_path / "scenes")
    assert len(find(tmp_path, "scenes/**/*.tif")) == 1


def test_find_files_warnings_of_libraries_do_not_get_out(
    tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    with rasterio.open(
        tmp_path / "20240401.tif", "w", driver="GTiff", width=4, height=4, count=1, dtype="uint8"
    ) as file:
        file.write(ONES[:4, :4], 1)
    recwarn.clear()
    with pytest.raises(DataError, match="has no CRS"):
        find(tmp_path)
    assert not recwarn.list
