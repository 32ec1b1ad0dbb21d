from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import t as student
from sklearn.metrics import f1_score

from terraflow.eo.built_in import Classification
from terraflow.eo.promotion.comparison import Difference
from terraflow.eo.promotion.comparison import compare as compare_for
from terraflow.eo.promotion.comparison import pair as pair_for
from terraflow.eo.targets.numbers import Numbers
from terraflow.eo.targets.parts import NotComparableError


def compare(pixels: pd.DataFrame, **options: Any) -> Difference:
    return compare_for(pixels, Classification(), **options)


def pair(challenger: pd.DataFrame, champion: pd.DataFrame) -> pd.DataFrame:
    return pair_for(challenger, champion, Classification())


def table(block: list[int], reference: str, challenger: str, champion: str) -> pd.DataFrame:
    columns = {"class_name": reference, "challenger": challenger, "champion": champion}
    return pd.DataFrame({"block": block} | {name: list(word) for name, word in columns.items()})


def held_out(places: list[int], reference: str, predicted: str) -> pd.DataFrame:
    """Pixels of two a block, at x = place."""
    return pd.DataFrame(
        {
            "x": np.array(places, float),
            "y": 0.5,
            "block": np.array(places) // 2,
            "class_name": list(reference),
            "predicted": list(predicted),
        }
    )


def test_compare_equal_predictions_differ_by_exactly_nothing() -> None:
    found = compare(table([0, 0, 1, 1, 2, 2], "ababab", "abaabb", "abaabb"))
    assert (found.value, found.low, found.high) == (0.0, 0.0, 0.0)
    assert (found.pixels, found.blocks, found.better) == (6, 3, False)


def test_compare_better_alike_in_every_block_has_no_spread() -> None:
    blocks = [block for block in range(20) for _ in "ab"]
    found = compare(table(blocks, "ab" * 20, "ab" * 20, "aa" * 20))
    # of a block the champion has F1 of 2/3 for a and 0 for b
    assert (found.value, found.low, found.high) == pytest.approx((2 / 3, 2 / 3, 2 / 3))
    assert found.better


def test_compare_one_block_decides_lower_bound_is_not_above_zero() -> None:
    blocks = [block for block in range(10) for _ in "ab"]
    found = compare(table(blocks, "ab" * 10, "ab" * 10, "ba" + "ab" * 9))
    assert found.value == pytest.approx(0.1)
    assert found.low < 0
    assert not found.better
    assert found.high > 0.1


def test_compare_worse_has_an_upper_bound_below_zero() -> None:
    blocks = [block for block in range(20) for _ in "ab"]
    found = compare(table(blocks, "ab" * 20, "aa" * 20, "ab" * 20))
    assert found.high < 0


@settings(max_examples=20)
@given(st.integers(0, 1000), st.integers(3, 6))
def test_compare_variance_is_that_of_scikit_learns_scores_by_weighted_blocks(
    seed: int, blocks: int
) -> None:
    random = np.random.default_rng(seed)
    words = ["".join(random.choice(list("abc"), 60)) for _ in range(3)]
    pixels = table(list(np.arange(60) % blocks), *words)
    found = compare(pixels)

    def difference(weights: np.ndarray) -> float:
        options = {"average": "macro", "sample_weight": weights, "zero_division": 0}
        challenger, champion = (
            f1_score(pixels["class_name"], pixels[who], **options)
            for who in ("challenger", "champion")
        )
        return float(challenger - champion)

    assert found.value == pytest.approx(difference(np.ones(60)))
    inside = [(pixels["block"] == b).to_numpy(float) for b in range(blocks)]
    moves = np.array([difference(1 + 1e-5 * i) - difference(1 - 1e-5 * i) for i in inside]) / 2e-5
    variance = moves @ moves * blocks / (blocks - 1)
    counted = (moves @ moves) ** 2 / (moves**4).sum()
    fewest = pixels.groupby("class_name")["block"].nunique().min()
    freedom = max(counted, min(3 * counted - 2, fewest - 1))
    margin = student.ppf(0.975, freedom) * np.sqrt(variance)
    assert found.high - found.value == pytest.approx(margin, rel=1e-4)
    assert found.value - found.low == pytest.approx(margin, rel=1e-4)


def patches(counts: np.ndarray, challenger: np.ndarray, champion: np.ndarray) -> pd.DataFrame:
    """Pixels of classes a, b and c.

    Parameters
    ----------
    counts : ndarray, shape (block, class), int
        Pixels of each class.
    challenger, champion : ndarray, shape (block, class), int
        Those that are right; the others of a, b, c are taken for b, a, b.
    """
    names, errors = np.array(list("abc")), np.array(list("bab"))
    block, number = np.divmod(np.repeat(np.arange(counts.size), counts.ravel()), 3)
    place = np.concatenate([np.arange(n) for n in counts.ravel()])
    decided = [
        np.where(place < np.repeat(right.ravel(), counts.ravel()), names[number], errors[number])
        for right in (challenger, champion)
    ]
    columns = {"class_name": names[number], "challenger": decided[0], "champion": decided[1]}
    return pd.DataFrame({"block": block} | columns)


