from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

from terraflow.eo.config.project_file import load_config
from terraflow.eo.images.ingest import find_waiting, ingest
from terraflow.errors import ConfigError, StorageError
from terraflow.orchestration import watch
from terraflow.orchestration.assets import scenes
from terraflow.orchestration.source import main
from terraflow.orchestration.watch import Arrivals, ArrivedOperator, RememberOperator, look
from terraflow.settings import Settings
from terraflow.storage import Storage


class State:
    """Airflow's store of an asset's state."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}

    def __getitem__(self, asset: Any) -> State:
        assert asset.name == "land_cover_arrivals"
        return self

    async def aget(self, key: str) -> Any:
        return self.values.get(key)

    async def aset(self, key: str, value: Any) -> None:
        self.values[key] = value


class Store:
    """What lies in the store and in the source, look by look; the last look ends the watch."""

    def __init__(self, *looks: Any, source: list[str] | None = None, source_s: float = 0) -> None:
        self.looks, self.source, self.source_s = list(looks), source or [], source_s

    def watch(self, monkeypatch: pytest.MonkeyPatch, state: State) -> list[dict[str, Any]]:
        """Run a trigger until the looks are over; give the payloads of its events."""
        trigger = Arrivals("land_cover")
        trigger.asset_state_store = state  # type: ignore[assignment]

        def look(project: str) -> tuple[float, float, list[str]]:
            if not self.looks:
                raise KeyboardInterrupt
            found = self.looks.pop(0)
            if isinstance(found, Exception):
                raise found
            return 0, self.source_s, list(found)

        async def ask() -> list[str]:
            return self.source

        monkeypatch.setattr(watch, "PAUSE_S", 0)
        monkeypatch.setattr(watch, "look", look)
        monkeypatch.setattr(trigger, "_source", ask)
        told: list[dict[str, Any]] = []

        async def collect() -> None:
            async for event in trigger.run():
                told.append(event.payload)

        with pytest.raises(KeyboardInterrupt):
            asyncio.run(collect())
        return told


def items(told: list[dict[str, Any]]) -> list[str]:
    return [payload["items"] for payload in told if payload["new"] == "collection"]


def test_watch_tells_each_new_collection_once(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = ([], ["a"], ["a"], ["a", "b", "c"], ["b", "c"])
    assert items(Store(*looks).watch(monkeypatch, State())) == ["a", "b", "c"]


def test_watch_first_look_at_a_full_store_tells_the_latest(monkeypatch: pytest.MonkeyPatch) -> None:
    assert items(Store(["a", "b"], ["a", "b"]).watch(monkeypatch, State())) == ["b"]


def test_watch_begun_again_has_forgotten_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    state = State()
    assert items(Store(["a"]).watch(monkeypatch, state)) == ["a"]
    assert items(Store(["a"], ["a", "b"]).watch(monkeypatch, state)) == ["b"]


def test_watch_goes_on_after_a_look_that_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = (StorageError("The store is away."), ["a"])
    assert items(Store(*looks).watch(monkeypatch, State())) == ["a"]


def test_watch_asks_the_source_only_after_a_first_ingest(monkeypatch: pytest.MonkeyPatch) -> None:
    empty = Store([], [], source=["item"], source_s=9)
    assert empty.watch(monkeypatch, State()) == []
    told = Store(["a"], ["a"], source=["item"], source_s=9).watch(monkeypatch, State())
    assert told[1:] == [{"new": "source", "waiting": ["item"]}]  # once in nine seconds


def test_watch_never_asks_where_it_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    told = Store(["a"], ["a"], source=["item"], source_s=0).watch(monkeypatch, State())
    assert items(told) == ["a"]
    assert len(told) == 1


def test_watch_can_be_made_again_by_airflow() -> None:
    path, arguments = Arrivals("flood").serialize()
    assert path == "terraflow.orchestration.watch.Arrivals"
    assert Arrivals(**arguments).project == "flood"


def test_watch_looks_as_the_configuration_says(config_dir: Path, settings: Settings) -> None:
    del settings
    assert look("land_cover") == (10, 0, [])  # simulated images have no source
    path = config_dir / "land_cover.toml"
    text = path.read_text().replace('"simulated"   #', '"catalogue.json"   #')
    path.write_text(f"{text}\n[watch]\nstore_s = 3\ncatalogue_s = 60\n")
    assert look("land_cover") == (3, 60, [])


def test_source_tells_what_waits_until_it_is_ingested(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    config, storage = load_config(project="land_cover"), Storage(settings)
    assert len(find_waiting(config, storage)) == 6
    assert main("land_cover") == 0
    assert capsys.readouterr().out.startswith('["')
    ingest(config, storage)
    assert find_waiting(config, storage) == []


def test_source_that_fails_says_why(
    config_dir: Path, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    del settings
    path = config_dir / "land_cover.toml"
    path.write_text(path.read_text().replace("2024", "2031"))
    assert main("land_cover") == 1
    assert "No item of" in capsys.readouterr().err


class Told:
    """A run of the DAG that is told: its tasks one after another, with the state that lasts."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, announced: list[str] | None) -> None:
        self.monkeypatch = monkeypatch
        self.state: dict[str, Any] = {} if announced is None else {"announced": announced}
        self.asset = scenes("land_cover")

    def context(self, payloads: list[dict[str, Any]]) -> Any:
        stamps = [datetime(2024, 1, 1, 0, minute, tzinfo=UTC) for minute in range(9)]
        events = [
            SimpleNamespace(timestamp=stamp, extra={"payload": payload})
            for stamp, payload in zip(stamps, payloads, strict=False)
        ]
        one = SimpleNamespace(get=self.state.get, set=self.state.__setitem__)
        return {
            "triggering_asset_events": {"arrivals": events},
            "asset_state_store": {self.asset: one},
        }

    def arrived(self, stored: list[str], *payloads: dict[str, Any]) -> dict[str, Any]:
        self.monkeypatch.setattr(watch, "look", lambda project: (0, 0, stored))
        return ArrivedOperator(scenes=self.asset).execute(self.context(list(payloads)))

    def remember(self, arrived: dict[str, Any]) -> None:
        ti = SimpleNamespace(xcom_pull=lambda task_ids: {"arrived": arrived}[task_ids])
        RememberOperator(scenes=self.asset).execute(self.context([]) | {"ti": ti})


