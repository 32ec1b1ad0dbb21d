from __future__ import annotations

import numpy as np

from terraflow.eo.targets.classes.card import class_card
from terraflow.eo.targets.parts import Card, Evaluation, Score

CLASSES = ["forest", "rock | ice", "water"]


def card(matrix: list[list[int]]) -> Card:
    keys = ("users_accuracy", "producers_accuracy", "f1")
    scores = {"overall_accuracy": Score(0.9, 0.8, 1), "macro_f1": Score(0.7, 0.6, 0.8)}
    for i, name in enumerate(CLASSES):
        scores |= {f"{key}_{name}": Score(i / 10, 0, (i + j) / 10) for j, key in enumerate(keys)}
    return class_card(
        Evaluation(
            levels=CLASSES,
            scores=scores,
            at_random={"overall_accuracy": 0.967, "macro_f1": 0.902},
            sums=np.array(matrix),
            predictions=np.zeros((0, 3)),
            importance={},
        )
    )


def test_class_card_names_the_classes_and_what_they_cannot_tell() -> None:
    found = card(np.diag([3, 4, 5]).tolist())
    assert found.purpose == "It gives each pixel one of 3 classes (forest, rock | ice, water)."
    assert any("none of the classes" in limit for limit in found.limits)
    assert any("`invoke validate draw` draws a sample" in limit for limit in found.limits)


def test_class_card_scores_stand_beside_those_at_random() -> None:
    text = card(np.diag([3, 4, 5]).tolist()).scores
    assert "| overall accuracy | 0.900 (0.800 to 1.000) | 0.967 |" in text
    assert "| macro F1 | 0.700 (0.600 to 0.800) | 0.902 |" in text


def test_class_card_rows_are_of_the_class_that_they_name() -> None:
    text = card(np.diag([3, 4, 5]).tolist()).scores
    cells = "0.100 (0.000 to 0.100) | 0.100 (0.000 to 0.200) | 0.100 (0.000 to 0.300)"
    assert rf"| rock \| ice | {cells} |" in text


def test_class_card_confusions_are_the_three_most_frequent_of_the_reference_first() -> None:
    text = card([[90, 10, 7], [4, 36, 0], [1, 2, 9]]).scores
    expected = (
        "Most often confused: 10 of 107 labelled pixels of forest were taken for rock | ice; 7 of "
        "107 labelled pixels of forest were taken for water; 4 of 40 labelled pixels of rock | ice "
        "were taken for forest."
    )
    assert expected in text


def test_class_card_without_an_error_says_so() -> None:
    assert "No held-out pixel was wrong." in card(np.diag([3, 4, 5]).tolist()).scores
