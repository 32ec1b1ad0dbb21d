"""The steps: one row each. Commands, tasks of Airflow, Makefile and pixi.toml follow from it.

Each row names a module, which holds a function `step(project, inputs) -> outputs`; where there is
something to see before long work `check(project, inputs)`, and where there is more to tell than
the outputs `show(project, outputs) -> exit code`. Importing this module imports none of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from terraflow.config import user_path
from terraflow.console import say
from terraflow.errors import ConfigError, TerraFlowError, error_place, first_line, nearest

if TYPE_CHECKING:
    from terraflow.eo.project import Inputs, OpenProject

__all__ = ["STEPS", "Option", "Step", "check", "find_step", "run_step", "run_up_to", "show"]


@dataclass(frozen=True)
class Option:
    """An option of a step's command.

    Attributes
    ----------
    name : str
        As Python writes it: run_id for --run-id.
    kind : {"text", "uri", "number", "count"}
        A URI that is no address is a path, relative to the folder the user stands in.
    required : bool
        Then it may also be given without its name.
    """

    name: str
    help: str
    kind: str = "text"
    required: bool = False

    def read(self, text: str) -> Any:
        """Turn what the user typed into a value; None where nothing was.

        Raises
        ------
        ConfigError
            It is no number, or holds credentials.
        """
        if not text:
            return None
        if self.kind == "uri":
            from terraflow.eo.config.addresses import checked_uri  # noqa: PLC0415 - needs pydantic

            return checked_uri(text if "://" in text else str(user_path(text)))
        if self.kind not in ("number", "count"):
            return text
        try:
            return int(text) if self.kind == "count" else float(text)
        except ValueError:
            option = f"--{self.name.replace('_', '-')}"
            raise ConfigError(f"{option} {text!r} is no number; correct it.") from None


@dataclass(frozen=True)
class Step:
    """One row of the table.

    Attributes
    ----------
    name : str
        Of the step, of its command and of its task in a DAG.
    module : str
    summary : str
        What it does, in one line.
    options : tuple of Option
    after : str
        Step that is brought up to date before; "" for none.
    unless : str
        Option with which that is not needed.
    dag : str
        Ending of the DAG that runs it, as PROJECT_training; its command then has --airflow.
    aliases : tuple of str
        Former names of its command.
    """

    name: str
    module: str
    summary: str
    options: tuple[Option, ...] = ()
    after: str = ""
    unless: str = ""
    dag: str = ""
    aliases: tuple[str, ...] = ()


CONFIG = Option("config", "a project file instead of config/PROJECT.toml")
FILES = Option("files", 'rasters without a catalogue, as "scenes/*.tif"', "uri")
ITEMS = Option("items", "a STAC collection in place of the configured images", "uri")
MODEL = Option("model", "a model URI, as models:/NAME/3; the champion by default")
MAP = Option("map", "a map; the champion's of the configured images", "uri")
FILE = Option("file", "a map", "uri", required=True)
TUNE = Option("tune", "search for parameters with so many trials", "count")
RUN = Option("run_id", "the run whose model becomes the champion", required=True)
OUTPUT = Option("output", "a GeoTIFF, as map.tif", "uri")
MAX_PSI = Option("max_psi", "instead of [monitor] max_psi", "number")
MAX_OUTSIDE = Option("max_outside", "instead of [monitor] max_outside_range", "number")

STEPS = {
    step.name: step
    for step in (
        Step(
            "ingest",
            "terraflow.eo.images.ingest",
            "Bring images of the area into the store.",
            (CONFIG, FILES),
        ),
        Step(
            "preprocess",
            "terraflow.eo.samples.preprocess",
            "Make samples of images and labels, and report on the data.",
            (CONFIG, ITEMS),
            after="ingest",
        ),
        Step(
            "train",
            "terraflow.eo.training.train",
            "Train the model; images and samples are brought up to date first.",
            (CONFIG, ITEMS, TUNE),
            after="preprocess",
            dag="training",
        ),
        Step(
            "promote",
            "terraflow.eo.training.promotion",
            "Make a model the champion by hand.",
            (RUN,),
        ),
        Step(
            "map",
            "terraflow.eo.maps.map",
            "Map the whole area.",
            (CONFIG, MODEL, ITEMS, OUTPUT),
            after="ingest",
        ),
        Step(
            "report",
            "terraflow.eo.maps.report",
            "Write a map's picture and tables, and polygons where it has any.",
            (CONFIG, MAP),
            after="ingest",
            unless="map",
        ),
        Step(
            "origin",
            "terraflow.eo.maps.origin",
            "Tell where a map comes from.",
            (FILE,),
            aliases=("explain",),
        ),
        Step(
            "reproduce",
            "terraflow.eo.maps.reproduce",
            "Make a map again and compare it pixel by pixel; exit code 1 if it differs.",
            (FILE,),
        ),
        Step(
            "monitor",
            "terraflow.eo.monitoring.monitor",
            "Measure the drift of new images; exit code 3 if there is one.",
            (CONFIG, MODEL, ITEMS, MAX_PSI, MAX_OUTSIDE),
            after="ingest",
        ),
    )
}


def find_step(name: str, project: OpenProject) -> Callable[[OpenProject, Inputs], Any]:
    """Find the function of a step: the project's own first.

    Raises
    ------
    ConfigError
        There is no step of that name; the nearest are told.
    """
    own = project.project.steps
    if name in own:
        return own[name]
    if name not in STEPS:
        known = [*STEPS, *own]
        near = nearest(name, known) or sorted(known)
        raise ConfigError(f"Step {name!r} is not known; write one of {', '.join(near)}.")
    function: Callable[[OpenProject, Inputs], Any] = import_module(STEPS[name].module).step
    return function


def run_step(name: str, project: OpenProject, inputs: Inputs) -> dict[str, Any]:
    """Run one step on what the step before it returned, as a task of a DAG does.

    Returns
    -------
    dict
        What it returned, a record as plain values.

    Raises
    ------
    ConfigError
        There is no such step, or a step of the project failed or returned something else.
    """
    function = find_step(name, project)
    own = name in project.project.steps
    told_name = getattr(function, "__qualname__", type(function).__qualname__)
    told = f"Step {name} ({function.__module__}:{told_name})"
    try:
        outputs = function(project, inputs)
    except TerraFlowError:
        raise
    except Exception as error:
        if not own:
            raise
        raise ConfigError(
            f"{told} failed with {type(error).__name__}: {first_line(error)}{error_place(error)}; "
            "correct it."
        ) from error
    if hasattr(outputs, "to_dict"):
        outputs = outputs.to_dict()
    if not isinstance(outputs, Mapping):
        raise ConfigError(
            f"{told} returned {type(outputs).__name__}; a dict of names to URIs and plain values "
            "is expected; correct it."
        )
    return dict(outputs)


def check(name: str, project: OpenProject, options: Inputs) -> None:
    """See before long work what can be seen of a step and those before it.

    Raises
    ------
    TerraFlowError
        Something is wrong.
    """
    find_step(name, project)
    for step in _chain(name, options):
        if step in STEPS and step not in project.project.steps:
            look = getattr(import_module(STEPS[step].module), "check", None)
            if look:
                look(project, options)


def run_up_to(name: str, project: OpenProject, options: Inputs | None = None) -> dict[str, Any]:
    """Bring the steps before one up to date, then run it, and tell how long each took.

    Parameters
    ----------
    options : mapping, optional
        Of the step, by the names in its row: items, model, tune, ...

    Raises
    ------
    ConfigError
        There is no such step, or an option is wrong: told before any work.
    """
    options = options or {}
    check(name, project, options)
    chain = _chain(name, options)
    value: dict[str, Any] = dict(options)
    for step in chain:
        began = time.monotonic()
        if len(chain) > 1:
            say(f"{step} ...")
        value = {**options, **run_step(step, project, value)}
        if len(chain) > 1:
            say(f"{step}: {time.monotonic() - began:.1f} s")
    return value


def show(name: str, project: OpenProject, outputs: Inputs) -> int:
    """Tell the user what a step returned; return the exit code."""
    own = name in project.project.steps
    module = None if own else import_module(STEPS[name].module)
    if module and hasattr(module, "show"):
        return int(module.show(project, outputs) or 0)
    for key, value in outputs.items():
        if value not in (None, "") and key != "record_version":
            say(f"{key}: {value}")
    return 0


def _chain(name: str, options: Inputs) -> list[str]:
    """List a step and those before it, the first one first."""
    chain = [name]
    while (row := STEPS.get(chain[0])) and row.after and not options.get(row.unless):
        chain.insert(0, row.after)
    return chain
