"""Geometries as people bring them: pixels and counts of each kind of dirt are known."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
from odc.geo.geobox import GeoBox
from shapely import (
    GeometryCollection,
    LineString,
    MultiPoint,
    MultiPolygon,
    Point,
    Polygon,
    box,
)

from area import CRS, TRANSFORM
from terraflow.eo.config.labels import Labels
from terraflow.eo.targets.classes.labels.polygons import VectorLabels
from terraflow.eo.targets.classes.labels.read import read_labels
from terraflow.eo.targets.numbers import Numbers
from terraflow.eo.targets.vectors.cleaning import repaired
from terraflow.errors import DataError
from terraflow.storage import Storage

GRID = GeoBox((16, 16), TRANSFORM, CRS)
WEST, NORTH = 500_000, 5_100_000


def at(x: float, y: float) -> tuple[float, float]:
    """Place in pixels from the grid's corner, to coordinates."""
    return WEST + 10 * x, NORTH - 10 * y


def square(x: float, y: float, side: float = 4) -> Polygon:
    (west, north), (east, south) = at(x, y), at(x + side, y + side)
    return box(west, south, east, north)


def bow_tie(x: float, y: float, side: float = 4) -> Polygon:
    corners = [(x, y), (x + side, y + side), (x + side, y), (x, y + side)]
    return Polygon([at(*corner) for corner in corners])


def read(storage: Storage, path: Path, geometries: list[Any], **keys: Any) -> VectorLabels:
    """Geometries of crop, after a square of forest in the last corner."""
    frame = gpd.GeoDataFrame(
        {"kind": ["forest", *["crop"] * len(geometries)]},
        geometry=[square(12, 12), *geometries],
        crs=CRS,
    )
    frame.to_file(path / "labels.gpkg")
    return read_frame(storage, path, **keys)


def read_frame(storage: Storage, path: Path, **keys: Any) -> VectorLabels:
    labels = Labels(**({"field": "kind"} | keys))
    found = read_labels(str(path / "labels.gpkg"), labels, GRID, storage)
    assert isinstance(found, VectorLabels)
    return found


def pixels(labels: VectorLabels, name: str = "crop") -> int:
    numbers = labels.burn(GRID)[0].filled(0)
    return int((numbers == labels.names.index(name) + 1).sum())


def test_bow_tie_keeps_both_triangles_when_shrunk(storage: Storage, tmp_path: Path) -> None:
    whole = read(storage, tmp_path, [bow_tie(0, 0, 8)])
    small = read(storage, tmp_path, [bow_tie(0, 0, 8)], shrink=4)
    left, right = (small.burn(GRID)[0].filled(0)[:, part] == 1 for part in (np.s_[:4], np.s_[4:8]))
    assert left.sum() == right.sum() > 5
    assert pixels(small) < pixels(whole)
    assert whole.account.repaired == {"crop": 1}
    assert whole.account.used == {"crop": 1, "forest": 1}


@pytest.mark.parametrize(
    ("polygon", "area"),
    [
        (Polygon([(0, 0), (10, 10), (10, 0), (0, 10)]), 50),  # bow tie
        (Polygon([(0, 0), (10, 0), (10, 5), (20, 5), (10, 5), (10, 10), (0, 10)]), 100),  # spike
        (Polygon([(0, 0), (10, 0), (10, 10), (0, 10), (0, 0), (10, 0), (10, 10), (0, 10)]), 100),
        (Polygon([(0, 0), (0, 10), (10, 10), (10, 0)]), 100),  # the other way round
        (Polygon(box(0, 0, 10, 10).exterior, [box(20, 20, 30, 30).exterior]), 100),  # hole outside
        (Polygon(box(0, 0, 10, 10).exterior, [box(5, 5, 20, 10).exterior]), 75),  # over the edge
        (Polygon(box(0, 0, 10, 10).exterior, [box(2, 2, 6, 6).exterior] * 2), 84),  # twice
        (
            Polygon(
                box(0, 0, 10, 10).exterior, [box(2, 2, 6, 6).exterior, box(4, 4, 8, 8).exterior]
            ),
            72,
        ),
        (Polygon([(0, 0), (10, 0), (5, 0)]), 0),  # flat
        (Polygon(box(0, 0, 10, 10).exterior, [box(0, 0, 10, 10).exterior]), 0),
    ],
)
def test_repaired_polygons_have_the_area_that_was_meant(polygon: Polygon, area: float) -> None:
    found = repaired(polygon)
    assert found.is_valid
    assert found.geom_type in ("Polygon", "MultiPolygon")
    assert found.area == pytest.approx(area)


