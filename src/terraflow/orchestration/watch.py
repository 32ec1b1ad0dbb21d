"""Notice what is new, on Airflow's triggerer: no task waits for it; and tell each thing once."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from airflow.sdk import Asset
from airflow.triggers.base import BaseEventTrigger, TriggerEvent

from terraflow.orchestration.operators import WiredOperator, told_to_airflow

if TYPE_CHECKING:
    from airflow.sdk import Context

__all__ = ["Arrivals", "ArrivedOperator", "RememberOperator"]

#: Key of the arrivals' state that names the collections that events were sent for.
SEEN = "seen"
#: Key of the scenes' state that names the collections that the asset was updated with.
ANNOUNCED = "announced"
#: Most ids of items that are passed on: they are for a reader.
_SHOWN = 20
#: Pause after a look that failed, as when the store is being restarted.
PAUSE_S = 30.0


class Arrivals(BaseEventTrigger):
    """Fires for each collection that `ingest` wrote, and when the source has items to ingest.

    It asks by listing, which every store can answer, in a thread beside the triggerer's loop. What
    was told of is kept with the asset in Airflow's database, so that a restart loses nothing; a
    kill in between may tell of a collection twice, which `ArrivedOperator` leaves out.

    Parameters
    ----------
    project : str
        The project's name, as of config/PROJECT.toml.
    """

    def __init__(self, project: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.project = project

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Tell Airflow how to make this trigger again."""
        return f"{type(self).__module__}.{type(self).__qualname__}", {"project": self.project}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Look again and again; each event's payload says what is new."""
        next_source = 0.0
        while True:
            try:
                store_s, source_s, found = await asyncio.to_thread(look, self.project)
                async for uri in self._untold(found):
                    yield TriggerEvent({"new": "collection", "items": uri})
                # nothing is downloaded before somebody has ingested for the first time
                if found and source_s and time.monotonic() >= next_source:
                    next_source = time.monotonic() + source_s
                    if waiting := await self._source():
                        yield TriggerEvent({"new": "source", "waiting": waiting})
                pause = store_s
            except Exception as error:
                self.log.warning("Looking for new items of %s failed: %s", self.project, error)
                pause = PAUSE_S
            await asyncio.sleep(pause)

    async def _untold(self, found: list[str]) -> AsyncIterator[str]:
        """Give the collections that nobody was told of; of a first look the latest alone."""
        state = self.asset_state_store
        assert state is not None  # noqa: S101 - the triggerer sets it before it calls run
        asset = Asset(name=f"{self.project}_arrivals")
        seen: Any = await state[asset].aget(SEEN)
        new = [uri for uri in found if uri not in seen] if seen is not None else found[-1:]
        for uri in new:
            yield uri
        if new or (seen is None and found):
            await state[asset].aset(SEEN, list(found))

    async def _source(self) -> list[str]:
        """Ask in a process of its own, since reading catalogues needs libraries of 200 MB."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "terraflow.orchestration.source", self.project),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            out, err = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
        if process.returncode:
            raise RuntimeError(err.decode().strip().rpartition("\n")[2])
        waiting: list[str] = json.loads(out)
        return waiting


class ArrivedOperator(WiredOperator):
    """Tell which collections came into the store, and which items wait to be ingested.

    It compares the store with what `RememberOperator` noted, whatever the events say that started
    the DAG run: of several events that come at once, Airflow 3.3 may hand on the first alone.
    Nobody is told of what was there before the first look, but of the latest.

    Parameters
    ----------
    scenes : Asset
        The asset of the scenes; its group is the project's name.
    """

    def __init__(self, *, scenes: Asset, task_id: str = "arrived", **options: Any) -> None:
        super().__init__(task_id=task_id, inlets=[scenes], **options)
        self.scenes = scenes

    def execute(self, context: Context) -> dict[str, Any]:
        """List the store, and read the ids of waiting items from the events."""
        from terraflow.orchestration.reasons import event_extras

        with told_to_airflow():
            stored = look(self.scenes.group)[2]
        known: Any = context["asset_state_store"][self.scenes].get(ANNOUNCED)
        new = stored[-1:] if known is None else [uri for uri in stored if uri not in known]
        # an event that Airflow left out comes again with the next look into the source
        payloads = [extra.get("payload") or {} for extra in event_extras(context)]
        waiting = [name for payload in payloads for name in payload.get("waiting", ())]
        return {
            "collections": new,
            "stored": stored,
            "waiting": list(dict.fromkeys(waiting))[:_SHOWN],
            "why": f"New images came into the store: {', '.join(new)}.",
        }


class RememberOperator(WiredOperator):
    """Note which collections the asset of the scenes was updated with, once it was.

    Parameters
    ----------
    scenes : Asset
    arrived : str
        Task that listed them.
    """

    def __init__(
        self, *, scenes: Asset, arrived: str = "arrived", task_id: str = "remember", **options: Any
    ) -> None:
        super().__init__(task_id=task_id, inlets=[scenes], **options)
        self.scenes, self.arrived = scenes, arrived

    def execute(self, context: Context) -> None:
        """Write the note; a run of the same DAG waits for this one, and so finds it."""
        stored = context["ti"].xcom_pull(task_ids=self.arrived)["stored"]
        context["asset_state_store"][self.scenes].set(ANNOUNCED, stored)


def look(project: str) -> tuple[float, float, list[str]]:
    """Read the pauses of [watch], and list the collections in the store, the latest last.

    Parameters
    ----------
    project : str
        The project's name, as of config/PROJECT.toml.

    Returns
    -------
    store_s, source_s : float
        Seconds between two looks into the store, and into the source; 0 never looks.
    collections : list of str

    Raises
    ------
    ConfigError
        The project file is wrong.
    StorageError
        The store does not answer.
    """
    from terraflow import settings
    from terraflow.eo.config.project_file import load_config
    from terraflow.eo.images.places import list_collections
    from terraflow.storage import Storage

    config = load_config(project=project)
    # simulated images lie in the store already
    source_s = 0 if config.simulated else config.watch.catalogue_s
    found = list_collections(config.name, Storage(settings.load()))
    return config.watch.store_s, source_s, found
