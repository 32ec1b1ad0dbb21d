"""Rasters of class numbers, as people bring them: each pixel is known."""

from __future__ import annotations

import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.control import GroundControlPoint
from rasterio.enums import ColorInterp

from area import CRS, TRANSFORM
from terraflow.eo.config.labels import Labels
from terraflow.eo.targets.classes.labels import raster as module
from terraflow.eo.targets.classes.labels.raster import RasterLabels
from terraflow.eo.targets.classes.labels.read import read_labels
from terraflow.errors import DataError
from terraflow.storage import Storage

GRID = GeoBox((16, 16), TRANSFORM, CRS)
ROWS, COLUMNS = np.mgrid[:16, :16]
#: Classes 1 to 3 in a pattern that any shift would show.
CODES = ((ROWS * 7 + COLUMNS * 3) % 3 + 1).astype("uint8")
HIDDEN = (ROWS + COLUMNS) % 5 == 0


def write(path: Path, *bands: np.ndarray, mask: np.ndarray | None = None, **profile: Any) -> str:
    keys = {"crs": CRS, "transform": TRANSFORM, "dtype": bands[0].dtype} | profile
    descriptions = keys.pop("descriptions", None)
    alpha = keys.pop("alpha", None)
    height, width = bands[0].shape
    kept = {"driver": "GTiff", "height": height, "width": width, "count": len(bands)}
    with rasterio.open(path, "w", **kept, **keys) as file:
        if descriptions:
            file.descriptions = descriptions
        if alpha:
            meanings = [ColorInterp.gray] * len(bands)
            meanings[alpha - 1] = ColorInterp.alpha
            file.colorinterp = meanings
        file.write(np.stack(bands))
        if mask is not None:
            file.write_mask(mask)
    return str(path)


def read(path: str, storage: Storage, **keys: Any) -> RasterLabels:
    found = read_labels(path, Labels(**keys), GRID, storage)
    assert isinstance(found, RasterLabels)
    return found


def codes(labels: RasterLabels, geobox: GeoBox = GRID) -> np.ndarray:
    """Value of each pixel; 0 is none."""
    numbers = labels.burn(geobox)[0].filled(0)
    return np.array([0, *map(int, labels.names)])[numbers]


@pytest.mark.parametrize(
    "dtype", ["uint8", "int8", "int16", "uint32", "int64", "float32", "float64"]
)
def test_pixels_on_the_same_grid_are_exact(dtype: str, storage: Storage, tmp_path: Path) -> None:
    path = write(tmp_path / "codes.tif", CODES.astype(dtype), nodata=0)
    labels = read(path, storage)
    assert (codes(labels) == CODES).all()
    assert (codes(labels, GRID[3:9, 5:12]) == CODES[3:9, 5:12]).all()


@pytest.mark.parametrize("none", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_what_is_no_number_is_no_label(
    none: float, dtype: str, storage: Storage, tmp_path: Path
) -> None:
    values = CODES.astype(dtype)
    values[HIDDEN] = none
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        labels = read(write(tmp_path / "codes.tif", values), storage)
        assert (codes(labels) == np.where(HIDDEN, 0, CODES)).all()
    assert labels.names == ["1", "2", "3"]


@pytest.mark.parametrize("nodata", [0, 255, None])
@pytest.mark.parametrize("kind", ["alpha", "alpha16", "internal", "msk", "nodata"])
def test_what_the_file_marks_is_no_label(
    kind: str, nodata: int | None, storage: Storage, tmp_path: Path
) -> None:
    """Under the mask lies a code of its own, which must not be seen, and nodata counts beside."""
    values = np.where(HIDDEN, 9, CODES).astype("uint8")
    values[0, :3] = nodata or 9
    hidden = HIDDEN.copy()
    hidden[0, :3] = True
    shown = np.where(hidden, 0, 255).astype("uint8")
    path = tmp_path / "codes.tif"
    if kind == "alpha":
        write(path, values, shown, nodata=nodata, alpha=2)
    elif kind == "alpha16":
        write(path, values.astype("uint16"), shown.astype("uint16") * 257, nodata=nodata, alpha=2)
    elif kind == "nodata":
        write(path, np.where(hidden, 9, values).astype("uint8"), nodata=9)
    else:
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=kind == "internal"):
            write(path, values, mask=shown, nodata=nodata)
    assert (tmp_path / "codes.tif.msk").exists() == (kind == "msk")
    labels = read(str(path), storage)
    assert labels.names == ["1", "2", "3"]
    assert (codes(labels) == np.where(hidden, 0, CODES)).all()


