"""Task validate: areas, or the mean, of a map from a probability sample of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from invoke.context import Context

from terraflow.console import command, say, table
from terraflow.eo.step_table import Option
from terraflow.errors import ConfigError, did_you_mean
from terraflow.stack.lifecycle.readiness import wait_for
from terraflow.stack.lifecycle.work import working
from terraflow.tasks.steps import CONFIG, STORES
from terraflow.tasks.task import optional_argument, task

if TYPE_CHECKING:
    from terraflow.eo.project import OpenProject
    from terraflow.eo.validation.read import Interpreted

__all__ = ["validate"]

#: Actions to the options that each takes, beside --map and --config.
ACTIONS = {
    "draw": ("points", "target_se", "allocation", "strata", "seed", "output", "no_chips"),
    "read": ("also", "drop_missing"),
}
VALUED = (
    *("--map", "--points", "--target-se", "--allocation", "--strata", "--seed", "--output"),
    *("--also", "--config"),
)
#: Disagreements that are printed; all are written.
_SHOWN = 20


@task(
    private=False,
    positional=optional_argument("validate", "action", "file", valued=VALUED),
    iterable=["also"],
    auto_shortflags=False,
    help={
        "action": "draw a sample of a map, or read its points",
        "file": "of read: the points, as points.gpkg",
        "map": "of draw: the map; of read: where it lies now, if it was moved",
        "points": "of draw: how many; by default as many as --target-se needs",
        "target_se": "of draw: standard error of overall accuracy (0.01 by default) or mean",
        "allocation": "of draw: proportional, equal or neyman",
        "strata": "of draw: what strata are made of: see docs/validate.md",
        "seed": "of draw: the same map and seed give the same points",
        "output": "of draw: a new folder; validation/ID of the map by default",
        "no_chips": "of draw: no pictures of the points",
        "also": "of read: the points of a further interpreter; may be repeated",
        "drop_missing": "of read: leave out points without a reference, as if by chance",
        "config": CONFIG,
    },
)
def validate(
    c: Context,
    also: list[str],
    action: str | None = None,
    file: str | None = None,
    map: str = "",
    points: str = "",
    target_se: str = "",
    allocation: str = "",
    strata: str = "",
    seed: str = "",
    output: str = "",
    no_chips: bool = False,
    drop_missing: bool = False,
    config: str = "",
) -> None:
    """Draw a probability sample of a map, or read its points and estimate areas or a mean."""
    given = {key: value for key, value in locals().items() if value and key not in ("c", "action")}
    action = _check(action or "", given)
    from terraflow.eo.project import open_project

    options = {
        "map": Option("map", "", "uri").read(map) or "",
        "points": Option("points", "", "count").read(points),
        "target_se": Option("target_se", "", "number").read(target_se),
        "seed": Option("seed", "", "count").read(seed),
    }
    opened = open_project(config)
    wait_for(opened.storage.settings, STORES)
    with working(opened.storage.settings):
        if action == "draw":
            _draw(opened, options, allocation, strata, output, chips=not no_chips)
        else:
            _read(opened, [file or "", *also], options["map"], drop_missing=drop_missing)


def _check(action: str, given: dict[str, Any]) -> str:
    """Refuse what an action does not take."""
    if action not in ACTIONS:
        raise ConfigError(
            f"validate {action} is not known{did_you_mean(action, ACTIONS)}; write validate draw "
            "or validate read."
        )
    allowed = {*ACTIONS[action], "map", "config", *(["file"] if action == "read" else [])}
    if wrong := sorted(given.keys() - allowed):
        names = ", ".join(f"--{name.replace('_', '-')}" for name in wrong)
        raise ConfigError(f"validate {action} takes no {names}; leave it out.")
    if action == "draw" and "map" not in given:
        raise ConfigError("validate draw needs a map; name it by --map.")
    if action == "read" and "file" not in given:
        raise ConfigError("validate read needs points; name them, as validate read points.gpkg.")
    return action


def _draw(
    opened: OpenProject,
    options: dict[str, Any],
    allocation: str,
    strata: str,
    output: str,
    *,
    chips: bool,
) -> None:
    from terraflow.config import user_path
    from terraflow.eo.maps.map_file import read_info
    from terraflow.eo.targets.area.unit import AreaUnit
    from terraflow.eo.validation.draw import draw

    info = read_info(options["map"], opened.storage)
    folder = user_path(output or f"validation/{info.origin.id}")
    sample = draw(
        opened,
        options["map"],
        folder,
        points=options["points"],
        target_se=options["target_se"],
        allocation=allocation,
        strata_by=strata,
        seed=options["seed"],
        chips=chips,
    )
    counts = dict.fromkeys(sample.strata, 0)
    for point in sample.points:
        counts[point.stratum] += 1
    unit = AreaUnit.of(each.area_m2 for each in sample.strata.values())
    rows = [
        (name, str(each.pixels), unit.write(each.area_m2), str(counts[name]))
        for name, each in sample.strata.items()
    ]
    table(("stratum", "pixels", f"area ({unit.name})", "points"), rows)
    say(f"\n{len(sample.points)} points: {folder / 'points.gpkg'}")
    say(f"Open {folder / 'points.qgs'} in QGIS, fill in `reference` and `interpreter`, and then")
    say(f"`{command('validate', 'read', str(folder / 'points.gpkg'))}`.")


def _read(opened: OpenProject, files: list[str], map_uri: str, *, drop_missing: bool) -> None:
    from terraflow.config import user_path
    from terraflow.eo.maps.report import report
    from terraflow.eo.validation.read import estimate, interpret, record

    paths = [user_path(file) for file in files]
    found = interpret(paths, opened.storage, map_uri=map_uri)
    _show_agreement(found, str(paths[0].with_name("disagreements.csv")))
    validation, points = estimate(opened, found, drop_missing=drop_missing)
    written = record(opened, found, validation, points)
    made = report(found.map, opened.hooks.target, opened.config.map, opened.storage)
    say(made.table)
    for uri in written:
        say(f"validation: {uri}")


def _show_agreement(found: Interpreted, path: str) -> None:
    for pair, kappa in found.agreement.kappa.items():
        told = "not defined" if kappa is None else f"{kappa:.2f}"
        say(f"Cohen's kappa of {pair}: {told}")
    for pair, apart in found.agreement.mean_absolute_difference.items():
        told = "not defined" if apart is None else f"{apart:.4g}"
        say(f"Mean absolute difference of {pair}: {told}")
    differing = found.agreement.disagreements
    if len(differing):
        differing.to_csv(path)
        say(f"{len(differing)} points on which they differ: {path}")
        shown = differing.head(_SHOWN).fillna("")
        rows = [(str(i), *map(str, row)) for i, row in zip(shown.index, shown.values, strict=True)]
        table(("id", *map(str, differing.columns)), rows)