def test_dissolved_polygons_are_places_of_their_own(storage: Storage, tmp_path: Path) -> None:
    labels = read(storage, tmp_path, [MultiPolygon([square(0, 0), square(6, 6), square(0, 12)])])
    assert len(np.unique(labels.burn(GRID)[1])) == 1 + 4
    assert labels.account.read == {"crop": 3, "forest": 1}
    assert "2 features of" in labels.account.remarks[0]
    assert "have 4 parts" in labels.account.remarks[0]


def test_multi_points_are_points(storage: Storage, tmp_path: Path) -> None:
    labels = read(storage, tmp_path, [MultiPoint([at(0.5, 0.5), at(3.5, 2.5)])])
    assert pixels(labels) == 2
    assert (labels.burn(GRID)[1][:4] == -1).all()


def test_parts_that_overlap_are_their_union(storage: Storage, tmp_path: Path) -> None:
    labels = read(storage, tmp_path, [MultiPolygon([square(0, 0), square(2, 0), square(0, 0)])])
    assert pixels(labels) == 6 * 4
    assert labels.account.contradicted_px == 0
    assert labels.account.dropped == {"twice the same": {"crop": 1}}


def test_collections_give_their_polygons_and_points(storage: Storage, tmp_path: Path) -> None:
    inner = GeometryCollection([square(6, 0), Point(at(0.5, 8.5))])
    line = LineString([at(0, 10), at(8, 10)])
    labels = read(storage, tmp_path, [GeometryCollection([square(0, 0), line, inner])])
    assert pixels(labels) == 16 + 16 + 1
    assert labels.account.dropped == {"lines": {"crop": 1}}
    assert any("buffer them" in remark for remark in labels.account.remarks)


def test_lines_alone_are_refused_and_buffers_of_them_help(storage: Storage, tmp_path: Path) -> None:
    line = LineString([at(0, 2), at(8, 2)])
    frame = gpd.GeoDataFrame({"kind": ["crop"]}, geometry=[line], crs=CRS)
    frame.to_file(tmp_path / "labels.gpkg")
    with pytest.raises(DataError, match=r"No polygon or point of .* is left \(1 lines\).*buffer"):
        read_frame(storage, tmp_path)
    frame.set_geometry(frame.buffer(10)).to_file(tmp_path / "labels.gpkg")
    assert pixels(read_frame(storage, tmp_path)) > 8


