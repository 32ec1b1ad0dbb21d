from __future__ import annotations

import zipfile
from pathlib import Path

import geopandas as gpd
import pandas as pd
import pytest
from odc.geo.geobox import GeoBox
from shapely.geometry import box

from area import CRS, TRANSFORM
from terraflow.eo.config.labels import Labels
from terraflow.eo.targets.vectors.files import on_grid_crs, read_frame
from terraflow.errors import DataError
from terraflow.storage import Storage

GRID = GeoBox((16, 16), TRANSFORM, CRS)


def frame(*kinds: str) -> gpd.GeoDataFrame:
    x, y = 500_000, 5_100_000
    boxes = [box(x + 20 * i, y - 20, x + 20 * i + 20, y) for i in range(len(kinds))]
    return gpd.GeoDataFrame({"kind": list(kinds)}, geometry=boxes, crs=CRS)


def kinds(path: Path, storage: Storage, layer: str = "", **options: str) -> list[str]:
    read = read_frame(str(path), storage, layer=layer)
    return on_grid_crs(read, str(path), Labels(field="kind", **options), GRID)["kind"].tolist()


def test_several_layers_are_listed_with_fields_and_counts(tmp_path: Path, storage: Storage) -> None:
    path = tmp_path / "l.gpkg"
    frame("a").to_file(path, layer="old")
    frame("b", "c").assign(year=2024).to_file(path, layer="new")
    told = (
        r"l\.gpkg has 2 layers: old \(1 Polygon; fields kind\); new \(2 Polygon; fields kind, "
        r'year\); name the one that is meant, as in \[labels\] layer = "old"\.$'
    )
    with pytest.raises(DataError, match=told):
        kinds(path, storage)
    assert kinds(path, storage, "new") == ["b", "c"]
    with pytest.raises(DataError, match=r"no layer 'nwe', did you mean new\?|no layer 'nwe'"):
        kinds(path, storage, "nwe")


def test_empty_layers_and_tables_of_programs_are_no_choice(
    tmp_path: Path, storage: Storage, recwarn: pytest.WarningsRecorder
) -> None:
    path = tmp_path / "l.gpkg"
    frame("a")[:0].to_file(path, layer="empty")
    frame("a").to_file(path, layer="fields")
    gpd.GeoDataFrame({"styleName": ["s"]}, geometry=[None], crs=CRS).to_file(
        path, layer="layer_styles"
    )
    recwarn.clear()
    assert kinds(path, storage) == ["a"]
    assert not recwarn.list


def test_file_without_a_feature_is_told(tmp_path: Path, storage: Storage) -> None:
    frame("a")[:0].to_file(tmp_path / "l.gpkg", layer="empty")
    with pytest.raises(DataError, match="holds nothing: no feature is in any of its layers empty"):
        kinds(tmp_path / "l.gpkg", storage)


@pytest.mark.parametrize("folders", [("", ""), ("one/", "one/"), ("2019/", "2024/deep/")])
def test_shapefiles_in_any_folder_of_a_zip(
    folders: tuple[str, str], tmp_path: Path, storage: Storage
) -> None:
    archive = tmp_path / "l.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for folder, name in zip(folders, ("old", "new"), strict=True):
            frame(name).to_file(tmp_path / f"{name}.shp")
            for part in tmp_path.glob(f"{name}.*"):
                file.write(part, folder + part.name)
    with pytest.raises(DataError, match=r"has 2 layers: .*old.*new"):
        kinds(archive, storage)
    assert kinds(archive, storage, "new") == ["new"]


def test_layers_of_one_name_in_a_zip_are_told_apart(tmp_path: Path, storage: Storage) -> None:
    archive = tmp_path / "l.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for year in ("2019", "2024"):
            frame(year).to_file(tmp_path / "fields.geojson")
            file.write(tmp_path / "fields.geojson", f"{year}/fields.geojson")
    with pytest.raises(DataError, match=r'layer = "2019/fields\.geojson/fields"'):
        kinds(archive, storage)
    assert kinds(archive, storage, "2024/fields.geojson/fields") == ["2024"]


def test_folder_of_shapefiles(tmp_path: Path, storage: Storage) -> None:
    for name in ("old", "new"):
        frame(name).to_file(tmp_path / f"{name}.shp")
    with pytest.raises(DataError, match="has 2 layers"):
        kinds(tmp_path, storage)
    assert kinds(tmp_path, storage, "old") == ["old"]


def test_sheets_of_a_spreadsheet(tmp_path: Path, storage: Storage) -> None:
    path = tmp_path / "points.xlsx"
    for name in ("old", "new"):
        table = pd.DataFrame({"longitude": [15.0001], "latitude": [46.05], "kind": [name]})
        empty = gpd.GeoDataFrame(table, geometry=[None])
        empty.to_file(path, layer=name, driver="XLSX", mode="a" if path.exists() else "w")
    with pytest.raises(DataError, match=r"has 2 layers: old \(1 rows; fields longitude"):
        kinds(path, storage)
    assert kinds(path, storage, "new") == ["new"]


