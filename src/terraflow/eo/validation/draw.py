"""From a map to points that somebody can interpret: files in a folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import mlflow
from mlflow.exceptions import MlflowException

from terraflow.console import say
from terraflow.disks.problems import disk_errors
from terraflow.eo.images.collection import read_items
from terraflow.eo.maps.map_file import MapInfo, read_info
from terraflow.eo.project import OpenProject
from terraflow.eo.validation.chips import write_chips
from terraflow.eo.validation.points import write_points
from terraflow.eo.validation.qgis import points_style, project
from terraflow.eo.validation.sample import Sample, draw_sample
from terraflow.errors import ConfigError, TerraFlowError
from terraflow.tracking import runs

__all__ = ["draw"]

POINTS = "points.gpkg"


def draw(
    opened: OpenProject,
    map_uri: str,
    folder: Path,
    *,
    points: int | None = None,
    target_se: float | None = None,
    allocation: str = "",
    strata_by: str = "",
    seed: int | None = None,
    chips: bool = True,
) -> Sample:
    """Draw a sample of a map, and write it for QGIS.

    The folder gets points.gpkg, points.json with strata and what the map says (not for who
    interprets), points.qgs and points.qml, and pictures in chips/.

    Parameters
    ----------
    folder : Path
        New, or empty.
    seed : int, optional
        By default that of the project.

    Raises
    ------
    ConfigError
        The folder holds something, or an option is wrong.
    DataError
        The file is no map, or has no pixel with a value.
    StorageError, ServiceError
        The store can't be read, or MLflow does not answer.
    """
    if folder.exists() and any(folder.iterdir()):
        raise ConfigError(
            f"Folder {folder} is not empty, and what was interpreted is not written over; name a "
            "new one by --output."
        )
    storage = opened.storage
    info = read_info(map_uri, storage)
    sample = draw_sample(
        map_uri,
        opened.hooks.target,
        storage,
        scores=_scores(opened, info),
        points=points,
        target_se=target_se,
        allocation=allocation,
        strata_by=strata_by,
        seed=opened.config.seed if seed is None else seed,
    )
    try:
        with disk_errors(lambda: {**storage.settings.folders, "--output": folder}):
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "points.json").write_text(json.dumps(sample.to_dict(), indent=1), "utf-8")
            (folder / "points.qgs").write_bytes(project(sample, POINTS))
            (folder / "points.qml").write_bytes(points_style(sample))
            write_points(sample, folder / POINTS)
            if chips:
                _write_chips(opened, sample, info, folder)
    except BaseException:  # a part of it would look like a sample, and be in the way of the next
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return sample


def _write_chips(opened: OpenProject, sample: Sample, info: MapInfo, folder: Path) -> None:
    """Write pictures; without them points can still be interpreted on other images."""
    try:
        items = read_items(info.origin.items, opened.storage)
        made = write_chips(
            folder / "chips",
            sample,
            info.transform,
            items=items,
            recipe=opened.recipe,
            storage=opened.storage,
        )
    except TerraFlowError as error:
        say(f"Warning: no pictures of the points: {error}")
        return
    if not made:
        say(f"Warning: no pictures of the points: no image of {info.origin.items} shows them.")


def _scores(opened: OpenProject, info: MapInfo) -> dict[str, float]:
    """Read the measures of the map's run; none where it is gone."""
    runs.connect(opened.storage.settings)
    try:
        return dict(mlflow.get_run(info.origin.run_id or "none").data.metrics)
    except MlflowException:
        return {}