@pytest.mark.parametrize(
    ("geometry", "reason"),
    [
        (None, "no geometry"),
        (Polygon(), "no geometry"),
        (MultiPolygon(), "no geometry"),
        (Polygon([at(0, 0), (np.inf, NORTH), at(0, 4)]), "coordinates that are no numbers"),
        (Point(np.inf, NORTH), "coordinates that are no numbers"),
        (Polygon([at(0, 0), at(4, 4), at(8, 8)]), "no area"),
        (square(30, 30), "outside the images"),
        (square(0.6, 0.6, 0.3), "no pixel of their own"),
    ],
)
def test_what_is_no_label_is_dropped_with_its_reason(
    geometry: Any, reason: str, storage: Storage, tmp_path: Path
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        warnings.simplefilter("error", RuntimeWarning)
        labels = read(storage, tmp_path, [square(4, 4), geometry])
    assert pixels(labels) == 16
    assert labels.account.dropped == {reason: {"crop": 1}}
    assert labels.account.read == {"crop": 2, "forest": 1}
    assert labels.account.used == {"crop": 1, "forest": 1}


def test_polygons_partly_outside_are_kept(storage: Storage, tmp_path: Path) -> None:
    labels = read(storage, tmp_path, [square(-2, -2)])
    assert pixels(labels) == 4
    assert labels.account.dropped == {}


@pytest.mark.parametrize(
    "text",
    [
        "POLYGON Z (({0} {2} 5, {1} {2} 5, {1} {3} 5, {0} {3} 5, {0} {2} 5))",
        "POLYGON ZM (({0} {2} 5 1, {1} {2} 5 1, {1} {3} 5 1, {0} {3} 5 1, {0} {2} 5 1))",
        "MULTIPOLYGON Z ((({0} {2} 5, {1} {2} 5, {1} {3} 5, {0} {3} 5, {0} {2} 5)))",
        "GEOMETRYCOLLECTION Z (POINT Z ({0} {2} 5), POLYGON Z (({0} {2} 5, {1} {2} 5, {1} {3} 5, "
        "{0} {3} 5, {0} {2} 5)))",
    ],
)
def test_height_and_measure_are_left_aside(text: str, storage: Storage, tmp_path: Path) -> None:
    (west, north), (east, south) = at(0, 0), at(4, 4)
    text = text.format(west, east, north, south)
    path = tmp_path / "labels.csv"
    path.write_text(f'kind,WKT\ncrop,"{text}"\n')
    found = read_labels(str(path), Labels(field="kind", crs=CRS), GRID, storage)
    assert isinstance(found, VectorLabels)
    assert pixels(found) == 16


def test_curves_are_made_of_lines(storage: Storage, tmp_path: Path) -> None:
    """A circle through the corners of a square holds 24 centres, and the square 16."""
    (west, north), (east, south) = at(4, 4), at(8, 8)
    ring = f"{west} {north}, {east} {north}, {east} {south}, {west} {south}, {west} {north}"
    path = tmp_path / "labels.csv"
    path.write_text(f'kind,WKT\ncrop,"CURVEPOLYGON(CIRCULARSTRING({ring}))"\n')
    found = read_labels(str(path), Labels(field="kind", crs=CRS), GRID, storage)
    assert isinstance(found, VectorLabels)
    assert pixels(found) == 24


def test_shrink_in_degrees_is_told_and_its_remedy_helps(storage: Storage, tmp_path: Path) -> None:
    frame = gpd.GeoDataFrame({"kind": ["crop"]}, geometry=[square(2, 2, 12)], crs=CRS)
    frame.to_file(tmp_path / "labels.gpkg")
    degrees = GRID.to_crs("EPSG:4326")
    path = str(tmp_path / "labels.gpkg")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        warnings.simplefilter("error", RuntimeWarning)
        with pytest.raises(DataError, match=r"shrunk by 5; .*\(degrees: 10 m are about 0\.0001"):
            read_labels(path, Labels(field="kind", shrink=5), degrees, storage)
        whole = read_labels(path, Labels(field="kind"), degrees, storage)
        shrunk = read_labels(path, Labels(field="kind", shrink=0.0001), degrees, storage)
    counts = [(~np.ma.getmaskarray(each.burn(degrees)[0])).sum() for each in (whole, shrunk)]
    assert counts[0] > counts[1] > counts[0] / 2


def test_shrunk_away_polygons_are_counted(storage: Storage, tmp_path: Path) -> None:
    labels = read(storage, tmp_path, [square(4, 4), square(0, 0, 1)], shrink=5)
    assert labels.account.dropped == {"gone by shrink": {"crop": 1}}


def test_numbers_are_cleaned_alike(storage: Storage, tmp_path: Path) -> None:
    shapes = [bow_tie(0, 0, 8), MultiPolygon([square(8, 8), square(0, 12)]), None]
    frame = gpd.GeoDataFrame({"height": [1.5, 2.5, 3.5]}, geometry=shapes, crs=CRS)
    frame.to_file(tmp_path / "labels.gpkg")
    path = str(tmp_path / "labels.gpkg")
    labels = Numbers().read_labels(path, Labels(field="height"), GRID, storage)
    assert labels.account.repaired == {"height": 1}
    assert labels.account.read == {"height": 4}
    assert labels.account.dropped == {"no geometry": {"height": 1}}
    assert (labels.burn(GRID)[0] == 2.5).sum() == 32