def test_palette_keeps_its_codes(storage: Storage, tmp_path: Path) -> None:
    path = write(tmp_path / "codes.tif", CODES, nodata=0)
    with rasterio.open(path, "r+") as file:
        file.write_colormap(1, {0: (0, 0, 0, 0), 1: (1, 2, 3, 255), 2: (0, 0, 0, 0)})
    assert (codes(read(path, storage)) == CODES).all()


def test_south_up_raster_is_where_it_is(storage: Storage, tmp_path: Path) -> None:
    south_up = Affine(10, 0, 500_000, 0, 10, 5_100_000 - 160)
    path = write(tmp_path / "codes.tif", CODES[::-1], nodata=0, transform=south_up)
    assert (codes(read(path, storage)) == CODES).all()


def test_rotated_raster_is_where_it_is(storage: Storage, tmp_path: Path) -> None:
    turned = TRANSFORM * Affine.rotation(30)
    path = write(tmp_path / "codes.tif", CODES, nodata=0, transform=turned)
    found = codes(read(path, storage))
    columns, rows = ~turned * TRANSFORM * (COLUMNS + 0.5, ROWS + 0.5)
    columns, rows = np.floor(columns).astype(int), np.floor(rows).astype(int)
    within = (rows >= 0) & (rows < 16) & (columns >= 0) & (columns < 16)
    expected = np.where(within, CODES[rows.clip(0, 15), columns.clip(0, 15)], 0)
    assert within.sum() > 100
    assert (found == expected).all()


