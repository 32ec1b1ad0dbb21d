"""The table of areas that a reader gets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from terraflow.console import command
from terraflow.eo.targets.parts import markdown_table

__all__ = ["COUNTED", "area_table"]

COUNTED = (
    "Mapped areas are pixel counts: the map's errors are in them, which need not cancel out, and "
    "they have no interval. The accuracies are of the labelled pixels of the model's training, in "
    "spatial cross-validation. They do not tell the accuracy of this map, and areas can't be "
    "corrected by them. A probability sample of this map tells both, with intervals:"
)
SAMPLED = (
    "Areas and accuracies are estimated from a probability sample of this map, of {points} points "
    "in {strata} strata, whose reference classes were interpreted. Intervals are 95 %; they tell "
    "chance, and not mistakes of who interpreted. Estimators: Stehman 2014, "
    "<https://doi.org/10.1080/01431161.2014.930207>, and Olofsson et al. 2014, "
    "<https://doi.org/10.1016/j.rse.2014.02.015>."
)
M2_PER_HA = 10_000


def area_table(areas: Mapping[str, Any]) -> str:
    """Write areas and accuracies as Markdown, areas in hectares.

    Parameters
    ----------
    areas : mapping
        As `report.class_areas` gives them.
    """
    about = areas["map"]
    lines = [
        "# Area of each class",
        "",
        f"Map: {about['model']}, run {about.get('run_id', 'unknown')}. "
        f"{areas['nodata_px']} of {areas['total_px']} pixels have no class.",
        "",
    ]
    if note := about.get("note"):
        lines += [f"**{note}**", ""]
    if areas["remark"]:
        lines += [areas["remark"], ""]
    lines += _sampled(areas) if areas["method"] == "probability sample" else _counted(areas)
    return "\n".join(lines) + "\n"


def _counted(areas: Mapping[str, Any]) -> Iterator[str]:
    header = (
        "class",
        "mapped area (pixel count), ha",
        "cross-validated user's accuracy",
        "cross-validated producer's accuracy",
    )
    rows = [
        (name, _hectares(row), *(_number(score) for score in row["cross_validated"].values()))
        for name, row in areas["classes"].items()
    ]
    yield markdown_table(header, rows)
    overall = _number(areas["cross_validated"]["overall_accuracy"])
    yield f"\nCross-validated overall accuracy: {overall}.\n\n{COUNTED}"
    yield f"`{command('validate', 'draw', '--map', areas['map']['uri'])}`."


def _sampled(areas: Mapping[str, Any]) -> Iterator[str]:
    header = (
        "class",
        "mapped area (pixel count), ha",
        "estimated area, ha",
        "user's accuracy",
        "producer's accuracy",
        "points mapped, reference",
    )
    rows = [
        (
            name,
            _hectares(row),
            _interval(row["area_m2"], 1 / M2_PER_HA, ",.1f"),
            _interval(row["users_accuracy"]),
            _interval(row["producers_accuracy"]),
            f"{row['mapped_points']}, {row['reference_points']}",
        )
        for name, row in areas["classes"].items()
    ]
    yield markdown_table(header, rows)
    yield f"\nOverall accuracy: {_interval(areas['overall_accuracy'])}.\n"
    yield SAMPLED.format(points=areas["points"], strata=areas["strata"])


def _hectares(row: Mapping[str, Any]) -> str:
    return f"{row['mapped_m2'] / M2_PER_HA:,.1f}"


def _number(score: float | None) -> str:
    return "not known" if score is None else f"{score:.2f}"


def _interval(interval: Mapping[str, float] | None, factor: float = 1, form: str = ".2f") -> str:
    if interval is None:
        return "not estimable"
    value, low, high = (f"{interval[key] * factor:{form}}" for key in ("value", "low", "high"))
    return f"{value} ({low} to {high})"
