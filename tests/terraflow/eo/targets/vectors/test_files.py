from __future__ import annotations

from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
from odc.geo.geobox import GeoBox
from rasterio.warp import transform
from shapely.geometry import Point

from area import CRS, TRANSFORM
from terraflow.eo.config.labels import Labels
from terraflow.eo.targets.classes.classification import Classification
from terraflow.eo.targets.numbers import Numbers
from terraflow.eo.targets.target import Target
from terraflow.eo.targets.vectors.files import read_frame
from terraflow.eo.targets.vectors.purpose import AREAS, LABELS, Purpose
from terraflow.errors import ConfigError, DataError
from terraflow.storage import Storage


def test_read_frame_by_path_and_by_uri(tmp_path: Path, storage: Storage) -> None:
    path = tmp_path / "points.gpkg"
    gpd.GeoDataFrame({"n": [1]}, geometry=[Point(1, 2)], crs="EPSG:4326").to_file(path)
    for uri in (str(path), path.as_uri()):
        assert read_frame(uri, storage)["n"].tolist() == [1]


@pytest.mark.parametrize(
    ("purpose", "sentence"),
    [
        (LABELS, r"Labels \S+ can't be read: .*; expected polygons or points .* GDAL reads\.$"),
        (AREAS, r"Areas \S+ can't be read: .*; expected polygons in a format OGR reads\.$"),
    ],
)
def test_what_can_not_be_read_is_told(
    purpose: Purpose, sentence: str, tmp_path: Path, storage: Storage
) -> None:
    path = tmp_path / "areas.gpkg"
    path.write_text("no geometries")
    with pytest.raises(DataError, match=sentence):
        read_frame(str(path), storage, purpose=purpose)


GRID = GeoBox((16, 16), TRANSFORM, CRS)
#: Centres of three pixels of the grid: column, row.
PIXELS = [(0, 0), (3, 5), (15, 15)]
X, Y = zip(*((500_005 + 10 * column, 5_099_995 - 10 * row) for column, row in PIXELS), strict=True)
LONGITUDE, LATITUDE = transform(CRS, "EPSG:4326", X, Y)


def write_table(
    path: Path, names: tuple[str, str], xs: object, ys: object, ending: str = ""
) -> str:
    rows = zip(xs, ys, "aba", (1.5, 2, 3.25), strict=True)  # type: ignore[call-overload]
    lines = [f"{names[0]},{names[1]},kind,height", *(",".join(map(str, row)) for row in rows)]
    path.write_text("\n".join([*lines, ending]).rstrip() + "\n")
    return str(path)


def burnt(path: str, labels: Labels, storage: Storage, target: Target | None = None) -> np.ndarray:
    """Give what each pixel's label is, by its decoded value."""
    source = (target or Classification()).read_labels(path, labels, GRID, storage)
    values, polygons = source.burn(GRID)
    assert (polygons == -1).all()
    known = ~np.ma.getmaskarray(values)
    assert known.sum() == len(PIXELS)
    rows, columns = zip(*((row, column) for column, row in PIXELS), strict=True)
    return source.decode(np.asarray(values)[rows, columns])


@pytest.mark.parametrize(
    "names",
    [("longitude", "latitude"), ("Longitude", "LATITUDE"), ("lon", "lat"), ("lng", "lat")],
)
def test_table_with_longitude_and_latitude_is_points_in_degrees(
    names: tuple[str, str], storage: Storage, tmp_path: Path
) -> None:
    path = write_table(tmp_path / "points.csv", names, LONGITUDE, LATITUDE)
    assert burnt(path, Labels(field="kind"), storage).tolist() == ["a", "b", "a"]


@pytest.mark.parametrize("names", [("x", "y"), ("X", "Y"), ("easting", "northing")])
def test_table_with_x_and_y_is_points_in_the_stated_crs(
    names: tuple[str, str], storage: Storage, tmp_path: Path
) -> None:
    path = write_table(tmp_path / "points.csv", names, X, Y)
    assert burnt(path, Labels(field="kind", crs=CRS), storage).tolist() == ["a", "b", "a"]
    with pytest.raises(DataError, match=r"has columns .* and no CRS; set \[labels\] crs"):
        burnt(path, Labels(field="kind"), storage)


