"""Areas from probability samples, beside published ones and simulated draws."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from terraflow.eo.targets.area.design import Interval, Stratum
from terraflow.eo.targets.classes.areas import AreaEstimate, estimate_areas
from terraflow.errors import DataError

HA = 10_000
Z = 1.959964
# Olofsson et al. 2014, section 5: rows are map classes, columns reference classes
CLASSES = ["deforestation", "forest gain", "stable forest", "stable non-forest"]
MATRIX = np.array([[66, 0, 5, 4], [0, 55, 8, 12], [1, 0, 153, 11], [2, 1, 9, 313]])
MAPPED_PX = [200_000, 150_000, 3_200_000, 6_450_000]


def points(matrix: np.ndarray, names: list[str]) -> pd.DataFrame:
    """Make the points of a matrix (mapped, reference), whose rows are the strata."""
    rows, columns = (np.repeat(axis.ravel(), matrix.ravel()) for axis in np.indices(matrix.shape))
    mapped = np.array(names)[rows]
    return pd.DataFrame(
        {"stratum": mapped, "mapped": mapped, "reference": np.array(names)[columns]}
    )


def sized(names: list[str], pixels: list[int], pixel_m2: float = 1) -> dict[str, Stratum]:
    return {
        name: Stratum(level=name, pixels=n, area_m2=n * pixel_m2)
        for name, n in zip(names, pixels, strict=True)
    }


def estimate(matrix: object, pixels: list[int], names: str = "ab") -> AreaEstimate:
    return estimate_areas(points(np.array(matrix), [*names]), sized([*names], pixels), [*names])


@pytest.fixture(scope="module")
def olofsson() -> AreaEstimate:
    # the paper takes the pixels for infinitely many
    strata = sized(CLASSES, [1000 * n for n in MAPPED_PX], 900 / 1000)
    return estimate_areas(points(MATRIX, CLASSES), strata, CLASSES)


def published(interval: Interval, unit: float = 1, digits: int = 2) -> tuple[float, float]:
    """Value and margin by the quantile that the paper takes."""
    margin = 1.96 * interval.standard_error
    return round(interval.value / unit, digits), round(margin / unit, digits)


def test_areas_of_olofssons_example_are_the_published_ones(olofsson: AreaEstimate) -> None:
    found = {n: published(c.area_m2, HA, 0) for n, c in olofsson.classes.items()}
    assert found == {
        "deforestation": (21_158, 6_158),
        "forest gain": (11_686, 3_756),
        "stable forest": (285_770, 15_510),
        "stable non-forest": (581_386, 16_282),
    }
    assert published(olofsson.overall_accuracy) == (0.95, 0.02)


def test_accuracies_of_olofssons_example_are_the_published_ones(olofsson: AreaEstimate) -> None:
    classes = olofsson.classes.values()
    assert [published(c.users_accuracy) for c in classes] == [
        (0.88, 0.07),
        (0.73, 0.10),
        (0.93, 0.04),
        (0.96, 0.02),
    ]
    assert [published(c.producers_accuracy) for c in classes] == [
        (0.75, 0.21),
        (0.85, 0.25),
        (0.93, 0.03),
        (0.96, 0.02),
    ]


def test_matrix_of_olofssons_example_is_in_shares_of_the_area(olofsson: AreaEstimate) -> None:
    shares = np.array([[cell.value for cell in row] for row in olofsson.matrix])
    assert shares[0] == pytest.approx([0.0176, 0, 0.0013, 0.0011], abs=5e-5)
    assert shares[3] == pytest.approx([0.0040, 0.0020, 0.0179, 0.6212], abs=5e-5)
    assert shares.sum() == pytest.approx(1)


def test_stehmans_example_has_the_published_estimates_and_errors() -> None:
    """Stehman 2014, table 2: ten points in each of four strata, which are not the map's classes."""
    sample = pd.DataFrame(
        {
            "stratum": [*("A" * 10 + "B" * 10 + "C" * 10 + "D" * 10)],
            "mapped": [*("A" * 7 + "B" * 3 + "A" + "B" * 11 + "C" * 6 + "B" * 2 + "D" * 10)],
            "reference": [*("AAAAACBABC" + "ABBBBBAABB" + "CCCCCDDBBA" + "DDDDDDDCCB")],
        }
    )
    strata = sized([*"ABCD"], [40_000, 30_000, 20_000, 10_000], 1 / 100_000)
    found = estimate_areas(sample, strata, [*"ABCD"])
    a, b, c, _ = found.classes.values()
    rows = {
        "area A": (a.area_m2, 0.35, 0.082),
        "area C": (c.area_m2, 0.20, 0.064),
        "overall": (found.overall_accuracy, 0.63, 0.085),
        "user's B": (b.users_accuracy, 0.574, 0.125),
        "producer's B": (b.producers_accuracy, 0.794, 0.117),
    }
    for name, (interval, value, error) in rows.items():
        assert interval.value == pytest.approx(value, abs=5e-4), name
        assert interval.standard_error == pytest.approx(error, abs=6e-4), name
    assert found.matrix[1][2].value == pytest.approx(0.08)


