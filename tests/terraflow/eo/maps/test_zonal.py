from __future__ import annotations

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
from rasterio.crs import CRS
from shapely.geometry import Polygon, box

from area import TRANSFORM
from terraflow.eo import mean_per_area
from terraflow.errors import DataError

UTM = CRS.from_epsg(32633)
WEST, NORTH = TRANSFORM.c, TRANSFORM.f
#: Two rows of four pixels of 10 m.
VALUES = np.array([[1, 2, 3, np.nan], [5, 6, 7, 8]], dtype="float32")


def columns(first: int, last: int) -> Polygon:
    return box(WEST + 10 * first, NORTH - 20, WEST + 10 * last, NORTH)


def areas(**fields: list[object]) -> gpd.GeoDataFrame:
    shapes = [columns(0, 2), columns(2, 4)]
    return gpd.GeoDataFrame(fields, geometry=shapes, crs="EPSG:32633")


def test_mean_per_area_whole_map_leaves_nodata_out() -> None:
    [row] = mean_per_area(VALUES, UTM, TRANSFORM).itertuples()
    assert (row.area, row.pixels) == ("whole map", 7)
    assert row.mean == pytest.approx(32 / 7)


def test_mean_per_area_by_name_in_the_order_of_the_areas() -> None:
    found = mean_per_area(VALUES, UTM, TRANSFORM, areas(field=["b", "a"]), "field")
    assert found["area"].tolist() == ["b", "a"]
    assert found["pixels"].tolist() == [4, 3]
    assert found["mean"].tolist() == pytest.approx([14 / 4, 18 / 3])


def test_mean_per_area_without_a_field_numbers_them() -> None:
    assert mean_per_area(VALUES, UTM, TRANSFORM, areas())["area"].tolist() == [1, 2]


def test_mean_per_area_of_one_name_is_one() -> None:
    found = mean_per_area(VALUES, UTM, TRANSFORM, areas(field=["x", "x"]), "field")
    assert (found["pixels"].tolist(), found["mean"].tolist()) == ([7], pytest.approx([32 / 7]))


def test_mean_per_area_in_another_crs_is_the_same() -> None:
    there = areas(field=["b", "a"]).to_crs("EPSG:4326")
    found = mean_per_area(VALUES, UTM, TRANSFORM, there, "field")
    assert found["pixels"].tolist() == [4, 3]


def test_mean_per_area_outside_the_map_has_no_pixel_and_no_mean() -> None:
    here = areas(field=["b", "a"])
    here.geometry = [columns(0, 4), columns(90, 92)]
    found = mean_per_area(VALUES, UTM, TRANSFORM, here, "field")
    assert found["pixels"].tolist() == [7, 0]
    assert np.isnan(found["mean"][1])


def test_mean_per_area_empty_and_missing_geometries_are_passed_over() -> None:
    here = areas(field=["b", "a"])
    here.geometry = [columns(0, 2), Polygon()]
    assert mean_per_area(VALUES, UTM, TRANSFORM, here, "field")["pixels"].tolist() == [4, 0]
    here.geometry = [columns(0, 2), None]
    assert mean_per_area(VALUES, UTM, TRANSFORM, here, "field")["area"].tolist() == ["b"]


@pytest.mark.parametrize(
    ("change", "field", "expected"),
    [
        ({"crs": None}, "field", "have no CRS; add one to the file"),
        ({}, "name", "have no field 'name'; they have field, geometry; correct"),
    ],
)
def test_mean_per_area_unfit_areas_are_a_sentence(
    change: dict[str, None], field: str, expected: str
) -> None:
    here = areas(field=["b", "a"])
    if "crs" in change:
        here = here.set_crs(None, allow_override=True)
    with pytest.raises(DataError, match=expected):
        mean_per_area(VALUES, UTM, TRANSFORM, here, field)


def test_mean_per_area_none_that_reaches_the_map_is_refused() -> None:
    here = areas(field=["b", "a"])
    here.geometry = here.translate(xoff=5000)
    with pytest.raises(DataError, match="None of the 2 areas reaches the map"):
        mean_per_area(VALUES, UTM, TRANSFORM, here, "field")


def test_mean_per_area_counts_a_pixel_in_each_area_that_overlaps() -> None:
    here = areas(field=["all", "west"])
    here.geometry = [columns(0, 4), columns(0, 2)]
    for order in (here, here.iloc[::-1]):
        found = mean_per_area(VALUES, UTM, TRANSFORM, order, "field").set_index("area")
        assert found["pixels"].to_dict() == {"all": 7, "west": 4}
        assert found.loc["all", "mean"] == pytest.approx(32 / 7)
    here["field"] = "x"  # of one name, a pixel counts once
    assert mean_per_area(VALUES, UTM, TRANSFORM, here, "field")["pixels"].tolist() == [7]


def test_mean_per_area_without_a_name_is_told() -> None:
    found = mean_per_area(VALUES, UTM, TRANSFORM, areas(field=["b", None]), "field")
    assert found["area"].tolist() == ["b", "unnamed"]
    assert found["pixels"].tolist() == [4, 3]


def test_mean_per_area_takes_polygons_only() -> None:
    here = areas(field=["b", "a"])
    here.geometry = [columns(0, 2), columns(2, 4).centroid]
    assert mean_per_area(VALUES, UTM, TRANSFORM, here, "field")["pixels"].tolist() == [4, 0]


def test_mean_per_area_of_what_has_no_place_is_a_sentence() -> None:
    with pytest.raises(DataError, match="The map has no CRS"):
        mean_per_area(VALUES, None, TRANSFORM, areas(field=["b", "a"]), "field")
    with pytest.raises(DataError, match="have no geometries"):
        mean_per_area(VALUES, UTM, TRANSFORM, pd.DataFrame({"field": ["b"]}), "field")
