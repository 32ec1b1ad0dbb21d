from __future__ import annotations

from pathlib import Path

import geopandas as gpd
import pytest
from shapely.geometry import Point

from terraflow.eo.targets.vector import read_frame
from terraflow.errors import DataError
from terraflow.storage import Storage


def test_read_frame_by_path_and_by_uri(tmp_path: Path, storage: Storage) -> None:
    path = tmp_path / "points.gpkg"
    gpd.GeoDataFrame({"n": [1]}, geometry=[Point(1, 2)], crs="EPSG:4326").to_file(path)
    for uri in (str(path), path.as_uri()):
        assert read_frame(uri, storage)["n"].tolist() == [1]


@pytest.mark.parametrize(
    ("what", "sentence"),
    [
        ("Labels", r"Labels \S+ can't be read: .*; expected polygons or points .* GDAL reads\.$"),
        ("Areas", r"Areas \S+ can't be read: .*; expected polygons in a format OGR reads\.$"),
    ],
)
def test_what_can_not_be_read_is_told(
    what: str, sentence: str, tmp_path: Path, storage: Storage
) -> None:
    path = tmp_path / "areas.gpkg"
    path.write_text("no geometries")
    with pytest.raises(DataError, match=sentence):
        read_frame(str(path), storage, what=what)
