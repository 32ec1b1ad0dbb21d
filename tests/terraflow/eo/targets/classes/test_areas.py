from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from terraflow.eo.targets.classes.areas import (
    ClassArea,
    Interval,
    error_matrix,
    estimate_areas,
    sampling_weights,
)
from terraflow.errors import DataError

HA = 10_000
# Olofsson et al. 2014, section 5: rows are map classes, columns reference classes
CLASSES = ["deforestation", "forest gain", "stable forest", "stable non-forest"]
MATRIX = np.array([[66, 0, 5, 4], [0, 55, 8, 12], [1, 0, 153, 11], [2, 1, 9, 313]])
MAPPED_PX = np.array([200_000, 150_000, 3_200_000, 6_450_000])


def rounded(interval: Interval) -> tuple[float, float]:
    return round(interval.value, 2), round(interval.margin, 2)


def in_ha(area: ClassArea) -> tuple[int, ...]:
    hectares = (area.mapped_m2, area.area_m2.value, area.area_m2.margin)
    return tuple(round(m2 / HA) for m2 in hectares)


def test_estimate_areas_of_olofssons_example_are_the_published_ones() -> None:
    estimate = estimate_areas(MATRIX, MAPPED_PX, CLASSES, pixel_m2=900)
    assert {name: in_ha(area) for name, area in estimate.classes.items()} == {
        "deforestation": (18_000, 21_158, 6_158),
        "forest gain": (13_500, 11_686, 3_756),
        "stable forest": (288_000, 285_770, 15_510),
        "stable non-forest": (580_500, 581_386, 16_282),
    }
    assert rounded(estimate.overall_accuracy) == (0.95, 0.02)


def test_estimate_areas_of_olofssons_example_give_the_published_accuracies() -> None:
    classes = estimate_areas(MATRIX, MAPPED_PX, CLASSES, pixel_m2=900).classes
    assert [rounded(area.users_accuracy) for area in classes.values()] == [
        (0.88, 0.07),
        (0.73, 0.10),
        (0.93, 0.04),
        (0.96, 0.02),
    ]
    assert [rounded(area.producers_accuracy) for area in classes.values()] == [
        (0.75, 0.21),
        (0.85, 0.25),
        (0.93, 0.03),
        (0.96, 0.02),
    ]


def test_estimate_areas_of_a_map_without_errors_are_the_mapped_ones() -> None:
    estimate = estimate_areas(np.diag([5, 9]), np.array([30, 10]), ["a", "b"], pixel_m2=100)
    assert estimate.classes["a"].area_m2 == Interval(3000, 0)
    assert estimate.classes["b"].area_m2 == Interval(1000, 0)
    assert estimate.overall_accuracy == Interval(1, 0)


def test_estimate_areas_of_two_classes_follow_the_formula_by_hand() -> None:
    # W = 0.75, 0.25; of 10 mapped a, 8 are a; of 5 mapped b, 1 is a
    estimate = estimate_areas(
        np.array([[8, 2], [1, 4]]), np.array([75, 25]), ["a", "b"], pixel_m2=1
    )
    share = 0.75 * 0.8 + 0.25 * 0.2
    error = np.sqrt(0.75**2 * 0.8 * 0.2 / 9 + 0.25**2 * 0.2 * 0.8 / 4)
    assert estimate.classes["a"].area_m2.value == pytest.approx(100 * share)
    assert estimate.classes["a"].area_m2.margin == pytest.approx(100 * 1.96 * error)
    assert estimate.classes["a"].producers_accuracy.value == pytest.approx(0.6 / share)


def test_estimate_areas_of_a_class_that_is_not_mapped_need_no_sample() -> None:
    estimate = estimate_areas(
        np.array([[8, 2], [0, 0]]), np.array([100, 0]), ["a", "b"], pixel_m2=1
    )
    unmapped = estimate.classes["b"]
    assert unmapped.area_m2.value == pytest.approx(20)
    assert np.isnan(unmapped.users_accuracy.value)
    assert np.isnan(unmapped.users_accuracy.margin)
    assert unmapped.producers_accuracy.value == 0


def test_estimate_areas_of_a_class_that_no_sample_is_have_no_producers_accuracy() -> None:
    estimate = estimate_areas(
        np.array([[8, 0], [3, 0]]), np.array([60, 40]), ["a", "b"], pixel_m2=1
    )
    assert estimate.classes["b"].area_m2 == Interval(0, 0)
    assert np.isnan(estimate.classes["b"].producers_accuracy.value)
    assert np.isnan(estimate.classes["b"].producers_accuracy.margin)


