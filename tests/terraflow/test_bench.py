from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from bench import Figure, compare, run

from terraflow.errors import ConfigError

HERE = {"processor": "this one"}


def last(figure: Figure, machine: dict[str, Any] = HERE) -> dict[str, Any]:
    return {"machine": machine, "figures": [asdict(figure)]}


@pytest.mark.parametrize(
    ("better", "old", "new", "marked"),
    [
        ("less", 1.0, 1.21, True),
        ("less", 1.0, 1.19, False),
        ("less", 1.0, 0.5, False),
        ("more", 1.0, 0.79, True),
        ("more", 1.0, 0.81, False),
        ("more", 1.0, 2.0, False),
    ],
)
def test_compare_marks_what_got_worse_by_more_than_a_fifth(
    better: Any, old: float, new: float, marked: bool
) -> None:
    verdicts = compare(
        [Figure("start", [new], better=better)], last(Figure("start", [old], better=better)), HERE
    )
    assert ("REGRESSION from 1" in verdicts["start"]) is marked


@pytest.mark.parametrize(("portable", "marked"), [(True, True), (False, False)])
def test_compare_with_another_machine_takes_only_what_is_portable(
    portable: bool, marked: bool
) -> None:
    old = last(Figure("start", [1.0], portable=portable), {"processor": "another"})
    verdicts = compare([Figure("start", [9.0], portable=portable)], old, HERE)
    assert bool(verdicts["start"]) is marked


def test_compare_takes_the_median_of_the_runs() -> None:
    old = last(Figure("start", [1.0, 1.0, 9.0]))
    assert compare([Figure("start", [0.1, 1.1, 9.0])], old, HERE) == {"start": ""}


@pytest.mark.parametrize(
    ("better", "value", "kept"),
    [("less", 0.5, True), ("less", 0.51, False), ("more", 0.5, True), ("more", 0.49, False)],
)
def test_compare_without_last_results_judges_by_the_bound(
    better: Any, value: float, kept: bool
) -> None:
    verdicts = compare([Figure("x", [value], better=better, bound=0.5)], {}, HERE)
    assert verdicts["x"] == ("" if kept else "misses its bound")


def test_run_of_an_unknown_part_lists_the_known(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--only stck names no .* stack, dags, map, serve"):
        run(["stck"], tmp_path)
