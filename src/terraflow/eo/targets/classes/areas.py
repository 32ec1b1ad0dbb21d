"""Area and accuracy of each class from a probability sample of a map, and the table of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from terraflow.console import command
from terraflow.eo.targets.area.design import Design, Interval, Stratum
from terraflow.eo.targets.area.unit import AreaUnit
from terraflow.eo.targets.parts import markdown_table
from terraflow.errors import DataError

__all__ = ["COUNTED", "AreaEstimate", "ClassArea", "area_table", "estimate_areas"]

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


@dataclass(frozen=True)
class ClassArea:
    """What a sample tells of one class.

    Attributes
    ----------
    area_m2 : Interval
        Where the reference has the class, mapped so or not.
    users_accuracy, producers_accuracy : Interval
        0 to 1; NaN for a class that no point is mapped as, or that no point is.
    mapped_points, reference_points : int
        Points that the map, or the reference, has in the class.
    """

    area_m2: Interval
    users_accuracy: Interval
    producers_accuracy: Interval
    mapped_points: int
    reference_points: int


@dataclass(frozen=True)
class AreaEstimate:
    """Areas and accuracies.

    Attributes
    ----------
    classes : dict
        Name to what is known of it.
    overall_accuracy : Interval
        0 to 1.
    matrix : list of list of Interval
        Shares (0-1) of the map's area, mapped classes as rows, reference classes as columns.
    points, strata : int
    """

    classes: dict[str, ClassArea]
    overall_accuracy: Interval
    matrix: list[list[Interval]]
    points: int
    strata: int

    def measures(self) -> dict[str, Interval]:
        """Give all that the sample can tell by names as those of a run's measures."""
        found = {"overall_accuracy": self.overall_accuracy}
        for name, area in self.classes.items():
            found |= {
                f"{key}_{name}": value
                for key, value in vars(area).items()
                if isinstance(value, Interval)
            }
        return {name: value for name, value in found.items() if value.to_dict()}

    def to_dict(self) -> dict[str, Any]:
        """Return plain values of JSON; None is what the sample can't tell."""
        return {
            "points": self.points,
            "strata": self.strata,
            "overall_accuracy": self.overall_accuracy.to_dict(),
            "classes": {
                name: {
                    key: value.to_dict() if isinstance(value, Interval) else value
                    for key, value in vars(area).items()
                }
                for name, area in self.classes.items()
            },
            "matrix": {
                "rows": "mapped",
                "columns": "reference",
                "unit": "share of the area",
                "shares": [[cell.to_dict() for cell in row] for row in self.matrix],
            },
            "measures": {name: value.to_dict() for name, value in self.measures().items()},
        }


def estimate_areas(
    sample: pd.DataFrame, strata: Mapping[str, Stratum], classes: Sequence[str]
) -> AreaEstimate:
    """Estimate areas and accuracies from a stratified random sample.

    Strata may be the mapped classes, or anything else that parts the map.

    Parameters
    ----------
    sample : DataFrame
        Columns stratum, mapped and reference, and cluster where points were drawn together.
    strata : mapping
        All strata of the map.
    classes : sequence of str
        Of the map.

    Raises
    ------
    DataError
        A point has a class that the map does not know, or a stratum has too few points.

    References
    ----------
    Stehman 2014, doi:10.1080/01431161.2014.930207; Olofsson et al. 2014,
    doi:10.1016/j.rse.2014.02.015, where strata are the mapped classes.
    """
    if unknown := sorted({*sample["reference"], *sample["mapped"]} - set(classes)):
        raise DataError(
            f"Points have the class {', '.join(map(str, unknown))}, which the map does not know; "
            f"it has {', '.join(classes)}; correct the points."
        )
    cluster = sample["cluster"].tolist() if "cluster" in sample else None
    design = Design(sample["stratum"].tolist(), strata, cluster)
    mapped, reference = (
        np.stack([(sample[key] == name).to_numpy() for name in classes])
        for key in ("mapped", "reference")
    )
    right = (mapped & reference).any(axis=0)
    return AreaEstimate(
        {
            name: ClassArea(
                area_m2=design.share(reference[i]).scaled(design.area_m2),
                users_accuracy=design.ratio(right, mapped[i]),
                producers_accuracy=design.ratio(right, reference[i]),
                mapped_points=int(mapped[i].sum()),
                reference_points=int(reference[i].sum()),
            )
            for i, name in enumerate(classes)
        },
        design.share(right),
        [[design.share(row & column) for column in reference] for row in mapped],
        len(sample),
        len(strata),
    )


def area_table(areas: Mapping[str, Any]) -> str:
    """Write areas and accuracies as Markdown, areas in hectares, or all in m2 where all are small.

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
    unit = AreaUnit.of(row["mapped_m2"] for row in areas["classes"].values())
    header = (
        "class",
        f"mapped area (pixel count), {unit.name}",
        "cross-validated user's accuracy",
        "cross-validated producer's accuracy",
    )
    rows = [
        (
            name,
            unit.write(row["mapped_m2"]),
            *(_number(score) for score in row["cross_validated"].values()),
        )
        for name, row in areas["classes"].items()
    ]
    yield markdown_table(header, rows)
    overall = _number(areas["cross_validated"]["overall_accuracy"])
    yield f"\nCross-validated overall accuracy: {overall}.\n\n{COUNTED}"
    yield f"`{command('validate', 'draw', '--map', areas['map']['uri'])}`."


def _sampled(areas: Mapping[str, Any]) -> Iterator[str]:
    unit = AreaUnit.of(row["mapped_m2"] for row in areas["classes"].values())
    header = (
        "class",
        f"mapped area (pixel count), {unit.name}",
        f"estimated area, {unit.name}",
        "user's accuracy",
        "producer's accuracy",
        "points mapped, reference",
    )
    rows = [
        (
            name,
            unit.write(row["mapped_m2"]),
            _interval(row["area_m2"], unit.write),
            _interval(row["users_accuracy"]),
            _interval(row["producers_accuracy"]),
            f"{row['mapped_points']}, {row['reference_points']}",
        )
        for name, row in areas["classes"].items()
    ]
    yield markdown_table(header, rows)
    yield f"\nOverall accuracy: {_interval(areas['overall_accuracy'])}.\n"
    yield SAMPLED.format(points=areas["points"], strata=areas["strata"])


def _number(score: float | None) -> str:
    return "not known" if score is None else f"{score:.2f}"


def _interval(
    interval: Mapping[str, float] | None, write: Callable[[float], str] = "{:.2f}".format
) -> str:
    if interval is None:
        return "not estimable"
    value, low, high = (write(interval[key]) for key in ("value", "low", "high"))
    return f"{value} ({low} to {high})"
