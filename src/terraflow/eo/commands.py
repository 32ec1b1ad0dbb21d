"""The commands of the project: what tasks and DAGs call, and what the user is told."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from terraflow import settings
from terraflow.config import user_path
from terraflow.console import say, table
from terraflow.eo.config.project_file import ProjectConfig, load_config
from terraflow.errors import ConfigError
from terraflow.orchestration import dag_runs as orchestration
from terraflow.storage import Storage
from terraflow.tracking import runs as tracking

__all__ = [
    "DAG_ID",
    "explain",
    "ingest",
    "make_map",
    "make_report",
    "monitor",
    "preprocess",
    "promote",
    "reproduce",
    "run_step",
    "train",
]

DAG_ID = "land_cover_training"


def ingest(config: str = "", *, files: str = "") -> int:
    """Bring the images into the store, and tell where they are."""
    project, storage = _project(config, files), Storage(settings.load())
    value = _run("ingest", project, {}, storage)
    say(f"Collection: {value['items']}")
    return 0


def preprocess(config: str = "", *, items: str = "") -> int:
    """Bring images and samples up to date, and tell what the data report holds."""
    from terraflow.eo.samples.preprocess import read_report  # noqa: PLC0415 - each command imports its own

    project, storage = _project(config), Storage(settings.load())
    _check(project)
    value = _run("preprocess", project, _selected(project, storage, items), storage)
    report = read_report(value["report"], storage)
    say()
    table(("class", "labelled pixels"), [(k, str(v)) for k, v in report.class_sizes.items()])
    say()
    table(("period", "clear"), [(k, f"{v:.0%}") for k, v in report.clear_share.items()])
    say(f"\n{len(report.features)} features. Samples: {value['samples']}")
    say(f"Data report: {value['report']}")
    return 0


def train(config: str = "", *, items: str = "", tune: int = 0, airflow: bool = False) -> int:
    """Bring samples up to date, train, and print run id, scores and link."""
    project, stack = _project(config), settings.load()
    _check(project)
    if tune < 0:
        raise ConfigError(f"--tune {tune} is no number of trials; give 1 or more, or leave it out.")
    if airflow:
        from terraflow.eo.images.search import checked_uri  # noqa: PLC0415

        path = str(user_path(config)) if config else ""
        conf = {"config": path, "items": checked_uri(_uri(items)), "tune": tune}
        result = orchestration.run_dag(stack, DAG_ID, conf, result_task="train")
    else:
        tracking.connect(stack)  # before minutes of work, not after
        storage = Storage(stack)
        value = _run("preprocess", project, _selected(project, storage, items), storage)
        result = _run("train", project, value, storage, tune=tune)
    _print_training(result)
    return 0


def run_step(
    step: str, config: str, value: Mapping[str, Any], *, items: str = "", tune: int = 0
) -> dict[str, Any]:
    """Run one step on what the step before it returned, as a task of a DAG.

    Parameters
    ----------
    step : {"ingest", "preprocess", "train"}
    config : str
        A project file, or "" for config/land_cover.toml.
    value : dict
        URIs from the step before; empty for the first.
    items : str
        Collection to take instead of ingesting.

    Returns
    -------
    dict
        URIs; from the last step, the result.
    """
    project, storage = load_config(config), Storage(settings.load())
    if step == "ingest":
        return _selected(project, storage, items)
    return _run_one(step, project, dict(value), storage, tune=tune)


def make_map(config: str = "", *, model: str = "", items: str = "", output: str = "") -> int:
    """Map the items with a model, and tell where the map is."""
    from terraflow.eo.maps.map import check_output, predict  # noqa: PLC0415
    from terraflow.eo.models.model import load_model  # noqa: PLC0415

    project, stack = _project(config), settings.load()
    storage = Storage(stack)
    if output:
        check_output(_uri(output), storage)
    loaded = load_model(model or _champion(project), stack)
    value = _selected(project, storage, items)
    made = predict(loaded, value["items"], storage, output=_uri(output))
    if note := loaded.metadata.get("note"):
        say(note)
    say(f"Map: {made['map']}\nSTAC item: {made['item']}")
    say(f"Polygons, picture and areas: invoke report --map {made['map']}")
    return 0


def make_report(config: str = "", *, map_uri: str = "") -> int:
    """Write polygons, a picture and the table of areas beside a map, and print the table."""
    from terraflow.eo.maps.map import find_map  # noqa: PLC0415
    from terraflow.eo.maps.report import report  # noqa: PLC0415
    from terraflow.eo.models.model import load_model  # noqa: PLC0415
    from terraflow.eo.targets.areas import area_table  # noqa: PLC0415

    project, stack = _project(config), settings.load()
    storage = Storage(stack)
    uri = _uri(map_uri)
    if not uri:
        model = load_model(_champion(project), stack)
        uri = find_map(model, _selected(project, storage, "")["items"], storage)
    made = report(project, uri, storage)
    say(area_table(made["areas"]))
    for key in ("polygons", "geopackage", "quicklook", "area_table", "area"):
        say(f"{key.replace('_', ' ')}: {made[key]}")
    return 0


def explain(path: str) -> int:
    """Print where a map comes from."""
    from terraflow.eo.maps import origin as explain  # noqa: PLC0415

    explain.explain(_uri(path), Storage(settings.load()))
    return 0


def reproduce(path: str) -> int:
    """Make a map again and compare; return 1 if a pixel differs."""
    from terraflow.eo.maps import origin as explain  # noqa: PLC0415

    return explain.reproduce(_uri(path), Storage(settings.load()))


def promote(run_id: str) -> int:
    """Make a run's model the champion by hand."""
    from terraflow.eo.training.promotion import promote_by_hand  # noqa: PLC0415

    say(promote_by_hand(settings.load(), run_id).reason)
    return 0