def test_two_classes_follow_the_formula_by_hand() -> None:
    # W = 0.75, 0.25; of 10 mapped a, 8 are a; of 5 mapped b, 1 is a
    found = estimate([[8, 2], [1, 4]], [75_000, 25_000])
    area, share = found.classes["a"].area_m2, 0.75 * 0.8 + 0.25 * 0.2
    parts = 0.75**2 * 0.8 * 0.2 / 9, 0.25**2 * 0.2 * 0.8 / 4
    assert area.value == pytest.approx(100_000 * share)
    assert area.standard_error == pytest.approx(100_000 * np.sqrt(sum(parts)), rel=1e-3)
    assert found.classes["a"].producers_accuracy.value == pytest.approx(0.6 / share)


def test_few_points_have_students_quantile() -> None:
    # of 2 points in each of two strata one is right: 1 degree of freedom in each
    found = estimate([[1, 1], [1, 1]], [100_000, 100_000]).classes["a"].users_accuracy
    assert found.standard_error == pytest.approx(0.5, rel=1e-3)
    assert (found.low, found.high) == (0, 1)
    found = estimate([[9, 3], [3, 9]], [100_000, 100_000]).classes["a"].users_accuracy
    assert found.value - found.low == pytest.approx(2.201 * found.standard_error, rel=1e-3)


def test_points_that_are_all_right_have_wilsons_interval() -> None:
    found = estimate([[20, 0], [0, 30]], [70_000, 30_000])
    assert found.classes["a"].users_accuracy.value == 1
    assert found.classes["a"].users_accuracy.low == pytest.approx(20 / (20 + Z**2), rel=1e-4)
    assert found.classes["b"].users_accuracy.low == pytest.approx(30 / (30 + Z**2), rel=1e-4)
    low = 1 - np.hypot(0.7 * Z**2 / (20 + Z**2), 0.3 * Z**2 / (30 + Z**2))
    assert found.overall_accuracy.low == pytest.approx(low, rel=1e-4)
    area = found.classes["a"].area_m2
    assert area.low < 0.95 * area.value < 70_000 < 1.02 * area.value < area.high
    for each in (found.overall_accuracy, *vars(found.classes["a"]).values()):
        if isinstance(each, Interval):
            assert each.low < each.high


def test_points_that_are_all_wrong_have_an_interval_too() -> None:
    found = estimate([[0, 10], [0, 10]], [50_000, 50_000])
    users = found.classes["a"].users_accuracy
    assert (users.value, users.low) == (0, pytest.approx(0, abs=1e-9))
    assert users.high == pytest.approx(Z**2 / (10 + Z**2), rel=1e-4)
    assert found.classes["a"].area_m2.high > 0
    assert np.isnan(found.classes["a"].producers_accuracy.value)


