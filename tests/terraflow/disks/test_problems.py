"""Real errors of a full, read-only or foreign disk, as each library raises them."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import obstore
import pandas as pd
import pytest
import rasterio
from obstore.store import LocalStore

from small_disks import as_another_user, make_room, read_only, small_disk
from terraflow.disks.problems import disk_errors, disk_problem
from terraflow.errors import (
    ConfigError,
    DataError,
    DiskError,
    NothingToDoError,
    ServiceError,
    StorageError,
)
from terraflow.settings import Settings
from terraflow.storage import Storage


@pytest.fixture
def full() -> Iterator[Path]:
    with small_disk("256k") as folder:
        yield folder


def by_python(folder: Path) -> None:
    (folder / "file").write_bytes(bytes(10**6))


def by_file_without_a_name(folder: Path) -> None:
    with (folder / "file").open("wb") as file:
        file.write(bytes(10**6))
        file.flush()


def by_gdal(folder: Path) -> None:
    profile = {"driver": "GTiff", "width": 1024, "height": 1024, "count": 1, "dtype": "uint8"}
    with rasterio.open(folder / "image.tif", "w", **profile) as file:
        file.write(np.ones((1, 1024, 1024), "uint8"))


def by_gdal_cog(folder: Path) -> None:
    profile = {"driver": "COG", "width": 1024, "height": 1024, "count": 1, "dtype": "uint8"}
    noise = np.random.default_rng(0).integers(0, 255, (1, 1024, 1024), "uint8")
    with rasterio.open(folder / "image.tif", "w", **profile) as file:
        file.write(noise)


def by_sqlite(folder: Path) -> None:
    with sqlite3.connect(folder / "file.db") as database:
        database.execute("create table t (x blob)")
        database.execute("insert into t values (zeroblob(1000000))")


def by_obstore(folder: Path) -> None:
    obstore.put(LocalStore(folder), "file", bytes(10**6))


def by_pyarrow(folder: Path) -> None:
    pd.DataFrame({"x": np.random.default_rng(0).random(10**5)}).to_parquet(folder / "x.parquet")


def by_ogr(folder: Path) -> None:
    import geopandas as gpd

    points = gpd.GeoSeries.from_xy(*np.random.default_rng(0).random((2, 20000)), crs=4326)
    gpd.GeoDataFrame(geometry=points).to_file(folder / "points.gpkg")


WRITERS = [
    *(by_python, by_file_without_a_name, by_gdal, by_gdal_cog, by_sqlite, by_obstore),
    *(by_pyarrow, by_ogr),
]


@pytest.mark.parametrize("write", WRITERS)
def test_full_disk_is_told_with_its_free_bytes(full: Path, write: Callable[[Path], None]) -> None:
    (full / "var").mkdir()
    with pytest.raises(DiskError) as caught, disk_errors(lambda: {"TERRAFLOW_VAR": full / "var"}):
        write(full / "var")
    said = str(caught.value)
    assert said.startswith(f"The file system at {full} is full (")
    assert "; free space there, or set TERRAFLOW_VAR to a folder on another" in said
    assert "\n" not in said


@pytest.mark.parametrize("write", WRITERS)
def test_no_file_more_is_told(write: Callable[[Path], None]) -> None:
    with small_disk("10m", files=2) as folder:
        (folder / "one").touch()
        told = r"free, but no file more may be made.*; delete files"
        with (
            pytest.raises(DiskError, match=told),
            disk_errors(lambda: {"TERRAFLOW_VAR": folder}),
        ):
            write(folder)


@pytest.mark.parametrize("write", WRITERS)
def test_read_only_disk_is_told(full: Path, write: Callable[[Path], None]) -> None:
    read_only(full)
    with pytest.raises(DiskError) as caught, disk_errors(lambda: {"TERRAFLOW_VAR": full}):
        write(full)
    assert f"the file system at {full} is read-only; set TERRAFLOW_VAR to a fol" in str(
        caught.value
    )


def test_full_folder_of_temporary_files_is_told(
    full: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TMPDIR", str(full))
    monkeypatch.setattr(tempfile, "tempdir", None)
    with (
        pytest.raises(DiskError, match=f"at {full} is full .* set TMPDIR to a folder on another"),
        disk_errors(lambda: {"TERRAFLOW_VAR": tmp_path}),
        tempfile.TemporaryFile() as file,
    ):
        file.write(bytes(10**6))


def test_error_that_does_not_say_why_is_of_a_disk_that_is_full(full: Path, tmp_path: Path) -> None:
    folders = {"TERRAFLOW_VAR": full}
    silent = StorageError("A copy can't be written (Write error).")
    assert disk_problem(silent, {"TERRAFLOW_VAR": tmp_path}) is None
    (full / "rest").write_bytes(bytes(200_000))
    assert f"at {full} is full" in str(disk_problem(silent, folders))
    make_room(full)
    (full / "rest").write_bytes(bytes(495 * 1024**2))
    assert disk_problem(silent, folders) == (
        f"{silent} The file system at {full} has only 5.24 MB free: make room."
    )
    # mistakes stay mistakes
    assert disk_problem(ZeroDivisionError(), folders) is None
    for mistake in (DataError, ConfigError, NothingToDoError):
        assert disk_problem(mistake("No image reaches the area."), folders) is None


def test_error_of_a_service_keeps_its_text_beside_a_full_disk(full: Path) -> None:
    with (
        pytest.raises(ServiceError) as caught,
        disk_errors(lambda: {"TERRAFLOW_VAR": full}),
    ):
        raise ServiceError("TerraFlow already runs here.")
    assert str(caught.value) == (
        f"TerraFlow already runs here. The file system at {full} has only 262 kB free: make room."
    )


def test_words_of_a_server_count_where_a_disk_is_nearly_full(full: Path) -> None:
    words = "XMinioStorageFull: Storage backend has reached its minimum free drive threshold."
    said = disk_problem(StorageError(words), {"TERRAFLOW_VAR": full})
    assert said == (
        f"The file system at {full} is full (262 kB free), on which {full} lies: {words[:-1]}; "
        "free space there, or set TERRAFLOW_VAR to a folder on another, and repeat the command."
    )


def test_words_of_a_server_elsewhere_are_left_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    with small_disk("3g") as large:
        monkeypatch.setenv("TMPDIR", str(large))
        assert disk_problem(StorageError("StorageFull"), {"TERRAFLOW_VAR": large}) is None


def test_cause_is_found_behind_other_errors(full: Path) -> None:
    def read() -> None:
        try:
            by_python(full)
        except OSError as cause:
            raise DataError("An image can't be read.") from cause

    with (
        pytest.raises(DiskError, match=f"at {full} is full"),
        disk_errors(lambda: {"TERRAFLOW_VAR": full}),
    ):
        read()


def test_full_disk_that_is_not_known_is_not_taken_for_another(
    full: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with small_disk("3g") as large:
        monkeypatch.setenv("TMPDIR", str(large))
        with (
            pytest.raises(DiskError, match="none of those of TERRAFLOW_VAR, TMPDIR: No space left"),
            disk_errors(lambda: {"TERRAFLOW_VAR": large}),
        ):
            by_file_without_a_name(full)


def test_file_that_a_user_named_is_told_by_its_own_disk(full: Path, tmp_path: Path) -> None:
    with (
        pytest.raises(DiskError, match=f"at {full} is full .*, on which {full}/map.tif lies"),
        disk_errors(lambda: {"TERRAFLOW_VAR": tmp_path}),
    ):
        Storage(Settings()).write(str(full / "map.tif"), bytes(10**6))
    assert list(full.iterdir()) == []


def test_folder_of_another_user_is_told(full: Path) -> None:
    var = full / "var"
    var.mkdir(mode=0o700)
    with (
        as_another_user(),
        pytest.raises(DiskError) as caught,
        disk_errors(lambda: {"TERRAFLOW_VAR": var}),
    ):
        (var / "file").read_text()
    assert str(caught.value) == (
        f"{var}/file can't be used: Permission denied, {var} belongs to root; change its owner or "
        "mode, or set TERRAFLOW_VAR to a folder of yours."
    )


@pytest.mark.parametrize("write", WRITERS)
def test_var_of_another_user_is_told(full: Path, write: Callable[[Path], None]) -> None:
    with (
        as_another_user(),
        pytest.raises(DiskError) as caught,
        disk_errors(lambda: {"TERRAFLOW_VAR": full}),
    ):
        write(full)
    assert "change its owner or mode" in str(caught.value)


@pytest.mark.parametrize(
    ("act", "told"),
    [
        (lambda f: (f / "folder").write_text(""), "is a folder where a file is expected"),
        (lambda f: (f / "file" / "x").write_text(""), "a file where a folder is expected"),
        (lambda f: (f / "file").mkdir(), "a file is where a folder is expected"),
    ],
)
def test_path_of_another_kind_is_told(
    tmp_path: Path, act: Callable[[Path], object], told: str
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(DiskError, match=told), disk_errors(lambda: {"TERRAFLOW_VAR": tmp_path}):
        act(tmp_path)


def test_var_that_is_a_file_is_told(tmp_path: Path) -> None:
    var = tmp_path / "var"
    var.touch()
    told = str(disk_problem(StorageError("A copy can't be written."), {"TERRAFLOW_VAR": var}))
    assert told == f"{var} is no folder; move it away, or set TERRAFLOW_VAR to another."


def test_errors_of_other_kinds_pass(tmp_path: Path) -> None:
    for error in (ConnectionRefusedError(111, "refused"), KeyError("x"), OSError("odd")):
        with pytest.raises(type(error)), disk_errors(lambda: {"TERRAFLOW_VAR": tmp_path}):
            raise error
