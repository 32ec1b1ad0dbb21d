from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from terraflow.eo.validation.size import ALLOCATIONS, allocate, points_needed
from terraflow.errors import ConfigError

# Olofsson et al. 2014, section 5.1.1
SHARES = np.array([0.020, 0.015, 0.320, 0.645])
USERS = np.array([0.70, 0.60, 0.90, 0.95])
SPREADS = np.sqrt(USERS * (1 - USERS))
SIZES = np.array([200_000, 150_000, 3_200_000, 6_450_000])


def test_points_needed_of_olofssons_example_are_the_published_641() -> None:
    assert points_needed(SHARES, SPREADS, 0.01, SIZES.sum()) == 641


def test_points_needed_are_fewer_of_a_small_map() -> None:
    assert points_needed(SHARES, SPREADS, 0.01, 1000) == 384
    with pytest.raises(ConfigError, match=r"--target-se 1\.5 is no standard error"):
        points_needed(SHARES, SPREADS, 1.5, 1000)


def test_allocations_of_olofssons_example_are_the_published_ones() -> None:
    """Section 5.1.2, table 5: equal 160 each, proportional 13, 10, 205, 413."""
    given = (641, SIZES, SHARES, SPREADS)
    assert np.abs(allocate(*given, "equal") - [160, 160, 160, 161]).max() <= 1
    assert np.abs(allocate(*given, "proportional") - [13, 10, 205, 413]).max() <= 1
    neyman = allocate(*given, "neyman")
    assert np.abs(neyman - 641 * SHARES * SPREADS / (SHARES @ SPREADS)).max() <= 1


def test_small_strata_have_two_points_or_all_of_their_pixels() -> None:
    sizes = np.array([1_000_000, 50, 1])
    counts = allocate(100, sizes, sizes / sizes.sum(), np.ones(3))
    assert counts.tolist() == [97, 2, 1]
    assert allocate(100, sizes, sizes / sizes.sum(), np.ones(3), "equal").tolist() == [50, 49, 1]


@given(
    sizes=st.lists(st.integers(1, 10_000), min_size=1, max_size=6),
    part=st.floats(0, 1),
    how=st.sampled_from(ALLOCATIONS),
)
def test_allocation_gives_all_points_and_none_twice(
    sizes: list[int], part: float, how: str
) -> None:
    n = np.array(sizes)
    least = np.minimum(2, n).sum()
    points = int(least + part * (n.sum() - least))
    counts = allocate(points, n, n / n.sum(), np.linspace(0.2, 0.5, len(n)), how)
    assert counts.sum() == points
    assert (counts <= n).all()
    assert (counts >= np.minimum(2, n)).all()


@pytest.mark.parametrize("points", [3, 101])
def test_too_few_or_too_many_points_are_refused(points: int) -> None:
    with pytest.raises(ConfigError, match=rf"--points {points} can't be drawn .* give 4 to 100"):
        allocate(points, np.array([50, 50]), np.array([0.5, 0.5]), np.ones(2))
    with pytest.raises(ConfigError, match="--allocation some is not known; write proportional"):
        allocate(10, np.array([50, 50]), np.array([0.5, 0.5]), np.ones(2), "some")