def test_class_that_is_not_mapped_has_an_area_and_no_users_accuracy() -> None:
    found = estimate([[8, 2], [0, 0]], [100_000, 0]).classes["b"]
    assert found.area_m2.value == pytest.approx(20_000)
    assert np.isnan(found.users_accuracy.value)
    assert found.producers_accuracy.value == 0
    assert found.producers_accuracy.high > 0.5


def test_stratum_of_which_all_pixels_were_looked_at_leaves_nothing_to_chance() -> None:
    found = estimate([[8, 2], [0, 3]], [100_000, 3]).classes["b"].users_accuracy
    assert (found.low, found.value, found.high) == (1, 1, 1)
    halved = estimate([[8, 2], [1, 4]], [20, 10]).classes["a"].users_accuracy
    whole = estimate([[8, 2], [1, 4]], [200_000, 100_000]).classes["a"].users_accuracy
    assert halved.standard_error == pytest.approx(np.sqrt(0.5) * whole.standard_error, rel=1e-3)


def clustered(cluster: list[int]) -> Interval:
    sample = points(np.array([[6, 6], [0, 4]]), ["a", "b"]).assign(cluster=cluster)
    strata = sized(["a", "b"], [75_000, 25_000])
    return estimate_areas(sample, strata, ["a", "b"]).classes["a"].users_accuracy


def test_points_that_were_drawn_together_count_as_one() -> None:
    alone = clustered(list(range(16)))
    together = clustered([0] * 6 + [1] * 6 + [2, 2, 3, 3])
    # two clusters of opposite points: the error of two points
    assert together.value == alone.value == 0.5
    assert alone.standard_error == pytest.approx(np.sqrt(0.25 / 11), rel=1e-3)
    assert together.standard_error == pytest.approx(0.5)
    mixed = clustered([0, 1, 2, 3, 4, 5] * 2 + [6, 6, 7, 7])
    assert mixed.standard_error == pytest.approx(0, abs=1e-9)
    assert mixed.low < 0.5 < mixed.high


def test_clusters_over_strata_are_the_units_over_all() -> None:
    across = clustered([0] * 6 + [1] * 6 + [0, 0, 1, 1])
    assert across.standard_error == pytest.approx(0.5)
    with pytest.raises(DataError, match="at least 2 points, or clusters, in each stratum"):
        clustered([0] * 12 + [0, 0, 0, 0])


@pytest.mark.parametrize("n", [0, 1])
def test_stratum_with_too_few_points_is_refused(n: int) -> None:
    with pytest.raises(DataError, match=rf"b \(25 px, {n} points\).*at least 2 points"):
        estimate([[8, 2], [0, n]], [75, 25])


def test_unknown_classes_and_strata_are_refused() -> None:
    sample = points(np.diag([5, 5]), ["a", "x"])
    with pytest.raises(DataError, match="the class x, which the map does not know; it has a, b"):
        estimate_areas(sample, sized(["a", "b"], [50, 50]), ["a", "b"])
    with pytest.raises(DataError, match="in the strata x, and the sample has a"):
        estimate_areas(sample, sized(["a"], [50]), ["a", "x"])


@given(
    matrix=arrays("int64", (3, 3), elements=st.integers(1, 50)),
    mapped=st.lists(st.integers(200, 10**7), min_size=3, max_size=3),
)
def test_areas_add_up_to_the_map_and_intervals_hold_their_values(
    matrix: np.ndarray, mapped: list[int]
) -> None:
    found = estimate(matrix, mapped, "abc")
    total = sum(area.area_m2.value for area in found.classes.values())
    assert total == pytest.approx(sum(mapped))
    for area in found.classes.values():
        for each in (area.area_m2, area.users_accuracy, area.producers_accuracy):
            assert each.low <= each.value <= each.high
    assert json.loads(json.dumps(found.to_dict())) == found.to_dict()
    assert "NaN" not in json.dumps(estimate([[8, 2], [0, 0]], [100, 0]).to_dict())