def test_table_of_numbers_is_read_as_numbers(storage: Storage, tmp_path: Path) -> None:
    path = write_table(tmp_path / "points.csv", ("lon", "lat"), LONGITUDE, LATITUDE)
    heights = burnt(path, Labels(field="height"), storage, Numbers())
    assert heights.tolist() == [1.5, 2, 3.25]
    with pytest.raises(DataError, match=r"kind of .* holds 'a', which is no number"):
        burnt(path, Labels(field="kind"), storage, Numbers())


def test_table_of_regular_x_y_and_numbers_is_no_raster(storage: Storage, tmp_path: Path) -> None:
    path = tmp_path / "points.csv"
    rows = [(500_005 + 10 * c, 5_099_995 - 10 * r, 1 + c % 2) for r in range(4) for c in range(4)]
    path.write_text("x,y,code\n" + "".join(f"{x},{y},{code}\n" for x, y, code in rows))
    labels = Labels(field="code", crs=CRS)
    found = Classification().read_labels(str(path), labels, GRID, storage)
    assert found.expected == ["1", "2"]


def test_table_with_both_kinds_of_columns_takes_those_of_the_crs(
    storage: Storage, tmp_path: Path
) -> None:
    path = tmp_path / "points.csv"
    rows = zip(LONGITUDE, LATITUDE, X, Y, "aba", strict=True)
    lines = [",".join(map(str, row)) for row in rows]
    path.write_text("\n".join(["lon,lat,x,y,kind", *lines]) + "\n")
    for crs in (None, CRS):
        found = burnt(str(path), Labels(field="kind", crs=crs), storage)
        assert found.tolist() == ["a", "b", "a"]


@pytest.mark.parametrize(
    ("row", "told"),
    [
        (
            "14;5,46,a,1",
            r"lacks a number in lon or lat in 1 of its 4 rows, .* of 14;5, 46",
        ),
        (",46,a,1", r"lacks a number in lon or lat in 1 of its 4 rows"),
        ("146,95,a,1", r"holds lon 146, lat 95, which are no degrees; .* set \[labels\] crs"),
    ],
)
def test_table_with_a_row_that_is_no_place_is_refused(
    row: str, told: str, storage: Storage, tmp_path: Path
) -> None:
    path = write_table(tmp_path / "points.csv", ("lon", "lat"), LONGITUDE, LATITUDE, row)
    with pytest.raises(DataError, match=told):
        burnt(path, Labels(field="kind"), storage)


def test_table_row_without_a_label_is_left_out(storage: Storage, tmp_path: Path) -> None:
    row = f"{LONGITUDE[0]},{LATITUDE[1]},,"
    path = write_table(tmp_path / "points.csv", ("lon", "lat"), LONGITUDE, LATITUDE, row)
    assert burnt(path, Labels(field="kind"), storage).tolist() == ["a", "b", "a"]
    assert burnt(path, Labels(field="height"), storage, Numbers()).tolist() == [1.5, 2, 3.25]


def test_geometries_without_crs_take_the_stated_one(storage: Storage, tmp_path: Path) -> None:
    path = tmp_path / "points.csv"
    rows = [f'"POINT ({x} {y})",{kind}' for x, y, kind in zip(X, Y, "aba", strict=True)]
    path.write_text("\n".join(["WKT,kind", *rows]) + "\n")
    assert burnt(str(path), Labels(field="kind", crs=CRS), storage).tolist() == ["a", "b", "a"]
    with pytest.raises(DataError, match=r"has no CRS; .*\[labels\] crs"):
        burnt(str(path), Labels(field="kind"), storage)


def test_unknown_crs_of_labels_is_refused(storage: Storage, tmp_path: Path) -> None:
    path = write_table(tmp_path / "points.csv", ("x", "y"), X, Y)
    with pytest.raises(ConfigError, match=r"\[labels\] crs 'EPSG:none' is not known"):
        burnt(path, Labels(field="kind", crs="EPSG:none"), storage)
