"""Notice what is new, on Airflow's triggerer: no task waits for it."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator
from typing import Any

from airflow.sdk import Asset
from airflow.triggers.base import BaseEventTrigger, TriggerEvent

__all__ = ["Arrivals"]

#: Key of the asset's state that names the collections that were told of.
SEEN = "seen"
#: Pause after a look that failed, as when the store is being restarted.
PAUSE_S = 30.0


class Arrivals(BaseEventTrigger):
    """Fires for each collection that `ingest` wrote, and when the source has items to ingest.

    It asks by listing, which every store can answer, in a thread beside the triggerer's loop. What
    was told of is kept with the asset in Airflow's database, so that a restart loses nothing; a
    kill in between may tell of a collection twice, which the DAG that takes the events leaves out.

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
                store_s, source_s, found = await asyncio.to_thread(self._look)
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

    def _look(self) -> tuple[float, float, list[str]]:
        """Read the pauses of [watch], and list the collections in the store."""
        from terraflow import settings
        from terraflow.eo.config.project_file import load_config
        from terraflow.eo.images.places import list_collections
        from terraflow.storage import Storage

        config = load_config(project=self.project)
        # simulated images lie in the store already
        source_s = 0 if config.simulated else config.watch.catalogue_s
        found = list_collections(config.name, Storage(settings.load()))
        return config.watch.store_s, source_s, found

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
