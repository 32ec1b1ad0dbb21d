from __future__ import annotations

import pandas as pd
import pytest

from terraflow.eo.validation.agreement import agree, agree_on_numbers, cohens_kappa


def told(**answers: list[str | None]) -> pd.DataFrame:
    rows = [
        (number, name, answer)
        for name, given in answers.items()
        for number, answer in enumerate(given, 1)
    ]
    return pd.DataFrame(rows, columns=["id", "interpreter", "reference"])


def test_kappa_follows_the_formula_by_hand() -> None:
    # 20 both yes, 5 yes and no, 10 no and yes, 15 both no: 0.7 observed, 0.5 by chance
    one = pd.Series(["yes"] * 25 + ["no"] * 25)
    other = pd.Series(["yes"] * 20 + ["no"] * 5 + ["yes"] * 10 + ["no"] * 15)
    assert cohens_kappa(one, other) == pytest.approx(0.4)
    assert cohens_kappa(one, one) == 1


def test_kappa_is_not_defined_of_one_value_or_of_no_common_point() -> None:
    assert cohens_kappa(pd.Series(["a", "a"]), pd.Series(["a", "a"])) is None
    assert cohens_kappa(pd.Series(["a", None]), pd.Series([None, "a"])) is None


def test_agreement_of_three_is_the_majority_and_lists_what_differs() -> None:
    found = agree(
        told(
            anna=["forest", "forest", "water", None, "forest"],
            ben=["forest", "water", "water", None, "water"],
            eva=["forest", "water", "water", None, None],
        )
    )
    assert found.interpreters == ["anna", "ben", "eva"]
    assert found.reference.where(found.reference.notna(), None).tolist() == [
        "forest",
        "water",
        "water",
        None,
        None,
    ]
    assert found.disagreements.index.tolist() == [2, 5]
    assert found.disagreements.loc[2].tolist() == ["forest", "water", "water"]
    assert set(found.kappa) == {"anna, ben", "anna, eva", "ben, eva"}
    assert found.kappa["ben, eva"] == 1


def test_agreement_of_one_is_what_it_says() -> None:
    found = agree(told(anna=["forest", "water"]))
    assert (found.reference.tolist(), found.kappa) == (["forest", "water"], {})
    assert found.disagreements.empty


def test_agreement_on_numbers_is_their_mean_and_how_far_they_are_apart() -> None:
    nan = float("nan")
    found = agree_on_numbers(
        told(anna=[1.0, 2.0, nan, nan], ben=[1.0, 5.0, 4.0, nan], eva=[nan, 2.0, nan, nan])
    )
    assert found.reference.tolist()[:3] == [1, 3, 4]
    assert found.reference.isna().tolist() == [False, False, False, True]
    assert found.mean_absolute_difference == {"anna, ben": 1.5, "anna, eva": 0, "ben, eva": 3}
    assert found.kappa == {}
    assert found.disagreements.index.tolist() == [2]
    apart = agree_on_numbers(told(anna=[1.0, nan], ben=[nan, 2.0])).mean_absolute_difference
    assert apart == {"anna, ben": None}
