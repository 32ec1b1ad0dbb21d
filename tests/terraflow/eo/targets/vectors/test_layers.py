from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import geopandas as gpd
import pandas as pd
import pyogrio
import pytest
from shapely.geometry import LineString, box

from area import CRS
from terraflow.eo.targets.vectors.files import read_areas, read_frame
from terraflow.errors import DataError
from terraflow.storage import Storage

KML = """<kml xmlns="http://www.opengis.net/kml/2.2"><Document>{}</Document></kml>"""
FOLDER = """<Folder><name>{0}</name><Placemark><name>{0}</name><Point><coordinates>14,46
</coordinates></Point></Placemark></Folder>"""
GPX = """<gpx version="1.1" creator="x" xmlns="http://www.topografix.com/GPX/1/1">
<wpt lat="46" lon="14"><name>new</name></wpt><trk><trkseg><trkpt lat="46" lon="14"/>
<trkpt lat="46" lon="14.1"/></trkseg></trk></gpx>"""


def polygons(kind: str, count: int = 2, field: str = "kind") -> gpd.GeoDataFrame:
    shapes = [box(500_000 + 20 * i, 5_099_900, 500_010 + 20 * i, 5_099_910) for i in range(count)]
    return gpd.GeoDataFrame({field: [kind] * count}, geometry=shapes, crs=CRS)


def points_table(kind: str, count: int = 2) -> pd.DataFrame:
    return pd.DataFrame({"lon": [14.5] * count, "lat": [46.0] * count, "kind": [kind] * count})


def geopackage(folder: Path) -> Path:
    polygons("old").to_file(folder / "labels.gpkg", layer="old")
    polygons("new", 3).to_file(folder / "labels.gpkg", layer="new")
    return folder / "labels.gpkg"


def geodatabase(folder: Path) -> Path:
    path = folder / "labels.gdb"
    for name, count in (("old", 2), ("new", 3)):
        frame = polygons(name, count)
        frame.to_file(path, layer=name, driver="OpenFileGDB", mode="a" if path.exists() else "w")
    return path


def shapefiles(folder: Path) -> Path:
    path = folder / "shapes"
    path.mkdir()
    polygons("old").to_file(path / "old.shp")
    polygons("new", 3).to_file(path / "new.shp")
    (path / "readme.txt").write_text("two years")
    return path


def zipped(folder: Path) -> Path:
    """Shapefiles of one name in two folders, and what macOS and people add to a zip."""
    path = folder / "labels.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("old", "new"):
            (folder / name).mkdir()
            polygons(name).to_file(folder / name / "labels.shp")
            for part in (folder / name).iterdir():
                archive.write(part, f"deep/{name}/{part.name}")
        archive.writestr("__MACOSX/deep/._labels.shp", b"junk")
        archive.writestr("metadata.json", '{"by": "somebody"}')
        archive.writestr("legend.csv", "code,name\n1,water\n")
    return path


def kml(folder: Path) -> Path:
    path = folder / "labels.kml"
    path.write_text(KML.format(FOLDER.format("old") + FOLDER.format("new")))
    return path


def spreadsheet(folder: Path) -> Path:
    path = folder / "labels.xlsx"
    for name in ("old", "new"):
        pyogrio.write_dataframe(
            points_table(name), path, layer=name, driver="XLSX", append=path.exists()
        )
    return path


def tables(folder: Path) -> Path:
    """Tables without geometries: two of points, and one of something else."""
    path = folder / "tables.gpkg"
    for name in ("old", "new"):
        pyogrio.write_dataframe(points_table(name), path, layer=name, append=path.exists())
    pyogrio.write_dataframe(pd.DataFrame({"code": [1]}), path, layer="legend", append=True)
    return path


def gpx(folder: Path) -> Path:
    path = folder / "labels.gpx"
    path.write_text(GPX)
    return path


SEVERAL: dict[str, tuple[Callable[[Path], Path], str, str, str]] = {
    "GeoPackage": (geopackage, "new", "old (2 polygons; kind), new (3 polygons; kind)", "kind"),
    "geodatabase": (geodatabase, "new", "new (3 polygons; kind)", "kind"),
    "folder": (shapefiles, "new", "new (3 polygons; kind), old (2 polygons; kind)", "kind"),
    "zip": (zipped, "deep/new/labels", "deep/new/labels (2 polygons; kind)", "kind"),
    "KML": (kml, "new", "old (1 geometries; ", "Name"),
    "sheets": (spreadsheet, "new", "old (2 rows; lon, lat, kind)", "kind"),
    "tables": (tables, "new", "old (2 rows; lon, lat, kind)", "kind"),
    "GPX": (gpx, "waypoints", "waypoints (1 points; ", "name"),
}