def test_estimate_areas_of_weighted_samples_follow_the_formula_by_hand() -> None:
    # of 10 mapped a, 8 are a, each for 3 labelled pixels, and 2 are b: 24 of 26
    estimate = estimate_areas(
        np.array([[8, 2], [1, 4]]), np.array([75, 25]), ["a", "b"], 1, np.array([3.0, 1.0])
    )
    share, other = 24 / 26, 3 / 7
    assert estimate.classes["a"].users_accuracy.value == pytest.approx(share)
    assert estimate.classes["a"].area_m2.value == pytest.approx(75 * share + 25 * other)
    spread = (8 * 9 * (2 / 26) ** 2 + 2 * (24 / 26) ** 2) / 26**2 * 10 / 9
    margin = 1.96 * np.sqrt(spread)
    assert estimate.classes["a"].users_accuracy.margin == pytest.approx(margin)


def test_estimate_areas_of_equal_weights_are_those_without() -> None:
    table = (MATRIX, MAPPED_PX, CLASSES, 900)
    plain, weighted = (estimate_areas(*table, weights=w) for w in (None, np.full(4, 7.0)))
    for name in CLASSES:
        one, other = plain.classes[name].area_m2, weighted.classes[name].area_m2
        assert (other.value, other.margin) == pytest.approx((one.value, one.margin))


def balanced(random: np.random.Generator) -> np.ndarray:
    """Samples, (mapped, reference): 1000 of each class; 5 % of a mapped as b, 10 % of b as a."""
    missed, wrong = random.binomial(1000, [0.1, 0.05])
    return np.array([[1000 - wrong, missed], [wrong, 1000 - missed]])


def test_estimate_areas_of_a_rare_class_sampled_as_often_as_the_other_hold_the_truth() -> None:
    """Class b is 1 % of the area and of 100 000 labelled pixels."""
    random, names = np.random.default_rng(0), ["a", "b"]
    mapped_px = np.array([941_500, 58_500])
    found, naive = [], []
    for _ in range(400):
        matrix = balanced(random)
        weights = sampling_weights(matrix, {"a": 99_000, "b": 1000}, names)
        found.append(estimate_areas(matrix, mapped_px, names, 1, weights).classes["b"].area_m2)
        naive.append(estimate_areas(matrix, mapped_px, names, 1).classes["b"].area_m2)
    held = [abs(area.value - 10_000) <= area.margin for area in found]
    assert np.mean(held) > 0.93
    assert np.mean([area.value for area in found]) == pytest.approx(10_000, rel=0.05)
    assert np.mean([area.margin for area in found]) < 3500
    assert min(area.value - area.margin for area in naive) > 100_000  # ten times the truth


@pytest.mark.parametrize("samples", [0, 1])
def test_estimate_areas_of_a_mapped_class_with_too_few_samples_are_refused(samples: int) -> None:
    matrix = np.array([[8, 2], [0, samples]])
    with pytest.raises(DataError, match=rf"b \(25 px, {samples} samples\).*at least 2.*add labels"):
        estimate_areas(matrix, np.array([75, 25]), ["a", "b"], pixel_m2=1)


def test_estimate_areas_of_an_empty_map_are_refused() -> None:
    with pytest.raises(DataError, match="no classified pixel"):
        estimate_areas(np.diag([5, 5]), np.array([0, 0]), ["a", "b"], pixel_m2=1)


@given(
    matrix=arrays("int64", (3, 3), elements=st.integers(1, 50)),
    mapped=arrays("int64", 3, elements=st.integers(1, 10**7)),
)
def test_estimate_areas_add_up_to_the_mapped_area(matrix: np.ndarray, mapped: np.ndarray) -> None:
    estimate = estimate_areas(matrix, mapped, ["a", "b", "c"], pixel_m2=100)
    total = sum(area.area_m2.value for area in estimate.classes.values())
    assert total == pytest.approx(100 * mapped.sum())
    assert all(area.area_m2.margin >= 0 for area in estimate.classes.values())


def test_error_matrix_has_mapped_rows_and_reference_columns() -> None:
    reference = pd.Series(["a", "a", "b", "b"])
    predicted = pd.Series(["a", "b", "b", "b"])
    matrix = error_matrix(reference, predicted, ["a", "b", "c"])
    assert matrix.tolist() == [[1, 0, 0], [1, 2, 0], [0, 0, 0]]


def test_error_matrix_of_an_unknown_class_is_refused() -> None:
    with pytest.raises(DataError, match="class x, which the map does not know; it has a, b"):
        error_matrix(pd.Series(["a", "x"]), pd.Series(["a", "b"]), ["a", "b"])


def test_sampling_weights_are_labelled_pixels_for_each_sample() -> None:
    matrix = np.array([[8, 2, 0], [2, 3, 0], [0, 0, 0]])
    weights = sampling_weights(matrix, {"a": 40, "b": 5, "c": 9}, ["a", "b", "c"])
    assert weights.tolist() == [4, 1, 1]


def test_sampling_weights_of_more_samples_than_labelled_pixels_are_refused() -> None:
    with pytest.raises(DataError, match=r"Class b has 4 reference samples of 3 labelled pixels"):
        sampling_weights(np.diag([5, 4]), {"a": 5, "b": 3}, ["a", "b"])
