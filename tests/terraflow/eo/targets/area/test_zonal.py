from __future__ import annotations

import math

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from rasterio.crs import CRS
from shapely import MultiPolygon, Polygon
from shapely.geometry import box

from terraflow.eo.targets.area.zonal import WHOLE_MAP, mean_per_area
from terraflow.errors import DataError

UTM = CRS.from_epsg(32633)
#: 4 rows and 6 columns of 10 m.
TRANSFORM = Affine(10, 0, 500_000, 0, -10, 5_100_000)
VALUES = np.arange(24, dtype="float32").reshape(4, 6)


def pixels(left: float, top: float, right: float, bottom: float) -> Polygon:
    """A box, in columns and rows."""
    return box(
        500_000 + 10 * left, 5_100_000 - 10 * bottom, 500_000 + 10 * right, 5_100_000 - 10 * top
    )


def frame(*geometries: object, crs: object = UTM, **columns: object) -> gpd.GeoDataFrame:
    return gpd.GeoDataFrame(columns, geometry=list(geometries), crs=crs)


def mean_of(polygons: gpd.GeoDataFrame, field: str = "", values: np.ndarray = VALUES) -> dict:
    table = mean_per_area(values, UTM, TRANSFORM, polygons, field)
    assert list(table) == ["area", "pixels", "mean", "area_m2"]
    assert list(table.dtypes[["pixels", "mean", "area_m2"]]) == ["int64", "float64", "float64"]
    assert table["area_m2"].to_numpy() == pytest.approx(100 * table["pixels"], rel=1e-3)
    # pixels of a UTM zone differ by some millionths
    return {row.area: (row.pixels, round(row.mean, 4)) for row in table.itertuples()}


def test_mean_is_by_area_where_pixels_shrink_towards_the_pole() -> None:
    values = np.array([[10.0], [0.0]])  # 60 to 70 and 50 to 60 degrees north
    transform = Affine(10, 0, 0, 0, -10, 70)
    for polygons in (None, frame(box(0, 50, 10, 70), crs="EPSG:4326")):
        [row] = mean_per_area(values, "EPSG:4326", transform, polygons, "").to_dict("records")
        north, south = (np.sin(np.radians(b)) - np.sin(np.radians(b - 10)) for b in (70, 60))
        assert row["mean"] == pytest.approx(10 * north / (north + south), rel=0.01)
        expected = 6_371_007**2 * np.radians(10) * (north + south)
        assert row["area_m2"] == pytest.approx(expected, rel=0.01)


def test_mean_of_named_areas() -> None:
    polygons = frame(pixels(3, 0, 6, 4), pixels(0, 0, 3, 1), name=["b", "a"])
    assert mean_of(polygons, "name") == {"a": (3, 1.0), "b": (12, VALUES[:, 3:].mean())}


def test_areas_without_a_field_are_numbered() -> None:
    polygons = frame(pixels(0, 0, 1, 1), None, pixels(1, 0, 2, 1))
    assert mean_of(polygons.set_index([[7, 8, 9]])) == {"1": (1, 0.0), "3": (1, 1.0)}


def test_no_polygons_take_the_whole_map() -> None:
    values = VALUES.copy()
    values[0, 0] = np.nan
    table = mean_per_area(values, None, TRANSFORM, None, "name")
    assert table.to_dict("records") == [
        {
            "area": WHOLE_MAP,
            "pixels": 23,
            "mean": 12.0,
            "area_m2": pytest.approx(np.nan, nan_ok=True),
        }
    ]


def test_pixel_counts_where_its_centre_lies() -> None:
    assert mean_of(frame(pixels(0.4, 0.4, 1.4, 1.6))) == {"1": (2, 3.0)}
    assert mean_of(frame(pixels(0.6, 0.6, 1.4, 1.4)))["1"][0] == 0


def test_overlapping_areas_count_a_pixel_each() -> None:
    polygons = frame(pixels(0, 0, 2, 1), pixels(1, 0, 3, 1))
    assert mean_of(polygons) == {"1": (2, 0.5), "2": (2, 1.5)}


