"""Where a map comes from, told by its file alone."""

from __future__ import annotations

from terraflow.console import table
from terraflow.eo.maps.map_file import MapInfo, read_info
from terraflow.eo.maps.validated import Validation, find_validation
from terraflow.eo.project import Inputs, OpenProject
from terraflow.eo.targets.parts import measure_name

__all__ = ["describe", "show", "step"]

LABELS = {
    "model": "model",
    "model_version": "version",
    "run_id": "run",
    "code_commit": "code commit",
    "lock_digest": "lock digest",
    "data_digest": "data digest",
    "seed": "seed",
    "items": "items",
    "items_digest": "items digest",
    "config_digest": "config digest",
    "version": "TerraFlow",
    "map_code_commit": "mapped by commit",
    "map_lock_digest": "mapped by lock",
    "target": "target",
    "note": "note",
}
#: Left out where a map does not tell them.
OPTIONAL = ("target", "note")


def step(project: OpenProject, inputs: Inputs) -> dict[str, list[tuple[str, str]]]:
    """Read the origin of `file`.

    Raises
    ------
    DataError
        The file is no map, or can't be read.
    """
    uri = inputs["file"]
    rows = [("map", uri), *describe(read_info(uri, project.storage))]
    found, remark = find_validation(uri, project.storage)
    if found:
        rows.append(("validated", _validated(found)))
    return {"origin": rows + ([("validated", remark)] if remark else [])}


def show(project: OpenProject, outputs: Inputs) -> int:
    """Print it."""
    del project
    first, *rows = outputs["origin"]
    table(first, rows)
    return 0


def describe(info: MapInfo) -> list[tuple[str, str]]:
    """Put a map's origin, values and grid into words: label and value."""
    told = info.origin.to_tags()
    scores = {name: measure_name(name) for name in info.origin.scores}
    rows = [
        (label, _number(told.get(key, "not known")))
        for key, label in (LABELS | scores).items()
        if key in told or key not in OPTIONAL
    ]
    band = info.bands[0]
    plural = band.name + ("es" if band.name.endswith("s") else "s")
    values = (plural, ", ".join(band.names.values())) if band.names else ("bands", _names(info))
    grid = f"{info.shape[0]} rows x {info.shape[1]} columns, {info.crs.to_string()[:60]}"
    return [*rows, values, ("grid", grid)]


def _validated(found: Validation) -> str:
    """Tell the first of the measures that a sample told, which is the target's main one."""
    name, told = next(iter(found.estimates["measures"].items()))
    value, low, high = (f"{told[key]:{_form(told[key])}}" for key in ("value", "low", "high"))
    return (
        f"by a probability sample of {found.points} points: {measure_name(name)} {value} "
        f"(95 % interval {low} to {high})"
    )


def _form(number: float) -> str:
    """Write shares with three decimals, and larger numbers with four digits."""
    return ".3f" if abs(number) <= 1 else ".4g"


def _names(info: MapInfo) -> str:
    return ", ".join(f"{b.name} ({b.unit})" if b.unit else b.name for b in info.bands)


def _number(text: str) -> str:
    """Shorten a long fraction."""
    whole, point, digits = text.partition(".")
    if point and whole.isdigit() and digits.isdigit() and len(digits) > 3:
        return f"{float(text):.3f}"
    return text