def test_geoparquet_and_parquet_of_points(tmp_path: Path, storage: Storage) -> None:
    frame("a", "b").to_parquet(tmp_path / "l.parquet")
    assert kinds(tmp_path / "l.parquet", storage) == ["a", "b"]
    uri = (tmp_path / "l.parquet").as_uri()
    assert read_frame(uri, storage)["kind"].tolist() == ["a", "b"]
    table = pd.DataFrame({"x": [500_005.0], "y": [5_099_995.0], "kind": ["c"]})
    table.to_parquet(tmp_path / "points.parquet")
    assert kinds(tmp_path / "points.parquet", storage, crs=CRS) == ["c"]
    (tmp_path / "no.parquet").write_text("no Parquet")
    with pytest.raises(DataError, match=r"can't be read as GeoParquet: .*; write it again"):
        kinds(tmp_path / "no.parquet", storage)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_table_however_it_is_separated_and_encoded(
    separator: str, encoding: str, tmp_path: Path, storage: Storage
) -> None:
    rows = [
        ("longitude", "latitude", "kind"),
        ("15.0001", "46.05", "Äcker"),
        ("15.0002", "46.0501", "b"),
    ]
    text = "\n".join(separator.join(row) for row in rows)
    (tmp_path / "points.csv").write_bytes(text.encode(encoding))
    assert kinds(tmp_path / "points.csv", storage) == ["Äcker", "b"]


def test_table_with_decimal_commas(tmp_path: Path, storage: Storage) -> None:
    (tmp_path / "points.csv").write_text(
        "longitude;latitude;kind\n15,0001;46,05;a\n15,0002;46,05;b"
    )
    assert kinds(tmp_path / "points.csv", storage) == ["a", "b"]


def test_table_of_well_known_text(tmp_path: Path, storage: Storage) -> None:
    path = tmp_path / "points.csv"
    path.write_text('WKT,kind\n"POINT (500005 5099995)",a\n"POLYGON ((0 0, 1 0, 1 1, 0 0))",b\n')
    assert kinds(path, storage, crs=CRS) == ["a", "b"]
    with pytest.raises(DataError, match=r"has no CRS; .* or set \[labels\] crs"):
        kinds(path, storage)
    path.write_text("wkt,kind\nnowhere,a\n")
    with pytest.raises(DataError, match="holds what is no geometry in wkt"):
        kinds(path, storage, crs=CRS)


def test_geojson_in_metres_is_not_placed_in_degrees(tmp_path: Path, storage: Storage) -> None:
    path = tmp_path / "l.geojson"
    frame("a").set_crs(None, allow_override=True).to_file(path)
    told = "holds coordinates as 500020, 5100000, which are no degrees, though its CRS is WGS 84"
    with pytest.raises(DataError, match=told):
        kinds(path, storage)
    placed = on_grid_crs(
        read_frame(str(path), storage), str(path), Labels(field="kind", crs=CRS), GRID
    )
    assert placed.total_bounds.tolist() == [500_000, 5_099_980, 500_020, 5_100_000]


LOCAL = 'LOCAL_CS["Site grid",UNIT["metre",1]]'


def test_local_crs_is_refused_and_replaced(tmp_path: Path, storage: Storage) -> None:
    path = tmp_path / "l.shp"
    frame("a").set_crs(LOCAL, allow_override=True).to_file(path)
    with pytest.raises(DataError, match=r"has a local CRS, 'Site.grid', which has no"):
        kinds(path, storage)
    assert kinds(path, storage, crs=CRS) == ["a"]


def test_crs_of_the_file_and_another_one_of_the_configuration(
    tmp_path: Path, storage: Storage
) -> None:
    frame("a").to_file(tmp_path / "l.gpkg")
    with pytest.raises(DataError, match=r"its CRS is WGS 84 / UTM zone 33N, and \[labels"):
        kinds(tmp_path / "l.gpkg", storage, crs="EPSG:32634")
    assert kinds(tmp_path / "l.gpkg", storage, crs="EPSG:32633") == ["a"]


def test_missing_file_tells_what_is_there(tmp_path: Path, storage: Storage) -> None:
    frame("a").to_file(tmp_path / "labels_2024.gpkg")
    for name, told in (
        ("labels_2023.gpkg", "did you mean labels_2024.gpkg"),
        ("x", "holds .*labels_2024"),
    ):
        with pytest.raises(DataError, match=told):
            read_frame(str(tmp_path / name), storage)
    with pytest.raises(DataError, match="there is no folder"):
        read_frame(str(tmp_path / "nowhere" / "x"), storage)


@pytest.mark.parametrize("name", ["a [2024].gpkg", "50 % b.gpkg", "c#d.gpkg", "e?f.gpkg", "ü.gpkg"])
def test_odd_names_of_files(name: str, tmp_path: Path, storage: Storage) -> None:
    path = tmp_path / name
    frame("a").to_file(path)
    assert kinds(path, storage) == ["a"]
    assert read_frame(path.as_uri(), storage)["kind"].tolist() == ["a"]
