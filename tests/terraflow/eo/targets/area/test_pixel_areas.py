"""Areas on the ellipsoid, beside geodesic areas of the same outlines."""

from __future__ import annotations

import geopandas as gpd
import numpy as np
import pytest
from affine import Affine
from pyproj import Geod, Transformer
from rasterio.crs import CRS
from shapely import Polygon, segmentize, transform
from shapely.geometry import box

from terraflow.eo.targets.area.pixel_areas import PixelAreas
from terraflow.errors import DataError

GEOD = Geod(ellps="WGS84")
#: CRS, pixel side in its unit, west, north; the first five lie at 46 degrees north.
GRIDS = [
    ("EPSG:32633", 10, 500_000, 5_100_000),
    ("EPSG:32633", 10, 240_000, 5_100_000),  # three degrees off the meridian
    ("EPSG:4326", 0.0001, 15.0, 46.0),
    ("EPSG:3857", 10, 1_669_792, 5_780_349),
    ("EPSG:3035", 10, 4_700_000, 2_600_000),
    ("EPSG:2263", 30, 980_000, 200_000),  # US survey feet
    ("EPSG:3857", 100, 2_000_000, 11_000_000),  # 70 degrees north
    ("EPSG:4326", 0.1, -20.0, 60.0),  # a country: 50 x 40 degrees
    ("EPSG:4326", 0.01, 178.0, -16.0),
    ("EPSG:3413", 1000, -900_000, 900_000),  # over the pole
]


def geodesic_m2(outline: Polygon, crs: str) -> float:
    """Area by GeographicLib of an outline whose edges are cut into short ones."""
    longest = 0.005 if CRS.from_user_input(crs).is_geographic else 300
    area, _ = GEOD.geometry_area_perimeter(moved(segmentize(outline, longest), crs, "EPSG:4326"))
    return abs(area)


def moved(outline: Polygon, crs: str, to: str) -> Polygon:
    transformer = Transformer.from_crs(crs, to, always_xy=True)
    return transform(outline, transformer.transform, interleaved=False)


@pytest.mark.parametrize("grid", GRIDS, ids=str)
@pytest.mark.parametrize("shape", [(60, 40), (400, 501)], ids=str)
def test_sum_of_pixels_is_the_geodesic_area(
    grid: tuple[str, float, float, float], shape: tuple[int, int]
) -> None:
    crs, side, west, north = grid
    rows, columns = shape
    areas = PixelAreas(CRS.from_user_input(crs), Affine(side, 0, west, 0, -side, north), shape)
    outline = box(west, north - side * rows, west + side * columns, north)
    expected = geodesic_m2(outline, crs)
    assert areas.sums(np.zeros(shape, int), 1)[0] == pytest.approx(expected, rel=1e-5)
    assert areas.of_polygons(gpd.GeoSeries([outline], crs=crs))[0] == pytest.approx(
        expected, rel=1e-5
    )


def test_pixel_of_web_mercator_at_46_degrees_has_half_its_nominal_area() -> None:
    areas = PixelAreas(CRS.from_epsg(3857), Affine(10, 0, 1_669_792, 0, -10, 5_780_349), (3, 4))
    total = areas.sums(np.zeros((3, 4), int), 1)[0]
    assert total / 12 == pytest.approx(48.27, abs=0.01)


def test_the_same_polygon_has_the_same_area_in_each_crs() -> None:
    """A triangle laid on a fine grid: its pixels against its geodesic area, within 0.01 %."""
    from rasterio.features import rasterize

    corners = Polygon([(15.01, 46.01), (15.09, 46.02), (15.04, 46.08)])
    expected = geodesic_m2(corners, "EPSG:4326")
    for crs, side in (("EPSG:32633", 2), ("EPSG:4326", 0.00002), ("EPSG:3857", 3)):
        dense = moved(segmentize(corners, 0.001), "EPSG:4326", crs)
        west, south, east, north = dense.bounds
        shape = (int((north - south) / side) + 2, int((east - west) / side) + 2)
        place = Affine(side, 0, west - side, 0, -side, north + side)
        inside = rasterize([dense], shape, transform=place, dtype="uint8")
        areas = PixelAreas(CRS.from_user_input(crs), place, shape).sums(inside, 2)
        assert areas[1] == pytest.approx(expected, rel=1e-4), crs


def test_sums_are_of_each_value_and_blocks_cover_all_rows() -> None:
    values = np.zeros((2500, 900), "uint8")
    values[:, 300:] = 2
    areas = PixelAreas(CRS.from_epsg(4326), Affine(0.001, 0, 15, 0, -0.001, 47), values.shape)
    nothing, none, most = areas.sums(values, 3)
    assert none == 0
    assert most == pytest.approx(2 * nothing, rel=1e-9)
    rows = [rows for rows, _ in areas.blocks()]
    assert len(rows) > 1
    assert [row for part in rows for row in range(part.start, part.stop)] == list(range(2500))


def test_turned_and_flipped_grids_have_the_same_area() -> None:
    crs = CRS.from_epsg(32633)
    north_up = Affine(10, 0, 500_000, 0, -10, 5_100_000)
    turned = Affine.translation(500_000, 5_100_000) * Affine.rotation(30) * Affine.scale(10, -10)
    flipped = Affine(10, 0, 500_000, 0, 10, 5_099_000)
    totals = [
        PixelAreas(crs, place, (100, 100)).sums(np.zeros((100, 100), int), 1)[0]
        for place in (north_up, turned, flipped)
    ]
    assert totals == pytest.approx([totals[0]] * 3, rel=1e-5)


@pytest.mark.parametrize("crs", [None, CRS.from_wkt('LOCAL_CS["plan",UNIT["metre",1]]')])
def test_crs_without_a_place_on_earth_is_refused(crs: CRS | None) -> None:
    with pytest.raises(DataError, match=r"no place on Earth and no area; map again"):
        PixelAreas(crs, Affine.scale(10, -10), (2, 2))


def test_pixels_outside_of_the_earth_have_no_area() -> None:
    """The corners of Mollweide's ellipse, of a map of the whole Earth."""
    side, shape = 20_000, (910, 1810)
    corner = Affine(side, 0, -side * shape[1] / 2, 0, -side, side * shape[0] / 2)
    areas = PixelAreas(CRS.from_user_input("ESRI:54009"), corner, shape)
    [*blocks] = areas.blocks()
    every = np.concatenate([block for _, block in blocks])
    assert every[0, 0] == every[-1, -1] == 0
    assert every[455, 905] == pytest.approx(side**2, rel=0.01)
    assert every.sum() == pytest.approx(5.1e14, rel=0.01)