@pytest.mark.parametrize(
    ("announced", "stored", "new"),
    [
        (None, [], []),
        (None, ["a", "b"], ["b"]),
        ([], ["a", "b"], ["a", "b"]),
        (["a"], ["a", "b", "c"], ["b", "c"]),
        (["a", "b"], ["b", "a"], []),
        (["a", "gone"], ["a"], []),
    ],
)
def test_arrived_tells_what_the_store_has_and_nobody_was_told_of(
    announced: list[str] | None, stored: list[str], new: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    told = Told(monkeypatch, announced=announced)
    # whichever event Airflow hands on
    found = told.arrived(stored, {"new": "collection", "items": "x"})
    assert found["collections"] == new
    told.remember(found)
    assert told.arrived(stored)["collections"] == []


def test_arrived_tells_again_until_it_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    told = Told(monkeypatch, announced=["a"])
    assert told.arrived(["a", "b"])["collections"] == ["b"]
    assert told.arrived(["a", "b"])["collections"] == ["b"]


def test_arrived_joins_the_items_that_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    told = Told(monkeypatch, announced=[])
    payloads = [{"new": "source", "waiting": names} for names in (["i", "j"], ["j", "k"])]
    assert told.arrived([], *payloads)["waiting"] == ["i", "j", "k"]


def test_arrived_tries_again_where_the_store_does_not_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told = Told(monkeypatch, announced=[])

    def fail(project: str) -> Any:
        raise errors[0]

    monkeypatch.setattr(watch, "look", fail)
    errors: list[Exception] = [StorageError("away")]
    with pytest.raises(StorageError):
        ArrivedOperator(scenes=told.asset).execute(told.context([]))
    errors = [ConfigError("wrong")]
    with pytest.raises(AirflowFailException, match="wrong"):
        ArrivedOperator(scenes=told.asset).execute(told.context([]))
