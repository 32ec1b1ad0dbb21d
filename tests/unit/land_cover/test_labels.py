from __future__ import annotations

from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
from odc.geo.geobox import GeoBox

from area import TRANSFORM, write_labels
from land_cover.config import Labels
from land_cover.labels import burn_labels
from terraflow.errors import DataError
from terraflow.storage import Storage

GRID = GeoBox((16, 16), TRANSFORM, "EPSG:32633")
KIND = Labels(class_field="kind")


def test_burn_labels_takes_the_polygon_at_the_pixels_centre(
    storage: Storage, tmp_path: Path
) -> None:
    burnt = burn_labels(str(write_labels(tmp_path / "l.gpkg")), KIND, GRID, storage)
    assert burnt.names == ["forest", "water"]
    assert (burnt.numbers[:, :8] == 2).all()
    assert (burnt.numbers[:, 8:] == 1).all()


def test_burn_labels_in_another_crs_is_reprojected(storage: Storage, tmp_path: Path) -> None:
    frame = gpd.read_file(write_labels(tmp_path / "l.gpkg")).to_crs("EPSG:4326")
    frame.to_file(tmp_path / "degrees.gpkg")
    burnt = burn_labels(str(tmp_path / "degrees.gpkg"), KIND, GRID, storage)
    assert np.isin(burnt.numbers, (1, 2)).mean() > 0.98


def test_burn_labels_renames_and_leaves_out(storage: Storage, tmp_path: Path) -> None:
    labels = Labels(class_field="kind", classes={"forest": "trees"})
    burnt = burn_labels(str(write_labels(tmp_path / "l.gpkg")), labels, GRID, storage)
    assert burnt.names == ["trees"]
    assert (burnt.numbers[:, :8] == 0).all()


@pytest.mark.parametrize("values", [[2, 4], [2.0, 4.0]])
def test_burn_labels_numbers_match_as_text(
    values: list[float], storage: Storage, tmp_path: Path
) -> None:
    frame = gpd.read_file(write_labels(tmp_path / "l.gpkg"))
    frame.assign(code=values).to_file(tmp_path / "n.gpkg")
    labels = Labels(class_field="code", classes={"2": "a", "4": "b"})
    assert burn_labels(str(tmp_path / "n.gpkg"), labels, GRID, storage).names == ["a", "b"]


def test_burn_labels_without_a_class_are_left_out(storage: Storage, tmp_path: Path) -> None:
    frame = gpd.read_file(write_labels(tmp_path / "l.gpkg"))
    frame.assign(kind=["water", None]).to_file(tmp_path / "n.gpkg")
    assert burn_labels(str(tmp_path / "n.gpkg"), KIND, GRID, storage).names == ["water"]


def test_burn_labels_too_many_classes_are_refused(storage: Storage, tmp_path: Path) -> None:
    frame = gpd.read_file(write_labels(tmp_path / "l.gpkg"))
    many = gpd.GeoDataFrame({"kind": range(300)}, geometry=[frame.geometry[0]] * 300, crs=frame.crs)
    many.to_file(tmp_path / "many.gpkg")
    with pytest.raises(DataError, match="300 classes in 'kind', more than 255"):
        burn_labels(str(tmp_path / "many.gpkg"), KIND, GRID, storage)


def test_burn_labels_outside_gives_both_extents(storage: Storage, tmp_path: Path) -> None:
    path = write_labels(tmp_path / "l.gpkg", xoff=1000)
    with pytest.raises(DataError, match=r"labels span 501000, .* images 500000, .* in EPSG:32633"):
        burn_labels(str(path), KIND, GRID, storage)


def test_burn_labels_without_crs_is_refused(storage: Storage, tmp_path: Path) -> None:
    path = write_labels(tmp_path / "l.gpkg", crs=None)
    with pytest.raises(DataError, match="has no CRS"):
        burn_labels(str(path), KIND, GRID, storage)


def test_burn_labels_unknown_field_lists_the_fields(storage: Storage, tmp_path: Path) -> None:
    path = write_labels(tmp_path / "l.gpkg")
    with pytest.raises(DataError, match=r"no field 'sort'; it has kind, geometry"):
        burn_labels(str(path), Labels(class_field="sort"), GRID, storage)


def test_burn_labels_missing_file_is_named(storage: Storage) -> None:
    with pytest.raises(DataError, match=r"nowhere\.gpkg do not exist"):
        burn_labels("/nowhere.gpkg", KIND, GRID, storage)


def test_burn_labels_no_vector_file_is_refused(storage: Storage, tmp_path: Path) -> None:
    (tmp_path / "l.gpkg").write_text("no polygons")
    with pytest.raises(DataError, match="expected polygons in a format OGR reads"):
        burn_labels(str(tmp_path / "l.gpkg"), KIND, GRID, storage)