def rare(blocks: int) -> tuple[np.ndarray, np.ndarray]:
    """Class c in so many of 20 blocks, missed by the champion, else no error: counts and right."""
    counts = np.tile([20, 20, 0], (20, 1))
    counts[:blocks, 2] = 20
    missed = counts.copy()
    missed[:, 2] = 0
    return counts, missed


def test_compare_class_in_three_of_twenty_blocks_decides() -> None:
    counts, missed = rare(3)
    found = compare(patches(counts, counts, missed))
    assert found.value == pytest.approx(1 / 3 + (1 - 800 / 860) / 3)  # +0.357
    assert found.low > 0.3
    assert (found.better, found.left_out) == (True, [])


def test_compare_class_in_two_blocks_has_no_say() -> None:
    counts, missed = rare(2)
    found = compare(patches(counts, counts, missed))
    assert (found.value, found.better, found.left_out) == (0, False, ["c"])
    assert found.pixels == 800


def test_compare_classes_in_too_few_blocks_alone_are_not_compared() -> None:
    with pytest.raises(NotComparableError, match="of a and of b lie in fewer than 3 blocks"):
        compare(table([0, 0, 1, 1], "abab", "abab", "abaa"))


def draw_equal_models(
    random: np.random.Generator, blocks: int, of_c: int, right: list[float], alike: list[float]
) -> pd.DataFrame:
    """Two models that are equally good, and err patch by patch, each for itself.

    Parameters
    ----------
    of_c : int
        Blocks that hold c.
    right : list of float
        Share of each class that either model finds.
    alike : list of float
        How much the pixels of a class in a block err together: 0 are independent, of 1 all or none
        is right.
    """
    counts = np.stack([random.integers(5, 40, blocks) for _ in range(3)], axis=1)
    counts[random.permutation(blocks)[of_c:], 2] = 0
    found = []
    for _ in range(2):
        chance = np.empty(counts.shape)
        for i, (p, rho) in enumerate(zip(right, alike, strict=True)):
            spread = (1 - rho) / rho if rho else 0
            chance[:, i] = (
                random.random(blocks) < p
                if rho == 1
                else random.beta(p * spread, (1 - p) * spread, blocks)
                if rho
                else p
            )
        found.append(random.binomial(counts, chance))
    return patches(counts, *found)


#: Blocks, those that hold c, share that is right of each class, how much pixels err together.
EQUAL: dict[str, tuple[Any, ...]] = {
    "c all or none in 3 of 20": (20, 3, [0.97, 0.97, 0.5], [0.05, 0.05, 1]),
    "c in 3 of 20": (20, 3, [0.97, 0.97, 0.8], [0.05, 0.05, 0.3]),
    "c in 5 of 20": (20, 5, [0.9, 0.9, 0.6], [0.2, 0.2, 0.6]),
    "c in 4 of 8": (8, 4, [0.9, 0.9, 0.6], [0.2, 0.2, 0.6]),
    "c in 40 of 40": (40, 40, [0.9, 0.8, 0.7], [0.2, 0.2, 0.2]),
}


def draw_equal_numbers(random: np.random.Generator, blocks: int, tail: float) -> pd.DataFrame:
    """Two models of a number that are equally good, and err block by block.

    Parameters
    ----------
    tail : float
        Standard deviation of the logarithm of how large errors are in a block.
    """
    block = np.repeat(np.arange(blocks), random.integers(5, 40, blocks))
    reference = random.normal(5, 2, len(block))
    hard = np.exp(random.normal(0, tail, blocks))
    errors = random.normal(0, 1, (2, blocks)) * hard * np.exp(random.normal(0, tail / 2, blocks))
    decided = reference + errors[:, block] + random.normal(0, 0.3, (2, len(block)))
    names = ("challenger", "champion")
    return pd.DataFrame(
        {"block": block, "value": reference} | dict(zip(names, decided, strict=True))
    )


#: Blocks, and how unequal their errors are.
EQUAL_NUMBERS = {
    f"numbers in {blocks} blocks, {tail}": (blocks, tail)
    for blocks in (3, 5, 10, 30)
    for tail in (0.3, 1.5)
}


def share_promoted(case: str, times: int) -> float:
    random = np.random.default_rng(0)
    if case in EQUAL:
        drawn = (draw_equal_models(random, *EQUAL[case]) for _ in range(times))
        return sum(compare(pixels).better for pixels in drawn) / times
    numbers = (draw_equal_numbers(random, *EQUAL_NUMBERS[case]) for _ in range(times))
    return sum(compare_for(pixels, Numbers()).better for pixels in numbers) / times


@pytest.mark.slow
@pytest.mark.parametrize("case", [*EQUAL, *EQUAL_NUMBERS])
def test_compare_equal_models_are_seldom_promoted(case: str) -> None:
    assert share_promoted(case, 200) <= 0.05


