from __future__ import annotations

from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
from odc.geo.geobox import GeoBox
from shapely.geometry import Point

from area import TRANSFORM, write_labels, write_raster
from terraflow.eo.config.labels import Labels
from terraflow.eo.targets.classes.labels.polygons import VectorLabels
from terraflow.eo.targets.classes.labels.raster import RasterLabels
from terraflow.eo.targets.classes.labels.read import read_labels
from terraflow.errors import DataError
from terraflow.storage import Storage

GRID = GeoBox((16, 16), TRANSFORM, "EPSG:32633")
KIND = Labels(field="kind")


def burn(labels: VectorLabels | RasterLabels) -> np.ndarray:
    numbers = labels.burn(GRID)[0]
    assert isinstance(numbers, np.ma.MaskedArray)  # comparisons leave what is masked out
    return numbers.filled(0)


def test_read_labels_takes_the_polygon_at_the_pixels_centre(
    storage: Storage, tmp_path: Path
) -> None:
    burnt = read_labels(str(write_labels(tmp_path / "l.gpkg")), KIND, GRID, storage)
    assert burnt.names == ["forest", "water"]
    assert (burn(burnt)[:, :8] == 2).all()
    assert (burn(burnt)[:, 8:] == 1).all()


def test_read_labels_in_another_crs_is_reprojected(storage: Storage, tmp_path: Path) -> None:
    frame = gpd.read_file(write_labels(tmp_path / "l.gpkg")).to_crs("EPSG:4326")
    frame.to_file(tmp_path / "degrees.gpkg")
    burnt = read_labels(str(tmp_path / "degrees.gpkg"), KIND, GRID, storage)
    assert np.isin(burn(burnt), (1, 2)).mean() > 0.98


def test_read_labels_renames_and_leaves_out(storage: Storage, tmp_path: Path) -> None:
    labels = Labels(field="kind", classes={"forest": "trees"})
    burnt = read_labels(str(write_labels(tmp_path / "l.gpkg")), labels, GRID, storage)
    assert burnt.names == ["trees"]
    assert (burn(burnt)[:, :8] == 0).all()


@pytest.mark.parametrize("values", [[2, 4], [2.0, 4.0]])
def test_read_labels_numbers_match_as_text(
    values: list[float], storage: Storage, tmp_path: Path
) -> None:
    frame = gpd.read_file(write_labels(tmp_path / "l.gpkg"))
    frame.assign(code=values).to_file(tmp_path / "n.gpkg")
    labels = Labels(field="code", classes={"2": "a", "4": "b"})
    assert read_labels(str(tmp_path / "n.gpkg"), labels, GRID, storage).names == ["a", "b"]


def test_read_labels_without_a_class_are_left_out(storage: Storage, tmp_path: Path) -> None:
    frame = gpd.read_file(write_labels(tmp_path / "l.gpkg"))
    frame.assign(kind=["water", None]).to_file(tmp_path / "n.gpkg")
    assert read_labels(str(tmp_path / "n.gpkg"), KIND, GRID, storage).names == ["water"]


def test_read_labels_too_many_classes_are_refused(storage: Storage, tmp_path: Path) -> None:
    frame = gpd.read_file(write_labels(tmp_path / "l.gpkg"))
    many = gpd.GeoDataFrame({"kind": range(300)}, geometry=[frame.geometry[0]] * 300, crs=frame.crs)
    many.to_file(tmp_path / "many.gpkg")
    with pytest.raises(DataError, match="300 classes, more than 255"):
        read_labels(str(tmp_path / "many.gpkg"), KIND, GRID, storage)


def test_read_labels_outside_gives_both_extents(storage: Storage, tmp_path: Path) -> None:
    path = write_labels(tmp_path / "l.gpkg", xoff=1000)
    with pytest.raises(DataError, match=r"labels span 501000, .* images 500000, .* in EPSG:32633"):
        read_labels(str(path), KIND, GRID, storage)


def test_read_labels_without_crs_is_refused(storage: Storage, tmp_path: Path) -> None:
    path = write_labels(tmp_path / "l.gpkg", crs=None)
    with pytest.raises(DataError, match="has no CRS"):
        read_labels(str(path), KIND, GRID, storage)


def test_read_labels_unknown_field_lists_the_fields(storage: Storage, tmp_path: Path) -> None:
    path = write_labels(tmp_path / "l.gpkg")
    with pytest.raises(DataError, match=r"no field 'sort'; it has kind, geometry; correct"):
        read_labels(str(path), Labels(field="sort"), GRID, storage)


def test_read_labels_missing_file_is_named(storage: Storage) -> None:
    with pytest.raises(DataError, match=r"nowhere\.gpkg do not exist"):
        read_labels("/nowhere.gpkg", KIND, GRID, storage)


def test_read_labels_no_vector_file_is_refused(storage: Storage, tmp_path: Path) -> None:
    (tmp_path / "l.gpkg").write_text("no polygons")
    with pytest.raises(DataError, match="expected polygons or points in a format OGR reads"):
        read_labels(str(tmp_path / "l.gpkg"), KIND, GRID, storage)


def test_read_labels_points_take_their_pixel_and_no_polygon(
    storage: Storage, tmp_path: Path
) -> None:
    points = [Point(500_005, 5_099_995), Point(500_155, 5_099_845)]
    frame = gpd.GeoDataFrame({"kind": ["b", "a"]}, geometry=points, crs="EPSG:32633")
    frame.to_file(tmp_path / "points.geojson")
    labels = read_labels(str(tmp_path / "points.geojson"), KIND, GRID, storage)
    numbers, polygons = burn(labels), labels.burn(GRID)[1]
    assert numbers[0, 0] == 2
    assert numbers[15, 15] == 1
    assert (numbers > 0).sum() == 2
    assert (polygons == -1).all()


