from __future__ import annotations

from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely
from odc.geo.geobox import GeoBox
from shapely.geometry import Point, box

from area import CRS, TRANSFORM
from terraflow.eo.config.labels import Labels
from terraflow.eo.targets.vectors.files import on_grid_crs, read_areas, read_frame
from terraflow.errors import ConfigError, DataError
from terraflow.storage import Storage

GRID = GeoBox((16, 16), TRANSFORM, CRS)
SHAPES = [box(500_000, 5_099_900, 500_010, 5_099_910), box(500_020, 5_099_900, 500_030, 5_099_910)]
FRAME = gpd.GeoDataFrame({"kind": ["a", "b"]}, geometry=SHAPES, crs=CRS)
LOCAL = 'LOCAL_CS["Local Coordinates (m)",LOCAL_DATUM["Local Datum",0],UNIT["metre",1]]'
ENGINEERING = (
    'ENGCRS["site",EDATUM["site"],CS[Cartesian,2],AXIS["x",east],AXIS["y",north],'
    'LENGTHUNIT["metre",1]]'
)
VERTICAL = "EPSG:5773"
MOON = (
    'PROJCRS["Moon",BASEGEOGCRS["Moon 2000",DATUM["Moon",ELLIPSOID["Moon",1737400,0]]],'
    'CONVERSION["Eq",METHOD["Equidistant Cylindrical"]],CS[Cartesian,2],AXIS["x",east],'
    'AXIS["y",north],LENGTHUNIT["metre",1]]'
)


def read(path: Path, storage: Storage, crs: str | None = None) -> gpd.GeoDataFrame:
    labels = Labels(field="kind", crs=crs)
    return on_grid_crs(read_frame(str(path), storage), str(path), labels, GRID)


def as_it_is(frame: gpd.GeoDataFrame) -> None:
    assert frame.crs == CRS
    assert frame["kind"].tolist() == ["a", "b"]
    assert frame.total_bounds == pytest.approx(FRAME.total_bounds, abs=0.01)


def without_crs(frame: gpd.GeoDataFrame = FRAME) -> gpd.GeoDataFrame:
    return frame.set_crs(None, allow_override=True)


@pytest.mark.filterwarnings("ignore:'crs' was not provided")
@pytest.mark.parametrize("name", ["l.geojson", "l.geojsonl", "l.json"])
def test_geojson_in_metres_without_crs(name: str, tmp_path: Path, storage: Storage) -> None:
    path = tmp_path / name
    driver = "GeoJSONSeq" if name.endswith("l") else "GeoJSON"
    without_crs().to_file(path, driver=driver)
    with pytest.raises(DataError) as found:
        read(path, storage)
    said = str(found.value)
    assert "has coordinates as 500010, 5099900, which are no degrees, though GeoJSON" in said
    assert "set [labels] crs" in said
    as_it_is(read(path, storage, CRS))
    with pytest.raises(DataError, match=r"means these; correct \[labels\] crs"):
        read(path, storage, "EPSG:4258")


@pytest.mark.parametrize("name", ["l.gpkg", "l.parquet", "l.shp", "l.fgb"])
def test_metres_in_a_file_that_says_degrees(name: str, tmp_path: Path, storage: Storage) -> None:
    path, wrong = tmp_path / name, FRAME.set_crs("EPSG:4326", allow_override=True)
    wrong.to_parquet(path) if name.endswith("parquet") else wrong.to_file(path)
    with pytest.raises(DataError, match=r"no degrees, though EPSG:4326 means these; set"):
        read(path, storage)
    assert sorted(read(path, storage, CRS)["kind"]) == ["a", "b"]


def test_one_place_of_many_that_is_none(tmp_path: Path, storage: Storage) -> None:
    path, frame = tmp_path / "l.gpkg", FRAME.to_crs("EPSG:4326")
    frame.loc[1, "geometry"] = Point(14, 460)
    frame.to_file(path)
    with pytest.raises(DataError, match="coordinates as 14, 460, which are no degrees"):
        read(path, storage)


def test_longitudes_past_minus_180_are_degrees(tmp_path: Path, storage: Storage) -> None:
    frame = FRAME.to_crs("EPSG:4326")
    frame.geometry = frame.translate(-360)
    frame.to_file(tmp_path / "l.gpkg")
    as_it_is(read(tmp_path / "l.gpkg", storage))


def test_grads_are_no_degrees_beyond_100(tmp_path: Path, storage: Storage) -> None:
    """EPSG:4807 counts grads from Paris: 95 north is on the earth, 101 is not."""
    for latitude in (95, 101):
        frame = gpd.GeoDataFrame({"kind": ["a"]}, geometry=[Point(0, latitude)], crs="EPSG:4807")
        frame.to_parquet(tmp_path / f"{latitude}.parquet")
    with pytest.raises(DataError, match="as 0, 101, which are no degrees"):
        read(tmp_path / "101.parquet", storage)
    assert len(read(tmp_path / "95.parquet", storage)) == 1


@pytest.mark.parametrize("crs", [LOCAL, ENGINEERING])
@pytest.mark.parametrize("name", ["l.gpkg", "l.parquet", "l.shp"])
def test_local_crs(crs: str, name: str, tmp_path: Path, storage: Storage) -> None:
    path, frame = tmp_path / name, FRAME.set_crs(crs, allow_override=True)
    frame.to_parquet(path) if name.endswith("parquet") else frame.to_file(path)
    with pytest.raises(DataError, match=r"is in a local CRS, .* no place on the earth; set \[lab"):
        read(path, storage)
    as_it_is(read(path, storage, CRS))
    with pytest.raises(DataError, match=r"is in a local CRS, .* earth; write the right one into"):
        read_areas(str(path), "", storage)
    path.unlink()
    FRAME.to_parquet(path) if name.endswith("parquet") else FRAME.to_file(path)
    assert len(read_areas(str(path), "", storage)) == 2


