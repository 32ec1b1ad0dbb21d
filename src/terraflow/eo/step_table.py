"""The steps: one row each. Commands, tasks of Airflow, Makefile and pixi.toml follow from it.

Each row names a module, which holds a function `step(project, inputs) -> outputs`; where there is
something to see before long work `check(project, inputs)`, and where there is more to tell than
the outputs `show(project, outputs) -> exit code`. Importing this module imports none of them.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from terraflow.config import user_path
from terraflow.errors import ConfigError

__all__ = ["STEPS", "Option", "Step"]


@dataclass(frozen=True)
class Option:
    """An option of a step's command.

    Attributes
    ----------
    name : str
        As Python writes it: run_id for --run-id.
    kind : {"text", "uri", "number", "count", "flag"}
        A URI that is no address is a path, relative to the folder the user stands in.
    required : bool
        Then it may also be given without its name.
    """

    name: str
    help: str
    kind: str = "text"
    required: bool = False

    def read(self, text: Any) -> Any:
        """Turn what the user typed into a value; None where nothing was.

        Raises
        ------
        ConfigError
            It is no number, holds credentials, or is empty though required.
        """
        if self.required and text == "":
            raise ConfigError(f"{self.name} is empty; name {self.help}.")
        if not text:
            return None
        if self.kind == "uri":
            from terraflow.eo.config.addresses import checked_uri  # noqa: PLC0415 - needs pydantic

            return checked_uri(text if "://" in text else str(user_path(text)))
        if self.kind not in ("number", "count"):
            return text  # of a flag: True
        number = float("nan")
        with suppress(ValueError):
            number = int(text) if self.kind == "count" else float(text)
        if not abs(number) < float("inf"):
            dashes = "--" if len(self.name) > 1 else "-"
            option = f"{dashes}{self.name.replace('_', '-')}"
            raise ConfigError(f"{option} {text!r} is no number; correct it.")
        return number


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
    then : tuple of str
        Steps that follow it where a command runs it; each is a task of its own in a DAG.
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
    then: tuple[str, ...] = ()
    dag: str = ""
    aliases: tuple[str, ...] = ()


CONFIG = Option("config", "a project file instead of config/PROJECT.toml")
FILES = Option("files", 'rasters without a catalogue, as "scenes/*.tif"', "uri")
ITEMS = Option("items", "a STAC collection in place of the configured images", "uri")
MODEL = Option("model", "a model URI, as models:/NAME/3; the champion by default")
TRUST = Option("trust", "let a model run code which nobody here has vouched for", "flag")
MAP = Option("map", "a map; the champion's of the configured images", "uri")
FILE = Option("file", "a map", "uri", required=True)
TUNE = Option("tune", "search for parameters with so many trials", "count")
RUN = Option("run_id", "the run whose model is meant", required=True)
OUTPUT = Option("output", "a GeoTIFF, as map.tif", "uri")
MONTH = Option("month", "the scenes of one month alone, as 2024-05; latest for the newest scene's")
SERVED = Option(
    "served", "what the model server was asked in the last 7 days, in place of images", "flag"
)
PLACES = Option("n", "so many places; 50 by default", "count")
GPKG = Option("output", "a GeoPackage; label_next.gpkg here by default", "uri")
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
            then=("gate", "promote"),
            dag="training",
        ),
        Step(
            "gate",
            "terraflow.eo.promotion.gate",
            "Compare a model with the champion; nothing is changed.",
            (RUN,),
        ),
        Step(
            "promote",
            "terraflow.eo.promotion.promote",
            "Make a model the champion by hand.",
            (RUN,),
        ),
        Step(
            "scenes",
            "terraflow.eo.maps.scenes",
            "List the scenes in the store, and which of them a model has mapped.",
            (CONFIG, MODEL, TRUST, ITEMS),
        ),
        Step(
            "map",
            "terraflow.eo.maps.map",
            "Map the whole area.",
            (CONFIG, MODEL, TRUST, ITEMS, OUTPUT),
            after="ingest",
            dag="mapping",
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
            "label-next",
            "terraflow.eo.labelling.label_next",
            "Find places where labels would help a model most.",
            (CONFIG, MODEL, TRUST, PLACES, GPKG),
            after="ingest",
        ),
        Step(
            "reproduce",
            "terraflow.eo.maps.reproduce",
            "Make a map again and compare it pixel by pixel; exit code 1 if it differs.",
            (FILE, TRUST),
        ),
        Step(
            "monitor",
            "terraflow.eo.monitoring.monitor",
            "Measure the drift of new images or requests; exit code 3 if there is one.",
            (CONFIG, MODEL, TRUST, ITEMS, MONTH, SERVED, MAX_PSI, MAX_OUTSIDE),
            after="ingest",
            unless="served",
        ),
    )
}
