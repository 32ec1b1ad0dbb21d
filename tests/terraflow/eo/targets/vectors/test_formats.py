from __future__ import annotations

import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import geopandas as gpd
import pandas as pd
import pyogrio
import pytest
from odc.geo.geobox import GeoBox
from shapely.geometry import Point, box

from area import CRS, TRANSFORM
from http_server import HttpServer
from terraflow.eo.config.labels import Labels
from terraflow.eo.targets.vectors.files import on_grid_crs, read_frame
from terraflow.eo.targets.vectors.points import to_points
from terraflow.errors import DataError
from terraflow.storage import Storage

SHAPES = [box(500_000, 5_099_900, 500_010, 5_099_910), box(500_020, 5_099_900, 500_030, 5_099_910)]
NAMES = ["Wälder", "b"]
FRAME = gpd.GeoDataFrame({"kind": NAMES}, geometry=SHAPES, crs=CRS)


def plain(frame: gpd.GeoDataFrame) -> pd.DataFrame:
    return pd.DataFrame({"lon": [14.5, 14.6], "lat": [46.0, 46.1], "kind": frame["kind"]})


WRITERS: dict[str, Callable[[Path], None]] = {
    "l.parquet": FRAME.to_parquet,
    "l.geoparquet": FRAME.to_parquet,
    "l.feather": FRAME.to_feather,
    "l.fgb": FRAME.to_file,
    "l.gml": lambda path: FRAME.to_file(path, driver="GML"),
    "l.geojson": FRAME.to_file,
    "l.geojsonl": lambda path: FRAME.to_crs("EPSG:4326").to_file(path, driver="GeoJSONSeq"),
    "l.kml": lambda path: (
        FRAME.rename(columns={"kind": "Name"}).to_crs("EPSG:4326").to_file(path, driver="KML")
    ),
    "points.parquet": lambda path: plain(FRAME).to_parquet(path),
    "points.feather": lambda path: plain(FRAME).to_feather(path),
    "points.xlsx": lambda path: pyogrio.write_dataframe(plain(FRAME), path, driver="XLSX"),
    "texts.xlsx": lambda path: pyogrio.write_dataframe(
        plain(FRAME).astype("str"), path, driver="XLSX"
    ),
    "points.ods": lambda path: pyogrio.write_dataframe(plain(FRAME), path, driver="ODS"),
    "wkt.csv": lambda path: pd.DataFrame(FRAME).to_csv(path, index=False),
    "wkb.parquet": lambda path: pd.DataFrame(FRAME.to_wkb()).to_parquet(path),
}


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("remote", [False, True], ids=["local", "remote"])
def test_each_format_is_read(
    name: str, remote: bool, tmp_path: Path, storage: Storage, server: HttpServer
) -> None:
    folder = tmp_path / "area"
    WRITERS[name](folder / name)
    uri = f"{server.url}/{name}" if remote else str(folder / name)
    frame = read_frame(uri, storage)
    field = "Name" if name.endswith("kml") else "kind"
    assert sorted(frame[field]) == sorted(NAMES)  # FlatGeobuf sorts them by place
    crs = CRS if name.startswith("wk") else None
    labels = Labels(field=field, crs=crs)
    found = on_grid_crs(frame, uri, labels, GeoBox((16, 16), TRANSFORM, CRS))
    assert found.crs == CRS
    if isinstance(frame, gpd.GeoDataFrame):
        assert found.total_bounds == pytest.approx(FRAME.total_bounds, abs=0.01)


def test_parts_of_a_parquet_are_one(tmp_path: Path, storage: Storage) -> None:
    folder = tmp_path / "labels.parquet"
    folder.mkdir()
    for i in range(2):
        FRAME.iloc[[i]].to_parquet(folder / f"part-{i}.parquet")
    assert read_frame(str(folder), storage)["kind"].tolist() == NAMES


@pytest.mark.parametrize("ending", ["duckdb", "xls", "parquet", "rar", "zip"])
def test_unknown_format_names_those_that_are_read(
    ending: str, tmp_path: Path, storage: Storage
) -> None:
    path = tmp_path / f"labels.{ending}"
    path.write_bytes(b"\x00nothing that is known")
    with pytest.raises(DataError) as found:
        read_frame(str(path), storage)
    assert "in no known format, as GeoPackage, Shapefile" in str(found.value)
    assert "GeoParquet" in str(found.value)
    assert "lib" not in str(found.value)


def write_shapefile(folder: Path, encoding: str, cpg: str | None, *, zipped: bool) -> Path:
    (folder / "parts").mkdir()
    FRAME.to_file(folder / "parts" / "l.shp", encoding=encoding)
    (folder / "parts" / "l.cpg").unlink()
    if cpg:
        (folder / "parts" / "l.cpg").write_text(cpg)
    if not zipped:
        return folder / "parts" / "l.shp"
    return Path(shutil.make_archive(str(folder / "l"), "zip", folder / "parts"))