def test_read_labels_shrunk_polygons_lose_their_edge(storage: Storage, tmp_path: Path) -> None:
    path = str(write_labels(tmp_path / "l.gpkg"))
    numbers = burn(read_labels(path, Labels(field="kind", shrink=10), GRID, storage))
    assert (numbers[[0, 15]] == 0).all()
    assert (numbers[:, [0, 7, 8, 15]] == 0).all()
    assert (numbers > 0).sum() == 14 * 6 * 2


def test_read_labels_shrunk_to_nothing_is_refused(storage: Storage, tmp_path: Path) -> None:
    path = str(write_labels(tmp_path / "l.gpkg"))
    with pytest.raises(DataError, match=r"No polygon of .* is left when shrunk by 50"):
        read_labels(path, Labels(field="kind", shrink=50), GRID, storage)


def test_read_labels_raster_is_read_by_class_number(storage: Storage, tmp_path: Path) -> None:
    values = np.zeros((16, 16), "uint8")
    values[:4], values[4:8], values[8:12] = 2, 4, 7
    write_raster(tmp_path / "classes.tif", values, 0)
    labels = Labels(classes={"2": "forest", "7": "forest", "4": "water"})
    read = read_labels(str(tmp_path / "classes.tif"), labels, GRID, storage)
    assert read.names == ["forest", "water"]
    assert burn(read)[:, 0].tolist() == [1] * 4 + [2] * 4 + [1] * 4 + [0] * 4


def test_read_labels_raster_of_fractions_is_refused(storage: Storage, tmp_path: Path) -> None:
    write_raster(tmp_path / "ndvi.tif", np.full((16, 16), 0.5, "float32"))
    with pytest.raises(DataError, match=r"holds 0\.5, which is no class number"):
        read_labels(str(tmp_path / "ndvi.tif"), Labels(), GRID, storage)


def test_read_labels_a_window_gets_the_same_polygons_as_the_whole(
    storage: Storage, tmp_path: Path
) -> None:
    labels = read_labels(str(write_labels(tmp_path / "l.gpkg")), KIND, GRID, storage)
    whole = labels.burn(GRID)
    part = labels.burn(GRID[4:10, 6:12])
    for all_, some in zip(whole, part, strict=True):
        assert np.array_equal(np.ma.filled(all_[4:10, 6:12], 0), np.ma.filled(some, 0))
    assert not np.ma.getmaskarray(part[0]).any()


def test_read_labels_raster_without_crs_is_refused(storage: Storage, tmp_path: Path) -> None:
    write_raster(tmp_path / "classes.tif", np.ones((16, 16), "uint8"), crs=None)
    with pytest.raises(DataError, match=r"classes\.tif has no CRS"):
        read_labels(str(tmp_path / "classes.tif"), Labels(), GRID, storage)


def test_read_labels_raster_without_nodata_ends_at_its_edge(
    storage: Storage, tmp_path: Path
) -> None:
    write_raster(tmp_path / "classes.tif", np.array([[0, 0], [1, 1]], "uint8"))
    classes = {"0": "bare", "1": "crop"}
    labels = read_labels(str(tmp_path / "classes.tif"), Labels(classes=classes), GRID, storage)
    numbers = burn(labels)
    assert labels.names == ["bare", "crop"]
    assert numbers[:2, :2].tolist() == [[1, 1], [2, 2]]
    assert (numbers > 0).sum() == 4


def test_read_labels_table_without_geometries_is_refused(storage: Storage, tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_text("kind,area\nforest,1\n")
    with pytest.raises(DataError, match=r"l\.csv has no geometries, only kind, area"):
        read_labels(str(tmp_path / "l.csv"), KIND, GRID, storage)


def test_read_labels_classes_that_are_not_there_list_what_is(
    storage: Storage, tmp_path: Path
) -> None:
    labels = Labels(field="kind", classes={"1": "trees"})
    with pytest.raises(DataError, match=r"kind holds forest, water, \[labels\] classes lists 1;"):
        read_labels(str(write_labels(tmp_path / "l.gpkg")), labels, GRID, storage)


def test_read_labels_empty_class_is_none(storage: Storage, tmp_path: Path) -> None:
    frame = gpd.read_file(write_labels(tmp_path / "l.gpkg"))
    frame.assign(kind=["water", ""]).to_file(tmp_path / "n.gpkg")
    assert read_labels(str(tmp_path / "n.gpkg"), KIND, GRID, storage).names == ["water"]


@pytest.mark.parametrize("kind", ["polygons", "raster"])
def test_burn_masks_exactly_what_has_no_class(kind: str, storage: Storage, tmp_path: Path) -> None:
    values = np.full((16, 16), 7, "uint8")
    values[:, :8] = 3
    write_raster(tmp_path / "classes.tif", values)
    files = {"polygons": write_labels(tmp_path / "l.gpkg"), "raster": tmp_path / "classes.tif"}
    classes = {"polygons": {"water": "water"}, "raster": {"3": "water"}}[kind]
    labels = read_labels(str(files[kind]), Labels(field="kind", classes=classes), GRID, storage)
    numbers, _ = labels.burn(GRID)
    assert np.ma.getmaskarray(numbers)[:, 8:].all()
    assert not np.ma.getmaskarray(numbers)[:, :8].any()
    assert set(labels.decode(numbers.compressed())) == {"water"}
