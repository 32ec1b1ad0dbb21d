from __future__ import annotations

from pathlib import Path

import pytest
from odc.geo.geobox import GeoBox
from rasterio.warp import transform

from area import CRS, TRANSFORM
from terraflow.eo.config.labels import Labels
from terraflow.eo.targets.vectors.files import on_grid_crs, read_frame
from terraflow.errors import DataError
from terraflow.storage import Storage

GRID = GeoBox((16, 16), TRANSFORM, CRS)
X, Y = 500_005, 5_099_995
(LON,), (LAT,) = transform(CRS, "EPSG:4326", [X], [Y])


def places(text: str, folder: Path, storage: Storage, **labels: str) -> list[tuple[float, float]]:
    path = folder / "points.csv"
    path.write_text(text)
    frame = read_frame(str(path), storage)
    found = on_grid_crs(frame, str(path), Labels(**{"field": "kind", **labels}), GRID)
    return [(round(point.x), round(point.y)) for point in found.geometry]


@pytest.mark.parametrize(
    "text",
    [
        f"lon;lat;kind\n{LON};{LAT};a\n",
        f"lon\tlat\tkind\n{LON}\t{LAT}\ta\n",
        f'"lon","lat","kind"\n"{LON}","{LAT}","a ""b"", c"\n',
        f"lon, lat, kind\n{LON}, {LAT}, a\n",
        f" Lon , LAT ,kind,,\n{LON},{LAT},a,,\n",
        f"\ufefflon,lat,kind\n{LON},{LAT},a\n",
        f"lon,lat,longitude,latitude,kind\n{LON},{LAT},{LON},{LAT},a\n",
    ],
    ids=["semicolon", "tab", "quotes", "blanks", "blank names", "mark", "twice the same"],
)
def test_tables_as_programs_write_them(text: str, tmp_path: Path, storage: Storage) -> None:
    assert places(text, tmp_path, storage) == [(X, Y)]


@pytest.mark.parametrize("separator", [";", "\t"])
def test_decimal_commas_are_told_and_points_help(
    separator: str, tmp_path: Path, storage: Storage
) -> None:
    text = f"lon{separator}lat{separator}kind\n{LON}{separator}{LAT}{separator}a\n"
    with pytest.raises(DataError, match=r"holds numbers with a decimal comma in lon or lat, first"):
        places(text.replace(".", ","), tmp_path, storage)
    assert places(text, tmp_path, storage) == [(X, Y)]


def test_line_of_excel_before_the_names(tmp_path: Path, storage: Storage) -> None:
    text = f"lon;lat;kind\n{LON};{LAT};a\n"
    with pytest.raises(DataError, match=r"begins with a line 'sep=', .*; remove this line"):
        places(f"sep=;\n{text}", tmp_path, storage)
    assert places(text, tmp_path, storage) == [(X, Y)]


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ("lon,lat,Lon,kind", "lon and lat, and also Lon and lat"),
        ("lon,lat,longitude,kind,latitude", "longitude and latitude, and also lon and lat"),
    ],
)
def test_two_places_in_a_row_are_asked_for(
    columns: str, told: str, tmp_path: Path, storage: Storage
) -> None:
    values = {"lon": LON, "lat": LAT, "Lon": 15, "longitude": 15, "latitude": 46, "kind": "a"}
    row = ",".join(str(values[name]) for name in columns.split(","))
    with pytest.raises(DataError, match=f"has columns {told}, whose numbers are others; remove"):
        places(f"{columns}\n{row}\n", tmp_path, storage)
    renamed = columns.replace("Lon", "other").replace("longitude", "other")
    assert places(f"{renamed}\n{row}\n", tmp_path, storage) == [(X, Y)]


def test_column_that_is_there_twice(tmp_path: Path, storage: Storage) -> None:
    """OGR gives the last one for both."""
    with pytest.raises(DataError, match="has 2 columns 'kind'; give each a name of its own"):
        places(f"lon,lat,kind,kind\n{LON},{LAT},a,b\n", tmp_path, storage)
    with pytest.raises(DataError, match="has columns lon and lat, and also lon and lat"):
        places(f"lon,lon,lat,kind\n{LON},15,{LAT},a\n", tmp_path, storage)
    assert places(f"lon,lat,kind,other\n{LON},{LAT},a,b\n", tmp_path, storage) == [(X, Y)]


@pytest.mark.parametrize("text", ["inf", "nan", "1e999", "-"])
def test_numbers_that_are_no_place(text: str, tmp_path: Path, storage: Storage) -> None:
    with pytest.raises(DataError, match=f"lacks a number in lon or lat in 1 of its 2 rows.*{text}"):
        places(f"lon,lat,kind\n{LON},{LAT},a\n{text},46,b\n", tmp_path, storage)


def test_degrees_with_a_crs_of_metres(tmp_path: Path, storage: Storage) -> None:
    text = f"lon,lat,kind\n{LON},{LAT},a\n"
    with pytest.raises(DataError, match=r"lon and lat that hold degrees, and \[labels\] crs says"):
        places(text, tmp_path, storage, crs=CRS)
    assert places(text, tmp_path, storage) == [(X, Y)]
    assert places(text, tmp_path, storage, crs="EPSG:4326") == [(X, Y)]


def test_both_kinds_of_columns_with_degrees_as_crs(tmp_path: Path, storage: Storage) -> None:
    """The columns x and y, which are no degrees, were taken where a CRS was stated."""
    text = f"lon,lat,x,y,kind\n{LON},{LAT},{X},{Y},a\n"
    for crs in ("EPSG:4326", CRS):
        assert places(text, tmp_path, storage, crs=crs) == [(X, Y)]


def test_field_that_is_not_there_after_blanks(tmp_path: Path, storage: Storage) -> None:
    with pytest.raises(DataError, match=r"has no field 'kind'; it has lon, lat, Kind"):
        places(f"lon,lat,Kind\n{LON},{LAT},a\n", tmp_path, storage)
    assert places(f"lon,lat,Kind\n{LON},{LAT},a\n", tmp_path, storage, field="Kind") == [(X, Y)]