@pytest.mark.parametrize("zipped", [False, True], ids=["plain", "zipped"])
@pytest.mark.parametrize(
    ("encoding", "cpg"),
    [
        ("UTF-8", None),
        ("UTF-8", "UTF-8"),
        ("ISO-8859-1", None),
        ("ISO-8859-1", "ISO-8859-1"),
        ("CP1250", "1250"),
    ],
)
def test_texts_of_shapefiles(
    encoding: str, cpg: str | None, zipped: bool, tmp_path: Path, storage: Storage
) -> None:
    path = write_shapefile(tmp_path, encoding, cpg, zipped=zipped)
    assert read_frame(str(path), storage)["kind"].tolist() == NAMES


def test_wrong_cpg_is_told_and_its_remedy_helps(tmp_path: Path, storage: Storage) -> None:
    path = write_shapefile(tmp_path, "ISO-8859-1", "UTF-8", zipped=False)
    with pytest.raises(DataError, match=r"encoding that its \.cpg file tells; .*ISO-8859-1"):
        read_frame(str(path), storage)
    path.with_suffix(".cpg").write_text("ISO-8859-1")
    assert read_frame(str(path), storage)["kind"].tolist() == NAMES


def test_shapefile_without_its_other_files(tmp_path: Path, storage: Storage) -> None:
    path = write_shapefile(tmp_path, "UTF-8", None, zipped=False)
    index = path.with_suffix(".shx").read_bytes()
    path.with_suffix(".shx").unlink()
    with pytest.raises(DataError, match=r"several files of one name, and \.shx is not there"):
        read_frame(str(path), storage)
    path.with_suffix(".shx").write_bytes(index)
    assert len(read_frame(str(path), storage)) == 2


def test_remote_shapefile_comes_with_its_other_files(
    tmp_path: Path, storage: Storage, server: HttpServer
) -> None:
    FRAME.to_file(tmp_path / "area" / "l.shp")
    frame = read_frame(f"{server.url}/l.shp", storage)
    assert frame["kind"].tolist() == NAMES
    assert frame.crs == CRS


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_table_that_is_not_in_utf_8(encoding: str, tmp_path: Path, storage: Storage) -> None:
    path = tmp_path / "points.csv"
    text = plain(FRAME).to_csv(index=False)
    path.write_bytes(text.encode(encoding))
    with pytest.raises(DataError, match="its texts are not in UTF-8; save it in UTF-8"):
        read_frame(str(path), storage)
    path.write_bytes(text.encode())
    assert read_frame(str(path), storage)["kind"].tolist() == NAMES


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("begin", ["", "\ufeff"], ids=["plain", "marked"])
def test_separators_and_byte_order_marks(
    separator: str, begin: str, tmp_path: Path, storage: Storage
) -> None:
    path = tmp_path / "points.csv"
    path.write_text(begin + plain(FRAME).to_csv(index=False, sep=separator))
    frame = read_frame(str(path), storage)
    assert list(frame.columns) == ["lon", "lat", "kind"]
    assert frame["kind"].tolist() == NAMES


def test_encrypted_and_damaged_zips(tmp_path: Path, storage: Storage) -> None:
    path = tmp_path / "labels.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.csv", "lon,lat\n14,46\n")
    whole = path.read_bytes()
    for offset in (6, whole.index(b"PK\x01\x02") + 8):  # the flag of encryption
        whole = whole[:offset] + b"\x01" + whole[offset + 1 :]
    path.write_bytes(whole)
    with pytest.raises(DataError, match="is encrypted; unpack it, and name the folder"):
        read_frame(str(path), storage)
    FRAME.to_file(tmp_path / "l.gpkg")
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(tmp_path / "l.gpkg", "l.gpkg")
    whole = path.read_bytes()
    path.write_bytes(whole[:200] + b"damaged" + whole[207:])
    with pytest.raises(DataError, match="can't be read: Bad CRC-32"):
        read_frame(str(path), storage)


def test_rings_that_are_not_closed_are_closed(
    tmp_path: Path, storage: Storage, recwarn: pytest.WarningsRecorder
) -> None:
    path = tmp_path / "labels.geojson"
    path.write_text(
        '{"type": "FeatureCollection", "features": [{"type": "Feature", "properties": '
        '{"kind": "a"}, "geometry": {"type": "Polygon", "coordinates": '
        "[[[14, 46], [15, 46], [15, 47], [14, 47]]]}}]}"
    )
    frame = read_frame(str(path), storage)
    assert frame.geometry.iloc[0].area == 1
    assert not recwarn.list


def test_rows_that_are_no_wkt_are_told(tmp_path: Path, storage: Storage) -> None:
    path = tmp_path / "labels.csv"
    path.write_text('WKT,kind\n"POINT (14 46)",a\nrubbish,b\n')
    with pytest.raises(DataError, match="rows hold 'rubbish' or the like in place of a geometry"):
        read_frame(str(path), storage)


def test_points_of_wkt_with_srid(tmp_path: Path, storage: Storage) -> None:
    table = pd.DataFrame({"geom": ["SRID=4326;POINT (14 46)", ""], "kind": ["a", "b"]})
    found = to_points(table, "t.csv", None)
    assert found.geometry.tolist() == [Point(14, 46), None]
    with pytest.raises(DataError, match="holds in its column geom what is no geometry"):
        to_points(table.assign(geom="rubbish"), "t.csv", None)