@pytest.mark.exhaustive
@pytest.mark.parametrize("case", [*EQUAL, *EQUAL_NUMBERS])
def test_compare_equal_models_are_promoted_in_at_most_5_per_cent(case: str) -> None:
    assert share_promoted(case, 2000) <= 0.05


def test_compare_smaller_errors_in_all_blocks_and_by_far_in_three() -> None:
    """Where the champion is worst was taken for chance: -0.345 had an upper bound of +0.003."""
    block, errors = np.repeat(np.arange(30), 10), np.tile([0.9, 0.75, 0.9], 10)
    errors[[0, 3, 6]] = 2, 1.4, 1.2
    pixels = pd.DataFrame(
        {"block": block, "value": 5.0, "challenger": 5.6, "champion": 5 + errors[block]}
    )
    found = compare_for(pixels, Numbers())
    assert found.value == pytest.approx(0.6 - np.sqrt((errors**2).mean()))
    assert found.better


def test_compare_model_that_is_better_everywhere_is_promoted() -> None:
    """Five of a hundred pixels more are right, in 40 blocks: in nine of ten draws."""
    random, won = np.random.default_rng(0), 0
    for _ in range(50):
        counts = random.integers(20, 40, (40, 3))
        chance = random.beta(16, 4, (40, 3))  # what is hard is so for both
        better = random.binomial(counts, np.minimum(chance + 0.05, 1))
        won += compare(patches(counts, better, random.binomial(counts, chance))).better
    assert won >= 45


def test_compare_weighs_pixels_by_what_they_stand_for() -> None:
    """The challenger is better for 10 pixels that stand for 10, and worse for 10 of 1000."""
    blocks = [block for block in range(10) for _ in "ab"]
    pixels = table(blocks, "ab" * 10, "aa" * 10, "bb" * 10)
    assert compare(pixels).value == 0
    alike = compare(pixels, label_counts={"a": 500, "b": 500})
    assert alike.value == 0
    found = compare(pixels, label_counts={"a": 10, "b": 1000})
    # F1 of b: 0 for the challenger, 2 * 1000 / (1000 + 1010) for the champion; of a the reverse
    a, b = 2 * 10 / (1010 + 10), 2 * 1000 / (1010 + 1000)
    assert found.value == pytest.approx((a - b) / 2)


def test_pair_joins_pixels_and_keeps_the_challengers_blocks() -> None:
    challenger, champion = held_out([0, 1, 2, 3], "abab", "aabb"), held_out([3, 1, 0], "bba", "bab")
    champion["block"] += 90
    found = pair(challenger, champion)
    assert found.to_dict("list") == {
        "block": [0, 0, 1],
        "class_name": ["a", "b", "b"],
        "challenger": ["a", "a", "b"],
        "champion": ["b", "a", "b"],
    }


def test_pair_rounding_errors_of_coordinates_do_not_matter() -> None:
    pixels = held_out([0, 1, 2, 3], "abab", "aabb")
    assert len(pair(pixels, pixels.assign(x=pixels["x"] + 1e-11))) == 4


def test_pair_pixel_of_another_reference_class_is_dropped() -> None:
    found = pair(held_out([0, 1, 2, 3], "abab", "aabb"), held_out([0, 1, 2, 3], "aaab", "aabb"))
    assert found["block"].tolist() == [0, 1, 1]


def test_pair_too_few_common_pixels_are_refused() -> None:
    challenger = held_out([0, 1, 2, 3, 4], "ababa", "aabba")
    with pytest.raises(NotComparableError, match="only 2 of its 5 tested pixels"):
        pair(challenger, held_out([0, 3], "ab", "ab"))


def test_pair_one_block_is_refused() -> None:
    pixels = held_out([0, 1], "ab", "ab")
    with pytest.raises(NotComparableError, match="lie in 1 block, and 2 are expected"):
        pair(pixels, pixels)


def test_pair_other_classes_are_refused() -> None:
    with pytest.raises(NotComparableError, match="it tells a, b apart, the champion a, c"):
        pair(held_out([0, 2], "ab", "ab"), held_out([0, 2], "ac", "ac"))


def test_pair_blocks_cut_otherwise_are_not_comparable() -> None:
    one, other = (held_out([0, 1, 2, 3, 4, 5], "ababab", "ababab") for _ in range(2))
    with pytest.raises(NotComparableError, match="on blocks that were cut otherwise"):
        pair(one, other.assign(block=other["x"].astype(int) // 3))
    with pytest.raises(NotComparableError, match="on blocks that were cut otherwise"):
        pair(one.assign(block=one["x"].astype(int)), other)


def test_pair_blocks_with_other_numbers_are_the_same() -> None:
    one, other = (held_out([0, 1, 2, 3, 4, 5], "ababab", "ababab") for _ in range(2))
    assert len(pair(one, other.assign(block=10 - other["block"]))) == 6
