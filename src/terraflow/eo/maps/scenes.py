"""The scenes of a collection, each with the images that its map is made of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date, timedelta
from itertools import groupby

import numpy as np
import pystac

from terraflow.console import command, say, table
from terraflow.eo.config.record import Record
from terraflow.eo.features.time.periods import far_periods, period_labels
from terraflow.eo.images.collection import read_items, write_part
from terraflow.eo.images.places import collections_since, latest_collection, project_root
from terraflow.eo.images.sources.local_files import UNDATED
from terraflow.eo.images.sources.solar_days import item_time
from terraflow.eo.maps.map import map_uri
from terraflow.eo.models.champion import find_champion
from terraflow.eo.models.model import LoadedModel, load_model
from terraflow.eo.project import Inputs, OpenProject
from terraflow.storage import Storage

__all__ = ["Scene", "Scenes", "find_scenes", "show", "step"]

#: Of one year's images every period of composites over all years has its own.
YEAR_DAYS = 365


class Scene(Record):
    """The images of one day, and those before them that its map is made of.

    Attributes
    ----------
    scene : str
        The day in UTC as 2024-05-14; "undated" where the images have no date.
    items : str
        URI of a collection of the images.
    images : int
        Number of items in it.
    model : str
        URI of the model that maps it.
    map : str
        URI of its map, which need not be there yet.
    mapped : bool
        Whether it is there.
    """

    scene: str
    items: str
    images: int
    model: str
    map: str
    mapped: bool


class Scenes(Record):
    """What the step returns: all scenes, or those without a map.

    Attributes
    ----------
    other_periods : int
        Number of scenes that the model can't map: its composites are of other dates, too far away
        to be filled from these.
    """

    model: str
    scenes: list[Scene]
    other_periods: int = 0


def find_scenes(
    model: LoadedModel, collections: Iterable[str], storage: Storage, *, days: int | None = None
) -> Scenes:
    """List the scenes of collections, the oldest first.

    Parameters
    ----------
    collections : iterable of str
        URIs, as `ingest` wrote them; a scene that two of them have alike is listed once.
    days : int, optional
        A scene's map is made of the images of so many days up to its own; by default of its own
        day where the model's composites are "whole", else of a year.

    Raises
    ------
    DataError, StorageError
        A collection can't be read, or the store not be written.
    """
    composites = model.recipe.features.composites
    days = days or (1 if composites == "whole" else YEAR_DAYS)
    found: dict[str, Scene] = {}
    others = 0
    for collection in collections:
        items = read_items(collection, storage)
        for name, members in _group(items, days):
            if not _reaches(members, model):
                others += 1
                continue
            scene = _scene(name, members, model, storage)
            found.setdefault(scene.map, scene)
    ordered = sorted(found.values(), key=lambda scene: scene.scene)
    return Scenes(model=model.uri, scenes=ordered, other_periods=others)


def _group(items: Sequence[pystac.Item], days: int) -> list[tuple[str, list[pystac.Item]]]:
    """Give each day with its items and those of the days before; items are sorted by time."""
    if any(item.properties.get(UNDATED) for item in items):
        return [("undated", list(items))]
    dates = [day for day, _ in groupby(items, key=_day)]
    reach = timedelta(days=days)
    return [
        (day.isoformat(), [item for item in items if day - reach < _day(item) <= day])
        for day in dates
    ]


def _day(item: pystac.Item) -> date:
    return item_time(item).date()


def _reaches(items: Sequence[pystac.Item], model: LoadedModel) -> bool:
    """Tell whether every period of the model's composites has an item, or is filled from one."""
    times = [np.datetime64(item_time(item).replace(tzinfo=None), "ns") for item in items]
    features, periods = model.recipe.features, model.info.periods
    labels = period_labels(times, features.composites)
    far = far_periods(labels, periods, features.composites, features.max_gap_days)
    return bool(set(labels) & set(periods)) and not far


def _scene(
    name: str, members: Sequence[pystac.Item], model: LoadedModel, storage: Storage
) -> Scene:
    items = write_part(members, project_root(model.config.name, storage), storage)
    uri = map_uri(model, items, list(members), storage)
    return Scene(
        scene=name,
        items=items,
        images=len(members),
        model=model.uri,
        map=uri,
        mapped=storage.exists(uri.removesuffix(".tif") + ".json"),  # which is written last
    )


def step(project: OpenProject, inputs: Inputs) -> Scenes:
    """List the scenes of `collections` and later ones, of `items`, or of what `ingest` wrote last.

    With `unmapped` those alone that `model`, the champion by default, has not mapped yet.
    """
    storage, config = project.storage, project.config
    model_uri = inputs.get("model") or find_champion(config.name, storage.settings)
    items = inputs.get("items")
    model = load_model(model_uri, storage.settings, project.hooks, trust=bool(inputs.get("trust")))
    if named := inputs.get("collections"):
        collections = collections_since(named, config.name, storage)
    else:
        collections = [items or latest_collection(config.name, storage)]
    found = find_scenes(model, collections, storage, days=config.map.scene_days)
    if not inputs.get("unmapped"):
        return found
    left = [scene for scene in found.scenes if not scene.mapped]
    say(f"{len(left)} of {len(found.scenes)} scenes have no map by {model.uri} yet.")
    return found.model_copy(update={"scenes": left})


def show(project: OpenProject, outputs: Inputs) -> int:
    """Print each scene with its map."""
    del project
    found = Scenes.model_validate(outputs)
    rows = [
        (scene.scene, str(scene.images), scene.map if scene.mapped else "-")
        for scene in found.scenes
    ]
    table(("scene", "images", f"map by {found.model}"), rows)
    if found.other_periods:
        say(
            f"{found.other_periods} scenes more have no images in, or near enough to, the periods "
            "of the model's composites."
        )
    left = [scene for scene in found.scenes if not scene.mapped]
    if left:
        example = command("map", "--model", found.model, "--items", left[-1].items)
        say(f"{len(left)} have no map yet. Map the latest of them: {example}")
    return 0