@pytest.mark.parametrize("factor", [2, 5])
def test_finer_and_coarser_rasters_take_the_nearest_pixel(
    factor: int, storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_PX", 40 * 40)
    fine = np.kron(CODES, np.ones((factor, factor), "uint8"))
    finer = TRANSFORM * Affine.scale(1 / factor)
    path = write(tmp_path / "fine.tif", fine, nodata=0, transform=finer)
    assert (codes(read(path, storage)) == CODES).all()
    coarser = TRANSFORM * Affine.scale(factor)
    path = write(tmp_path / "coarse.tif", CODES, nodata=0, transform=coarser)
    expected = np.kron(CODES, np.ones((factor, factor), "uint8"))[:16, :16]
    assert (codes(read(path, storage)) == expected).all()


def test_raster_in_another_crs_is_warped(storage: Storage, tmp_path: Path) -> None:
    whole = np.kron(CODES[:4, :4], np.ones((8, 8), "uint8"))
    degrees = GRID.to_crs("EPSG:4326").pad(20)
    east, north = np.meshgrid(*(degrees.coords[axis].values for axis in ("longitude", "latitude")))
    x, y = rasterio.warp.transform("EPSG:4326", CRS, east.ravel().tolist(), north.ravel().tolist())
    columns, rows = (np.floor(n).astype(int) for n in ~TRANSFORM * (np.array(x), np.array(y)))
    values = whole[(rows + 8).clip(0, 31), (columns + 8).clip(0, 31)].reshape(degrees.shape)
    path = write(
        tmp_path / "degrees.tif", values, nodata=0, crs="EPSG:4326", transform=degrees.affine
    )
    found = codes(read(path, storage))
    inner = (ROWS % 8 != 0) & (COLUMNS % 8 != 0) & (ROWS % 8 != 7) & (COLUMNS % 8 != 7)
    assert (found == whole[8:24, 8:24])[inner].all()


def test_several_bands_ask_for_one_and_naming_it_helps(storage: Storage, tmp_path: Path) -> None:
    path = write(tmp_path / "codes.tif", CODES * 5, CODES, descriptions=("year", "cover"))
    with pytest.raises(DataError, match=r"2 bands, 1 \(year\), 2 \(cover\).*\[labels\] band = 1"):
        read(path, storage)
    assert (codes(read(path, storage, band=2)) == CODES).all()
    assert (codes(read(path, storage, band=1)) == 5 * CODES).all()
    with pytest.raises(DataError, match=r"no band 3 of classes; it has 1 \(year\), 2 "):
        read(path, storage, band=3)


def test_values_without_a_class_are_counted(storage: Storage, tmp_path: Path) -> None:
    path = write(tmp_path / "codes.tif", CODES, nodata=0)
    labels = read(path, storage, classes={"1": "water ", "3.0": "water"})
    assert labels.names == ["water"]
    numbers = [int((code == CODES).sum()) for code in (1, 2, 3)]
    assert labels.account.read == {"water": numbers[0] + numbers[2], "2": numbers[1]}
    assert labels.account.dropped == {"not in [labels] classes": {"2": numbers[1]}}
    with pytest.raises(DataError, match=r"it holds 1, 2, 3, \[labels\] classes lists 7; correct"):
        read(path, storage, classes={"7": "water"})


def test_too_many_values_name_a_table_that_helps(storage: Storage, tmp_path: Path) -> None:
    path = write(tmp_path / "ids.tif", np.arange(1, 301, dtype="uint16").reshape(15, 20))
    with pytest.raises(DataError, match=r"more than 255 classes, from 1 to .*\[labels\] classes"):
        read(path, storage)
    assert read(path, storage, classes={"1": "forest", "22": "water"}).names == ["forest", "water"]


def run_rio(line: str) -> None:
    """Run a line of `rio` as a user copies it."""
    [program, *words] = line.split()
    assert program == "rio"
    code = "from rasterio.rio.main import main_group; main_group()"
    subprocess.run([sys.executable, "-c", code, *words], check=True, capture_output=True)


def quoted(message: str) -> str:
    return message.split("`")[1]


def test_raster_in_a_local_crs_is_refused_and_its_remedy_helps(
    storage: Storage, tmp_path: Path
) -> None:
    local = 'LOCAL_CS["Local Coordinates (m)",UNIT["metre",1]]'
    path = write(tmp_path / "codes.tif", CODES, nodata=0, crs=local)
    with pytest.raises(DataError, match=r"codes\.tif has the local CRS .* can't") as error:
        read(path, storage)
    run_rio(quoted(str(error.value)))
    assert (codes(read(path, storage)) == CODES).all()


def test_raster_without_crs_is_refused_and_its_remedy_helps(
    storage: Storage, tmp_path: Path
) -> None:
    path = write(tmp_path / "codes.tif", CODES, nodata=0, crs=None)
    with pytest.raises(DataError, match=r"has no CRS; write it .* `rio edit-info") as error:
        read(path, storage)
    run_rio(f"{quoted(str(error.value))} {CRS} {path}")
    assert (codes(read(path, storage)) == CODES).all()


def test_raster_by_control_points_is_refused_and_its_remedy_helps(
    storage: Storage, tmp_path: Path
) -> None:
    path = tmp_path / "codes.tif"
    points = [
        GroundControlPoint(row, column, *(TRANSFORM * (column, row)))
        for row in (0, 16)
        for column in (0, 16)
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        keys = {"height": 16, "width": 16, "count": 1, "dtype": "uint8", "nodata": 0}
        with rasterio.open(path, "w", driver="GTiff", **keys, gcps=points, crs=CRS) as file:
            file.write(CODES, 1)
        with pytest.raises(DataError, match="4 ground control points") as error:
            read(str(path), storage)
    run_rio(quoted(str(error.value)))
    shutil.move(path.with_name("codes_warped.tif"), path)
    assert (codes(read(str(path), storage)) == CODES).mean() > 0.95


def test_raster_elsewhere_is_refused(storage: Storage, tmp_path: Path) -> None:
    far = TRANSFORM * Affine.translation(1000, 0)
    path = write(tmp_path / "codes.tif", CODES, nodata=0, transform=far)
    with pytest.raises(DataError, match=r"No pixel of .*codes\.tif lies in the images"):
        read(path, storage)
