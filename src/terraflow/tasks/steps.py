"""Tasks of the steps, from images to maps and their drift, and of the models they make."""

from __future__ import annotations

from invoke.context import Context

from terraflow.tasks.task import number, task

__all__ = [
    "explain",
    "ingest",
    "map",
    "monitor",
    "preprocess",
    "promote",
    "report",
    "reproduce",
    "train",
]

CONFIG = "a project file instead of config/land_cover.toml"
ITEMS = "a STAC collection in place of the configured images"
MODEL = "a model URI, as models:/land-cover/3; the champion by default"


@task(help={"config": CONFIG, "files": 'rasters without a catalogue, as "scenes/*.tif"'})
def ingest(c: Context, config: str = "", files: str = "") -> int:
    """Bring images of the area into the store."""
    from terraflow.eo import commands as steps

    return steps.ingest(config, files=files)


@task(help={"config": CONFIG, "items": ITEMS})
def preprocess(c: Context, config: str = "", items: str = "") -> int:
    """Make samples of images and labels, and report on the data."""
    from terraflow.eo import commands as steps

    return steps.preprocess(config, items=items)


@task(
    help={
        "config": CONFIG,
        "items": ITEMS,
        "tune": "search for parameters with so many trials",
        "airflow": "run it as a DAG and wait for it",
    }
)
def train(
    c: Context, config: str = "", items: str = "", tune: str = "0", airflow: bool = False
) -> int:
    """Train the land cover model; images and samples are brought up to date first."""
    from terraflow.eo import commands as steps

    return steps.train(config, items=items, tune=int(number(tune, "--tune", int)), airflow=airflow)


@task(help={"run_id": "the run whose model becomes the champion"})
def promote(c: Context, run_id: str) -> int:
    """Make a model the champion by hand."""
    from terraflow.eo import commands as steps

    return steps.promote(run_id)


@task(help={"config": CONFIG, "model": MODEL, "items": ITEMS, "output": "a GeoTIFF, as map.tif"})
def map(c: Context, config: str = "", model: str = "", items: str = "", output: str = "") -> int:
    """Map the whole area."""
    from terraflow.eo import commands as steps

    return steps.make_map(config, model=model, items=items, output=output)


@task(help={"config": CONFIG, "map_": "a map; the champion's of the configured images"})
def report(c: Context, config: str = "", map_: str = "") -> int:
    """Write a map's polygons, picture and areas with intervals."""
    from terraflow.eo import commands as steps

    return steps.make_report(config, map_uri=map_)


@task(help={"file": "a map"})
def explain(c: Context, file: str) -> int:
    """Tell where a map comes from."""
    from terraflow.eo import commands as steps

    return steps.explain(file)


@task(help={"file": "a map"})
def reproduce(c: Context, file: str) -> int:
    """Make a map again and compare it pixel by pixel; exit code 1 if it differs."""
    from terraflow.eo import commands as steps

    return steps.reproduce(file)


@task(
    help={
        "config": CONFIG,
        "model": MODEL,
        "items": ITEMS,
        "max_psi": "instead of [monitor] max_psi",
        "max_outside": "instead of [monitor] max_outside_range",
    }
)
def monitor(
    c: Context,
    config: str = "",
    model: str = "",
    items: str = "",
    max_psi: str = "",
    max_outside: str = "",
) -> int:
    """Measure the drift of new images; exit code 3 if there is one."""
    from terraflow.eo import commands as steps

    return steps.monitor(
        config,
        model=model,
        items=items,
        max_psi=number(max_psi, "--max-psi") if max_psi else None,
        max_outside_range=number(max_outside, "--max-outside") if max_outside else None,
    )