@pytest.mark.parametrize("case", SEVERAL)
def test_one_of_several_is_asked_for(
    case: str, tmp_path: Path, storage: Storage, recwarn: pytest.WarningsRecorder
) -> None:
    make, layer, listed, field = SEVERAL[case]
    path = str(make(tmp_path))
    recwarn.clear()
    with pytest.raises(DataError) as found:
        read_frame(path, storage)
    said = str(found.value)
    assert "hold 2 layers, of which one is expected" in said
    assert listed in said
    assert "choose one by [labels] layer, as layer = " in said
    assert set(read_frame(path, storage, layer)[field]) == {"new"}
    assert not recwarn.list


@pytest.mark.parametrize("case", SEVERAL)
def test_layer_that_is_not_there_lists_those_that_are(
    case: str, tmp_path: Path, storage: Storage
) -> None:
    make, layer, listed, _ = SEVERAL[case]
    path = str(make(tmp_path))
    with pytest.raises(DataError) as found:
        read_frame(path, storage, f"{layer}s")
    said = str(found.value)
    assert f"have no layer '{layer}s' (did you mean {layer}?); expected one of" in said
    assert listed in said
    assert said.endswith("correct [labels] layer.")


def test_first_of_the_offered_layers_is_read(tmp_path: Path, storage: Storage) -> None:
    path = str(zipped(tmp_path))
    with pytest.raises(DataError) as found:
        read_frame(path, storage)
    layer = str(found.value).partition('layer = "')[2].partition('"')[0]
    assert len(read_frame(path, storage, layer)) == 2


def test_what_is_never_labels_is_no_choice(tmp_path: Path, storage: Storage) -> None:
    path = tmp_path / "labels.gpkg"
    polygons("new").to_file(path, layer="fields")
    style = pd.DataFrame({"f_table_name": ["fields"], "styleQML": ["<qgis/>"]})
    gpd.GeoDataFrame(style, geometry=[None], crs=CRS).to_file(path, layer="layer_styles")
    polygons("new").iloc[:0].to_file(path, layer="empty")
    roads = gpd.GeoDataFrame({"kind": ["road"]}, geometry=[LineString([(0, 0), (1, 1)])], crs=CRS)
    roads.to_file(path, layer="roads")
    legend = pd.DataFrame({"code": [1]})
    pyogrio.write_dataframe(legend, path, layer="legend", append=True)
    assert set(read_frame(str(path), storage)["kind"]) == {"new"}


def test_only_lines_and_tables_are_listed(tmp_path: Path, storage: Storage) -> None:
    path = tmp_path / "labels.gpkg"
    for name in ("roads", "rivers"):
        line = gpd.GeoDataFrame({"a": [1]}, geometry=[LineString([(0, 0), (1, 1)])], crs=CRS)
        line.to_file(path, layer=name)
    with pytest.raises(DataError, match=r"none with polygons or points: roads \(1 lines; a\)"):
        read_frame(str(path), storage)


def test_areas_have_a_key_of_their_own_and_are_no_points(tmp_path: Path, storage: Storage) -> None:
    path = geopackage(tmp_path)
    places = polygons("spot")
    places.set_geometry(places.centroid).to_file(path, layer="spots")
    with pytest.raises(
        DataError, match=r"hold 2 layers.*choose one by \[map\] areas_layer, as areas_"
    ):
        read_areas(str(path), "", storage)
    assert set(read_areas(str(path), "new", storage)["kind"]) == {"new"}


@pytest.mark.parametrize("name", ["labels.csv", "labels.parquet", "labels.shp"])
def test_one_table_answers_to_its_name(name: str, tmp_path: Path, storage: Storage) -> None:
    path, frame = tmp_path / name, polygons("new")
    if name.endswith("csv"):
        points_table("new").to_csv(path, index=False)
    elif name.endswith("parquet"):
        frame.to_parquet(path)
    else:
        frame.to_file(path)
    assert len(read_frame(str(path), storage, "labels")) == 2
    with pytest.raises(DataError, match="expected one of labels"):
        read_frame(str(path), storage, "others")


def test_geometry_columns_of_geoparquet(tmp_path: Path, storage: Storage) -> None:
    path, frame = tmp_path / "labels.parquet", polygons("new")
    frame["centre"] = frame.centroid
    frame.to_parquet(path)
    assert set(read_frame(str(path), storage).geom_type) == {"Polygon"}
    assert set(read_frame(str(path), storage, "centre").geom_type) == {"Point"}
    with pytest.raises(DataError, match=r"geometry \(2 polygons; kind\), centre \(2 points; kind"):
        read_frame(str(path), storage, "center")


def test_folder_without_vector_data_tells_what_it_holds(tmp_path: Path, storage: Storage) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "readme.txt").write_text("nothing")
    with pytest.raises(DataError, match=r"holds no file of vector data, only readme\.txt"):
        read_frame(str(tmp_path / "notes"), storage)


def test_damaged_file_of_a_folder_is_not_passed_over(tmp_path: Path, storage: Storage) -> None:
    path = shapefiles(tmp_path)
    (path / "new.shp").write_bytes(b"damaged")
    with pytest.raises(DataError, match="can't be read"):
        read_frame(str(path), storage)
