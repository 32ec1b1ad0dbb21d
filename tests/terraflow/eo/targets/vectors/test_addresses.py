from __future__ import annotations

import zipfile
from pathlib import Path
from urllib.parse import quote

import geopandas as gpd
import numpy as np
import pytest
from shapely.geometry import box

from area import CRS, write_raster
from http_server import HttpServer
from terraflow.eo.config.project_file import load_config
from terraflow.eo.targets.vectors.files import is_raster, read_areas, read_frame
from terraflow.errors import DataError, StorageError
from terraflow.storage import Storage

FRAME = gpd.GeoDataFrame(
    {"kind": ["a"]}, geometry=[box(500_000, 5_099_900, 500_010, 5_099_910)], crs=CRS
)
NAMES = [
    "tiles [2024]",
    "50% *",
    "100%41",
    "a#b?c",
    "{x} & 'y'",
    "Št. Vid é",
    "a;b:c,d=e+f@g",
    "my.zip",
    "my.zip!x",
    "a!b",
    "file:x",
    "~x",
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("ending", ["gpkg", "shp", "parquet", "csv"])
def test_names_with_signs(name: str, ending: str, tmp_path: Path, storage: Storage) -> None:
    folder = tmp_path / name
    folder.mkdir()
    path = folder / f"{name}.{ending}"
    if ending == "parquet":
        FRAME.to_parquet(path)
    elif ending == "csv":
        path.write_text("lon,lat,kind\n14,46,a\n")
    else:
        FRAME.to_file(tmp_path / f"l.{ending}")
        for part in tmp_path.glob("l.*"):
            part.rename(path.with_suffix(part.suffix))
    for uri in (str(path), path.as_uri(), f"file://localhost{quote(str(path))}"):
        assert not is_raster(uri, storage)
        assert read_frame(uri, storage)["kind"].tolist() == ["a"]
    if ending != "csv":
        assert len(read_areas(path.as_uri(), "", storage)) == 1


@pytest.mark.parametrize("name", NAMES)
def test_rasters_with_signs(name: str, tmp_path: Path, storage: Storage) -> None:
    path = tmp_path / name / f"{name}.tif"
    write_raster(path, np.ones((4, 4), "uint8"))
    assert is_raster(str(path), storage)
    assert is_raster(path.as_uri(), storage)


@pytest.mark.parametrize("name", NAMES)
def test_configured_file_uri_is_a_path(name: str, tmp_path: Path) -> None:
    path = tmp_path / name / "l.gpkg"
    config = tmp_path / "project.toml"
    config.write_text(
        f'[data]\nbands = {{ red = "B04" }}\narea = "{path.as_uri()}"\n[labels]\n'
        f'source = "{path.as_uri()}"\n[map]\nareas = "{path.as_uri()}"\n'
        f'[features.layers]\nheight = "{path.as_uri()}"\n'
    )
    found = load_config(config, project="land_cover")
    for address in (
        found.labels.source,
        found.map.areas,
        found.data.area,
        found.features.layers["height"].path,
    ):
        assert address == str(path)


@pytest.mark.parametrize("name", ["tiles [2024]", "50% *", "a#b", "é b", "a+b&c=d"])
@pytest.mark.parametrize("ending", ["gpkg", "csv", "parquet", "shp"])
def test_remote_names_with_signs(
    name: str, ending: str, tmp_path: Path, storage: Storage, server: HttpServer
) -> None:
    folder = tmp_path / "area" / name
    folder.mkdir()
    path = folder / f"{name}.{ending}"
    if ending == "parquet":
        FRAME.to_parquet(path)
    elif ending == "csv":
        path.write_text("lon,lat,kind\n14,46,a\n")
    else:
        FRAME.to_file(path)
    uri = f"{server.url}/{quote(name)}/{quote(path.name)}"
    assert not is_raster(uri, storage)
    assert read_frame(uri, storage)["kind"].tolist() == ["a"]


def test_address_with_a_query_is_read(tmp_path: Path, storage: Storage, server: HttpServer) -> None:
    (tmp_path / "area" / "l.csv").write_text("lon,lat,kind\n14,46,a\n")
    uri = f"{server.url}/l.csv?version=2%2F3/4"
    assert read_frame(uri, storage)["kind"].tolist() == ["a"]


def test_what_is_not_there_tells_what_is(tmp_path: Path, storage: Storage) -> None:
    FRAME.to_file(tmp_path / "labels.gpkg")
    (tmp_path / "notes.txt").write_text("nothing")
    wrong = str(tmp_path / "labels.geojson")
    for look in (is_raster, read_frame):
        with pytest.raises(DataError) as found:
            look(wrong, storage)
        said = str(found.value)
        assert said.startswith(f"Labels {wrong} do not exist, and the folder {tmp_path} holds ")
        assert "labels.gpkg" in said
        assert "notes.txt" not in said
        assert "[labels] source" in said
    with pytest.raises(
        DataError, match=rf"folder {tmp_path}/no does not exist either; correct \[map\] are"
    ):
        read_areas(str(tmp_path / "no" / "areas.gpkg"), "", storage)
    with pytest.raises(DataError, match="holds nothing of a like name"):
        read_frame(str(tmp_path / "zzz"), storage)


def test_file_within_a_zip_is_named_by_layer(tmp_path: Path, storage: Storage) -> None:
    archive = tmp_path / "labels.zip"
    (tmp_path / "2024").mkdir()
    FRAME.to_file(tmp_path / "2024" / "fields.shp")
    with zipfile.ZipFile(archive, "w") as opened:
        for part in (tmp_path / "2024").iterdir():
            opened.write(part, f"2024/{part.name}")
    with pytest.raises(DataError) as found:
        read_frame(f"{archive}/2024/fields.shp", storage)
    said = str(found.value)
    assert f"name {archive} as [labels] source, and 2024/fields as [labels] layer" in said
    assert len(read_frame(str(archive), storage, "2024/fields")) == 1


def test_address_that_does_not_answer(tmp_path: Path, storage: Storage, server: HttpServer) -> None:
    with pytest.raises(StorageError, match=r"none\.gpkg does not exist"):
        read_frame(f"{server.url}/none.gpkg", storage)