def test_polygons_of_one_name_are_one_area_whose_pixels_count_once() -> None:
    polygons = frame(pixels(0, 0, 2, 1), pixels(1, 0, 3, 1), pixels(5, 3, 6, 4), name=["a"] * 3)
    assert mean_of(polygons, "name") == {"a": (4, (0 + 1 + 2 + 23) / 4)}


def test_holes_and_parts() -> None:
    ring = pixels(0, 0, 3, 3).difference(pixels(1, 1, 2, 2))
    both = MultiPolygon([ring, pixels(5, 0, 6, 1)])
    expected = np.append(np.delete(VALUES[:3, :3].ravel(), 4), 5)
    assert mean_of(frame(both)) == {"1": (9, pytest.approx(expected.mean(), abs=1e-4))}


def test_polygons_without_a_name_are_told_as_unnamed() -> None:
    polygons = frame(pixels(0, 0, 1, 1), pixels(1, 0, 2, 1), name=["a", None])
    assert mean_of(polygons, "name") == {"a": (1, 0.0), "unnamed": (1, 1.0)}


def test_nan_and_masked_pixels_do_not_count() -> None:
    masked = np.ma.masked_equal(np.arange(24).reshape(4, 6), 1)
    assert mean_of(frame(pixels(0, 0, 3, 1)), values=masked) == {"1": (2, 1.0)}
    hidden = np.where(VALUES < 6, np.nan, VALUES)
    count, mean = mean_of(frame(pixels(0, 0, 3, 1)), values=hidden)["1"]
    assert count == 0
    assert math.isnan(mean)


def test_area_beyond_the_map_has_no_pixel() -> None:
    polygons = frame(pixels(-5, -5, 1, 1), pixels(10, 0, 12, 2), name=["near", "far"])
    assert mean_of(polygons, "name")["near"] == (1, 0.0)
    assert mean_of(polygons, "name")["far"][0] == 0


def test_polygons_of_another_crs_are_reprojected() -> None:
    polygons = frame(pixels(1, 1, 4, 3)).to_crs("EPSG:4326")
    assert mean_of(polygons) == {"1": (6, VALUES[1:3, 1:4].mean())}


def test_rotated_map() -> None:
    turned = Affine.translation(500_000, 5_100_000) * Affine.rotation(30) * Affine.scale(10, -10)
    corners = [turned * place for place in ((1, 1), (4, 1), (4, 3), (1, 3))]
    table = mean_per_area(VALUES, "EPSG:32633", turned, frame(Polygon(corners)), "")
    assert table.loc[0, "pixels"] == 6
    assert table.loc[0, "mean"] == pytest.approx(VALUES[1:3, 1:4].mean(), rel=1e-5)


@given(st.integers(1, 5), st.integers(1, 3))
def test_areas_that_cut_a_map_add_up_to_it(column: int, row: int) -> None:
    parts = frame(
        pixels(0, 0, column, row),
        pixels(column, 0, 6, row),
        pixels(0, row, column, 4),
        pixels(column, row, 6, 4),
    )
    found = mean_of(parts).values()
    assert sum(count for count, _ in found) == VALUES.size
    assert sum(count * mean for count, mean in found) == pytest.approx(VALUES.sum())


@pytest.mark.parametrize(
    ("crs", "polygons", "field", "sentence"),
    [
        (None, frame(pixels(0, 0, 1, 1)), "", "The map has no CRS"),
        (UTM, frame(pixels(0, 0, 1, 1), crs=None), "", "The areas have no CRS; add one"),
        (UTM, pd.DataFrame({"name": ["a"]}), "name", "The areas have no geometries"),
        (
            UTM,
            frame(pixels(0, 0, 1, 1), name=["a"]),
            "nom",
            "The areas have no field 'nom'; they have name, geometry; correct",
        ),
        (UTM, frame(pixels(9, 9, 10, 10)), "", "None of the 1 areas reaches the map"),
        (UTM, frame(None), "", "None of the 0 areas reaches the map"),
    ],
)
def test_mistakes_are_told_in_a_sentence(
    crs: CRS | None, polygons: gpd.GeoDataFrame, field: str, sentence: str
) -> None:
    with pytest.raises(DataError, match=sentence):
        mean_per_area(VALUES, crs, TRANSFORM, polygons, field)
