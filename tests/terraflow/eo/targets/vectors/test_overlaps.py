"""Labels that contradict each other, whose every pixel is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from shapely import Point, box

from area import CRS, TRANSFORM
from terraflow.eo.config.labels import Labels
from terraflow.eo.config.project_file import read_recorded
from terraflow.eo.targets.classes.labels.read import read_labels
from terraflow.eo.targets.numbers import Numbers
from terraflow.eo.targets.vectors import overlaps as module
from terraflow.eo.targets.vectors.cleaning import NAME
from terraflow.eo.targets.vectors.overlaps import Shapes
from terraflow.errors import DataError
from terraflow.storage import Storage

GRID = GeoBox((16, 16), TRANSFORM, CRS)


def rectangle(left: float, top: float, right: float, bottom: float) -> Any:
    """Make a polygon of columns and rows."""
    return box(
        500_000 + 10 * left, 5_100_000 - 10 * bottom, 500_000 + 10 * right, 5_100_000 - 10 * top
    )


def write(path: Path, labels: list[tuple[str, Any]]) -> str:
    kinds, shapes = zip(*labels, strict=True)
    frame = gpd.GeoDataFrame({"kind": kinds}, geometry=list(shapes), crs=CRS)
    frame.to_file(path / "labels.gpkg")
    return str(path / "labels.gpkg")


TWO = [("crop", rectangle(0, 0, 8, 16)), ("forest", rectangle(6, 0, 16, 16))]


@pytest.mark.parametrize(
    ("overlaps", "columns"),
    [
        ("drop", "1" * 6 + "00" + "2" * 8),
        ("first", "1" * 8 + "2" * 8),
        ("last", "1" * 6 + "2" * 10),
    ],
)
def test_overlaps_of_unlike_classes(
    overlaps: str, columns: str, storage: Storage, tmp_path: Path
) -> None:
    labels = Labels(field="kind", overlaps=overlaps)
    found = read_labels(write(tmp_path, TWO), labels, GRID, storage)
    for grid in (GRID, GRID[2:5, 0:16]):
        numbers = found.burn(grid)[0].filled(0)
        assert (numbers == [int(digit) for digit in columns]).all()
    assert found.account.contradicted_px == 32
    assert found.account.contradicted == {"crop": 32, "forest": 32}
    [told] = found.account.remarks
    assert told.startswith(
        "32 pixels lie in labels that contradict each other (crop and forest 32)"
    )
    assert f'[labels] overlaps = "{overlaps}"' in told
    assert "the first at 500065, 5099995 in EPSG:32633" in told


def test_overlaps_are_dropped_by_default() -> None:
    assert Labels().overlaps == "drop"


def test_overlaps_of_older_records_took_the_last() -> None:
    recorded = {
        "name": "a",
        "data": {"start": "2024-01-01", "end": "2024-12-31", "bands": {"red": "B04"}},
        "labels": {"field": "kind"},
    }
    assert read_recorded(recorded).labels.overlaps == "last"


def test_overlaps_that_are_refused_say_what_to_write(storage: Storage, tmp_path: Path) -> None:
    path = write(tmp_path, TWO)
    with pytest.raises(
        DataError, match=r"contradict each other in 32 pixels .*\[labels\] overlaps"
    ):
        read_labels(path, Labels(field="kind", overlaps="refuse"), GRID, storage)
    for remedy in ("drop", "first", "last"):
        assert read_labels(path, Labels(field="kind", overlaps=remedy), GRID, storage)
    apart = write(tmp_path, [TWO[0], ("forest", rectangle(8, 0, 16, 16))])
    found = read_labels(apart, Labels(field="kind", overlaps="refuse"), GRID, storage)
    assert (found.burn(GRID)[0].filled(0) > 0).all()


@pytest.mark.parametrize(
    "more",
    [
        [("crop", rectangle(2, 2, 12, 4))],  # of the same class
        [("crop", rectangle(0, 0, 8, 16))] * 2,  # the same again
        [("crop", Point(500_015, 5_099_985))],  # a point in a polygon of its class
        [("forest", rectangle(8, 0, 16, 16))],  # a neighbour that shares an edge
        [("forest", rectangle(8, 0, 16, 16)), ("forest", rectangle(8, 0, 16, 16))],
    ],
)
def test_no_contradiction(more: list[tuple[str, Any]], storage: Storage, tmp_path: Path) -> None:
    path = write(tmp_path, [("crop", rectangle(0, 0, 8, 16)), *more])
    found = read_labels(path, Labels(field="kind", overlaps="refuse"), GRID, storage)
    assert found.account.contradicted_px == 0
    assert (found.burn(GRID)[0].filled(0)[:, :8] == 1).all()


@pytest.mark.parametrize("upright", [True, False])
def test_edges_through_the_centres_of_pixels_are_no_contradiction(
    upright: bool, storage: Storage, tmp_path: Path
) -> None:
    halves = [(0, 0, 7.5, 16), (7.5, 0, 16, 16)] if upright else [(0, 0, 16, 7.5), (0, 7.5, 16, 16)]
    path = write(tmp_path, [(n, rectangle(*half)) for n, half in zip("ab", halves, strict=True)])
    found = read_labels(path, Labels(field="kind", overlaps="refuse"), GRID, storage)
    assert (found.burn(GRID)[0].filled(0) > 0).all()


def test_an_edge_of_one_of_several_polygons_hides_no_contradiction(
    storage: Storage, tmp_path: Path
) -> None:
    half = rectangle(0, 0, 7.5, 16)  # its edge lies on the centres of column 7
    labels = [("a", half), ("a", rectangle(0, 0, 9, 16)), ("b", rectangle(7, 0, 16, 16))]
    for order in ([0, 1, 2], [1, 0, 2], [2, 1, 0]):
        path = write(tmp_path, [labels[i] for i in order])
        found = read_labels(path, Labels(field="kind"), GRID, storage)
        assert found.account.contradicted_px == 32


def test_points_that_contradict_in_a_pixel_or_a_polygon(storage: Storage, tmp_path: Path) -> None:
    points = [("b", Point(500_003, 5_099_997)), ("a", Point(500_007, 5_099_993))]
    held = [("b", Point(500_105, 5_099_895)), ("a", rectangle(8, 8, 16, 16))]
    path = write(tmp_path, [*points, *held])
    found = read_labels(path, Labels(field="kind"), GRID, storage)
    assert found.account.contradicted_px == 2
    numbers = found.burn(GRID)[0].filled(0)
    assert (numbers == 1).sum() == 63
    assert (numbers == 2).sum() == 0


def test_three_classes_on_a_pixel_are_each_told(storage: Storage, tmp_path: Path) -> None:
    path = write(tmp_path, [(name, rectangle(0, 0, 2, 2)) for name in "abc"])
    found = read_labels(path, Labels(field="kind"), GRID, storage)
    assert found.account.contradicted == {"a": 4, "b": 4, "c": 4}
    assert found.account.contradicted_px == 4


def test_numbers_that_contradict(storage: Storage, tmp_path: Path) -> None:
    shapes = [rectangle(0, 0, 8, 16), rectangle(6, 0, 16, 16), rectangle(0, 0, 2, 2)]
    frame = gpd.GeoDataFrame({"height": [1.5, 2.5, 1.5]}, geometry=shapes, crs=CRS)
    frame.to_file(tmp_path / "heights.gpkg")
    path = str(tmp_path / "heights.gpkg")
    found = Numbers().read_labels(path, Labels(field="height"), GRID, storage)
    values = found.burn(GRID)[0]
    assert np.ma.getmaskarray(values)[:, 6:8].all()
    assert np.ma.getmaskarray(values).sum() == 32
    with pytest.raises(DataError, match="contradict each other in 32 pixels"):
        Numbers().read_labels(path, Labels(field="height", overlaps="refuse"), GRID, storage)


squares = st.tuples(
    st.integers(0, 12), st.integers(0, 12), st.integers(1, 5), st.integers(1, 5), st.integers(0, 3)
)


@given(st.lists(squares, min_size=1, max_size=8), st.sampled_from(["drop", "first", "last"]))
def test_any_rectangles_give_what_counting_gives(
    found: list[tuple[int, int, int, int, int]], overlaps: str
) -> None:
    claims = np.zeros((len(found), 16, 16), bool)
    for each, (x, y, width, height, _) in zip(claims, found, strict=True):
        each[y : y + height, x : x + width] = True
    values = np.array([value for *_, value in found])
    shapes = [rectangle(x, y, x + w, y + h) for x, y, w, h, _ in found]
    frame = gpd.GeoDataFrame({NAME: values.astype(str)}, geometry=shapes, crs=CRS)
    asked = Shapes(frame, values, overlaps)
    rows, _ = asked.burn(GRID)
    tile, module.TILE_PX = module.TILE_PX, 5
    try:
        survey = asked.survey(GRID)
    finally:
        module.TILE_PX = tile
    per_value = np.array([claims[values == value].any(axis=0) for value in range(4)])
    wrong = per_value.sum(axis=0) > 1
    order = range(len(found)) if overlaps == "first" else range(len(found) - 1, -1, -1)
    expected = np.full((16, 16), -1)
    for row in reversed(order):
        expected[claims[row]] = values[row]
    if overlaps == "drop":
        expected[wrong] = -1
    assert (np.append(values, -1)[rows] == expected).all()
    assert survey.contradicted_px == wrong.sum()
    told = {str(v): int((per_value[v] & wrong).sum()) for v in range(4)}
    assert dict(survey.contradicted) == {name: number for name, number in told.items() if number}