def monitor(
    config: str = "", *, model: str = "", items: str = "", max_psi: float | None = None,
    max_outside_range: float | None = None,
) -> int:  # fmt: skip
    """Measure the drift of new items; return 3 if there is one."""
    from terraflow.eo.models.model import load_model  # noqa: PLC0415
    from terraflow.eo.monitoring import monitor  # noqa: PLC0415

    project, stack = _project(config), settings.load()
    storage = Storage(stack)
    loaded = load_model(model or _champion(project), stack)
    uri = _selected(project, storage, items)["items"]
    result = monitor.monitor(
        loaded, uri, storage, max_psi=max_psi, max_outside_range=max_outside_range
    )
    return monitor.print_result(result)


def _project(config: str, files: str = "") -> ProjectConfig:
    project = load_config(config)
    if not files:
        return project
    from terraflow.eo.images.search import checked_uri  # noqa: PLC0415

    data = project.data.model_copy(update={"files": checked_uri(_uri(files))})
    return project.model_copy(update={"data": data})


def _check(project: ProjectConfig) -> None:
    """See before long work that names in the configuration are known."""
    from terraflow.eo.features.indices import check_indices  # noqa: PLC0415
    from terraflow.eo.models.estimators import make_classifier  # noqa: PLC0415

    make_classifier(project)
    check_indices(project.features.indices, list(project.data.bands), project.features.constants)


def _uri(text: str) -> str:
    return str(user_path(text)) if text and "://" not in text else text


def _champion(project: ProjectConfig) -> str:
    return f"models:/{project.name}@champion"


def _selected(project: ProjectConfig, storage: Storage, items: str) -> dict[str, Any]:
    """Take the named collection, or ingest."""
    if not items:
        return _run("ingest", project, {}, storage)
    from terraflow.eo.images.ingest import find_labels  # noqa: PLC0415
    from terraflow.eo.images.search import checked_uri  # noqa: PLC0415

    return {"items": checked_uri(_uri(items)), "labels": find_labels(project, storage)}


def _run(
    step: str, project: ProjectConfig, value: dict[str, Any], storage: Storage, *, tune: int = 0
) -> dict[str, Any]:
    """Run a step and tell how long it took."""
    began = time.monotonic()
    say(f"{step} ...")
    result = _run_one(step, project, value, storage, tune=tune)
    say(f"{step}: {time.monotonic() - began:.1f} s")
    return result


def _run_one(
    step: str, project: ProjectConfig, value: dict[str, Any], storage: Storage, *, tune: int
) -> dict[str, Any]:
    if step == "ingest":
        from terraflow.eo.images import ingest  # noqa: PLC0415 - each step imports only what it needs

        return ingest.ingest(project, storage)
    if step == "preprocess":
        from terraflow.eo.samples import preprocess  # noqa: PLC0415

        return preprocess.preprocess(project, value, storage)
    from terraflow.eo.training import train  # noqa: PLC0415

    return train.train(project, value, storage, tune=tune).to_dict()


def _print_training(result: Mapping[str, Any]) -> None:
    if result["simulated"]:
        say("\nSimulated data: these scores say nothing about any real place.")

    def score(name: str, value: float) -> str:
        low, high = result["intervals"][name]
        return f"{value:.3f} ({low:.3f} to {high:.3f})"

    say("\nBy cross-validation over spatial blocks, with 95 % intervals:")
    rows = [("overall accuracy", score("overall_accuracy", result["overall_accuracy"])),
            ("macro F1", score("macro_f1", result["macro_f1"]))]  # fmt: skip
    rows += [(f"F1 {name}", score(f"f1_{name}", f1)) for name, f1 in result["f1_per_class"].items()]
    table(("score", ""), rows)
    random = [f"{result[name]:.3f}" for name in ("random_overall_accuracy", "random_macro_f1")]
    say(f"Over random folds, which is too good: {random[0]} and {random[1]}")
    say(f"\nRun {result['run_id']}, model {result['model']} (alias challenger)")
    say(result["reason"] + (" It is the champion now." if result["promoted"] else ""))
    say(result["url"])
    say(f"Serve it: invoke serve --run-id {result['run_id']}\nMap with it: invoke map --model "
        f"{result['model']}")  # fmt: skip