@pytest.mark.parametrize("crs", [LOCAL, ENGINEERING, VERTICAL])
def test_labels_crs_that_has_no_place(crs: str, tmp_path: Path, storage: Storage) -> None:
    FRAME.to_file(tmp_path / "l.gpkg")
    with pytest.raises(ConfigError, match=r"\[labels\] crs .* is a local one"):
        read(tmp_path / "l.gpkg", storage, crs)


@pytest.mark.filterwarnings("ignore:'crs' was not provided")
@pytest.mark.parametrize("name", ["l.gpkg", "l.parquet", "l.shp"])
def test_no_crs(name: str, tmp_path: Path, storage: Storage) -> None:
    path, frame = tmp_path / name, without_crs()
    frame.to_parquet(path) if name.endswith("parquet") else frame.to_file(path)
    with pytest.raises(DataError, match=r"has no CRS; set \[labels\] crs"):
        read(path, storage)
    as_it_is(read(path, storage, CRS))


def test_crs_that_contradicts_the_file(tmp_path: Path, storage: Storage) -> None:
    path = tmp_path / "l.gpkg"
    FRAME.to_file(path)
    with pytest.raises(
        DataError, match=r"is in EPSG:32633, and \[labels\] crs says EPSG:32634; remove \[labels\]"
    ):
        read(path, storage, "EPSG:32634")
    as_it_is(read(path, storage))
    FRAME.set_crs("EPSG:32634", allow_override=True).to_file(path)
    FRAME.to_file(path)  # the other remedy: the right CRS in the file
    as_it_is(read(path, storage, CRS))


@pytest.mark.parametrize("crs", ["EPSG:25833", "EPSG:32633+5773", "+proj=utm +zone=33"])
def test_crs_of_the_same_places_is_no_contradiction(
    crs: str, tmp_path: Path, storage: Storage
) -> None:
    FRAME.to_file(tmp_path / "l.gpkg")
    as_it_is(read(tmp_path / "l.gpkg", storage, crs))


def test_crs_of_another_body(tmp_path: Path, storage: Storage) -> None:
    FRAME.set_crs(MOON, allow_override=True).to_parquet(tmp_path / "l.parquet")
    with pytest.raises(DataError, match="can't be brought from Moon to EPSG:32633"):
        read(tmp_path / "l.parquet", storage)


def test_wrong_zone_is_seen(tmp_path: Path, storage: Storage) -> None:
    path = tmp_path / "l.gpkg"
    FRAME.set_crs("EPSG:32634", allow_override=True).to_file(path)
    with pytest.raises(
        DataError, match="but they do where their coordinates are taken for EPSG:32633 in place of"
    ):
        read(path, storage)
    gpd.read_file(path).set_crs(CRS, allow_override=True).to_file(path)
    as_it_is(read(path, storage))


def test_degrees_in_a_file_that_says_metres(tmp_path: Path, storage: Storage) -> None:
    path = tmp_path / "l.gpkg"
    FRAME.to_crs("EPSG:4326").set_crs(CRS, allow_override=True).to_file(path)
    with pytest.raises(DataError, match=r"they do where .* EPSG:4326 in place of EPSG:32633"):
        read(path, storage)
    gpd.read_file(path).set_crs("EPSG:4326", allow_override=True).to_file(path)
    as_it_is(read(path, storage))


@pytest.mark.parametrize("crs", ["EPSG:4326", CRS])
def test_exchanged_coordinates_are_seen(crs: str, tmp_path: Path, storage: Storage) -> None:
    path, frame = tmp_path / "l.gpkg", FRAME.to_crs(crs)
    frame.geometry = shapely.transform(frame.geometry.array, lambda xy: xy[:, ::-1])
    frame.set_crs(crs, allow_override=True).to_file(path)
    with pytest.raises(DataError, match="they do where x and y are exchanged; exchange them"):
        read(path, storage)
    frame.geometry = shapely.transform(frame.geometry.array, lambda xy: xy[:, ::-1])
    frame.set_crs(crs, allow_override=True).to_file(path)
    as_it_is(read(path, storage))


def test_exchanged_columns_of_a_table_are_seen(tmp_path: Path, storage: Storage) -> None:
    path, places = tmp_path / "l.csv", FRAME.to_crs("EPSG:4326").representative_point()
    table = pd.DataFrame({"lat": places.x, "lon": places.y, "kind": FRAME["kind"]})
    table.to_csv(path, index=False)
    with pytest.raises(DataError, match=r"exchanged; .* or the names of a table's columns"):
        read(path, storage)
    table.rename(columns={"lat": "lon", "lon": "lat"}).to_csv(path, index=False)
    assert len(read(path, storage)) == 2


def test_what_lies_elsewhere_is_left_to_who_checks_it(tmp_path: Path, storage: Storage) -> None:
    frame = FRAME.set_geometry(FRAME.translate(90_000, 40_000))
    frame.to_file(tmp_path / "l.gpkg")
    assert len(read(tmp_path / "l.gpkg", storage)) == 2


def test_polygon_that_reaches_where_the_grid_s_crs_ends(tmp_path: Path, storage: Storage) -> None:
    """Of the northern hemisphere UTM has no place for the far side, but for the images."""
    path = tmp_path / "l.gpkg"
    half = gpd.GeoDataFrame({"kind": ["a"]}, geometry=[box(10, 40, 200, 60)], crs="EPSG:4326")
    far = shapely.segmentize(half.geometry.array, 1)
    half.set_geometry(far).to_file(path)
    found = read(path, storage)
    assert np.isfinite(found.total_bounds).all()
    assert found.intersects(box(*GRID.boundingbox.bbox)).all()
