from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from shapely.geometry import Polygon, box

from terraflow.eo.config.bounds import (
    Bounds,
    across,
    as_bounds,
    as_geometry,
    cut,
    jumps,
    overlap,
    parts,
    smallest,
    width_deg,
)

FIJI: Bounds = (179.5, -17, -179.5, -16)


def test_box_across_the_antimeridian_is_two() -> None:
    assert parts(FIJI) == [(179.5, -17, 180, -16), (-180, -17, -179.5, -16)]
    assert width_deg(FIJI) == 1
    assert as_geometry(FIJI).area == pytest.approx(1)
    assert as_geometry((1, 2, 3, 4)).equals(box(1, 2, 3, 4))
    assert as_bounds([1, 2, 0, 3, 4, 9]) == as_bounds([1, 2, 3, 4]) == (1, 2, 3, 4)


@pytest.mark.parametrize(
    ("boxes", "expected"),
    [
        ([(10, 0, 20, 5), (15, -5, 40, 1)], (10, -5, 40, 5)),
        ([(10, 0, 20, 5), (-150, 0, -140, 5)], (-150, 0, 20, 5)),
        ([(140, 0, 150, 5), (-160, 1, -150, 6)], (140, 0, -150, 6)),
        ([FIJI, (178, -18, 179, -17)], (178, -18, -179.5, -16)),
        ([(-180, -90, 180, 90), FIJI], (-180, -90, 180, 90)),
    ],
)
def test_smallest_leaves_out_the_widest_gap(boxes: list[Bounds], expected: Bounds) -> None:
    assert smallest(boxes) == expected
    assert smallest(boxes[::-1]) == expected


@given(st.lists(st.tuples(st.integers(-180, 179), st.integers(1, 90)), min_size=1, max_size=6))
def test_smallest_holds_all_boxes(places: list[tuple[int, int]]) -> None:
    boxes = [
        (float(west), 0.0, float(west + width - (360 if west + width > 180 else 0)), 1.0)
        for west, width in places
    ]
    around = as_geometry(smallest(boxes)).buffer(1e-9)
    assert all(around.covers(as_geometry(each)) for each in boxes)
    assert width_deg(smallest(boxes)) <= 360


@pytest.mark.parametrize(
    ("image", "area", "expected"),
    [
        ((10, 0, 20, 5), (15, 1, 40, 9), (15, 1, 20, 5)),
        ((10, 0, 20, 5), (21, 1, 40, 9), None),
        ((179, -18, -179, -16), FIJI, (179.5, -17, 180.5, -16)),
        ((179, -18, -179, -16), (-179.8, -17, -170, -16), (180.2, -17, 181, -16)),
        ((179, -18, -179, -16), (170, -17, 179.2, -16), (179, -17, 179.2, -16)),
        ((-180, -18, -179, -16), FIJI, (-180, -17, -179.5, -16)),
        ((178, -18, 179.8, -16), FIJI, (179.5, -17, 179.8, -16)),
        ((-180, -90, 180, 90), FIJI, (-180, -17, 180, -16)),
    ],
)
def test_overlap_is_told_in_the_turn_of_the_image(
    image: Bounds, area: Bounds, expected: Bounds | None
) -> None:
    assert overlap(image, area) == expected


def test_outline_that_jumps_is_cut_at_the_antimeridian() -> None:
    wrong = Polygon([(179.5, -17), (-179.5, -17), (-179.5, -16), (179.5, -16)])
    assert jumps(wrong)
    assert across(wrong).equals(as_geometry(FIJI))
    assert not jumps(as_geometry(FIJI))
    assert not jumps(box(-180, -90, 180, 90))
    assert cut(box(179.5, -17, 180.5, -16)).equals(as_geometry(FIJI))
    assert cut(box(-180.5, -17, -179.5, -16)).equals(as_geometry(FIJI))
