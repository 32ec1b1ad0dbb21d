"""Some of the training's own months are no drift; images out of season, or of other land, are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import geopandas as gpd
import pystac
import pytest
from sklearn.ensemble import RandomForestClassifier

from maps import make_model
from terraflow.eo.config.project_file import load_config
from terraflow.eo.hooks import Hooks
from terraflow.eo.images.collection import read_items, write_part
from terraflow.eo.images.ingest import ingest
from terraflow.eo.images.sources import simulate
from terraflow.eo.models.model import LoadedModel
from terraflow.eo.monitoring.monitor import draw_pixels, monitor
from terraflow.eo.monitoring.monitored import Monitored
from terraflow.eo.monitoring.population import read_training_dates
from terraflow.eo.samples.preprocess import preprocess, read_report
from terraflow.settings import Settings
from terraflow.storage import Storage, join
from terraflow.tracking import runs

ROOT = Path(__file__).resolve().parents[4]
MONTHS = [f"{month:02}" for month in range(4, 10)]
FEW = [("06",), ("04",), ("09",), ("05", "08"), ("08", "09"), ("04", "05", "07", "09"), MONTHS]


@dataclass
class World:
    """A model of the simulated area's six months, as the reference project trains one."""

    model: LoadedModel
    items: list[pystac.Item]
    storage: Storage

    def monitor(self, items: Sequence[pystac.Item]) -> Monitored:
        folder = join(self.storage.settings.data_uri, "parts")
        return monitor(self.model, write_part(items, folder, self.storage), self.storage)

    def of(self, months: Sequence[str]) -> list[pystac.Item]:
        return [item for item in self.items if item.id[-4:-2] in months]


@pytest.fixture
def world(tracked_settings: Settings) -> World:
    storage = Storage(tracked_settings)
    config = load_config(ROOT / "config" / "land_cover.toml", project="land_cover")
    images = ingest(config, storage)
    prepared = preprocess(config, Hooks(), images, storage)
    report = read_report(prepared.report, storage)
    assert report.periods == MONTHS
    assert report.dates == dict.fromkeys(MONTHS, 1)
    samples = gpd.read_parquet(prepared.samples)
    forest = RandomForestClassifier(10, random_state=0, n_jobs=1)
    forest.fit(samples[report.features], samples["class_name"])
    tags = {"population": prepared.population}
    with runs.start_run(tracked_settings, config.name, name="train", tags=tags) as run:
        pass
    info = {
        "features": report.features,
        "periods": report.periods,
        "levels": sorted(samples["class_name"].unique()),
    }
    model = make_model(config, estimator=forest, info=info, run_id=run.info.run_id)
    return World(model, read_items(images.items, storage), storage)


def check_stable(world: World, months: Sequence[str]) -> None:
    found = world.monitor(world.of(months))
    assert not found.drifted, (months, found.to_dict()["why"])
    assert found.periods == list(months)
    statistics = {name for name in world.model.info.features if name.endswith(("_max", "_std"))}
    compared = {name for name in found.psi if name not in statistics}
    assert {name[-2:] for name in compared} == set(months)
    assert (statistics <= set(found.psi)) == (len(months) == len(MONTHS))
    assert max(found.psi.values()) < 0.1


@pytest.mark.slow
def test_the_trainings_own_months_have_not_drifted(world: World) -> None:
    for months in FEW:
        check_stable(world, months)


@pytest.mark.exhaustive
@pytest.mark.timeout(3000)
def test_none_of_the_63_subsets_of_the_trainings_months_has_drifted(world: World) -> None:
    for number in range(1, len(MONTHS) + 1):
        for months in combinations(MONTHS, number):
            check_stable(world, months)


def dated(item: pystac.Item, month: int) -> pystac.Item:
    """Give an item another month."""
    copy = item.clone()
    assert copy.datetime is not None
    copy.datetime = copy.datetime.replace(month=month)
    copy.set_self_href(None)
    return copy


@pytest.mark.slow
@pytest.mark.parametrize("later", [-1, 1])
def test_each_scene_that_is_a_month_out_of_season_has_drifted(later: int, world: World) -> None:
    for item in world.items:
        assert item.datetime is not None
        own = item.datetime.month
        if f"{own + later:02}" not in MONTHS:
            continue
        found = world.monitor([dated(item, own + later)])
        assert found.exit_code == 3
        assert found.resembles == {f"{own + later:02}": f"{own:02}"}
        told = f"and the images of {own + later:02} look like {own:02} of the training; http"
        assert told in found.to_dict()["why"]


@pytest.mark.slow
def test_scene_of_another_land_cover_has_drifted(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(simulate, "SHARES", (0.05, 0.05, 0.05, 0.05, 0.8))  # a town
    storage = world.storage
    uri, _ = simulate.make_area(storage, storage.settings.data_uri, seed=7)
    config = world.model.config
    data = config.data.model_copy(update={"catalogue": uri})
    town = ingest(config.model_copy(update={"data": data}), storage)
    june = [item for item in read_items(town.items, storage) if item.id[-4:-2] == "06"]
    found = world.monitor(june)
    assert found.exit_code == 3
    assert max(found.psi.values()) > 0.25
    assert found.resembles == {}


def test_statistics_of_fewer_dates_than_the_trainings_are_not_compared(
    world: World, tmp_path: Path
) -> None:
    model, storage = world.model, world.storage
    assert read_training_dates(model, storage) == dict.fromkeys(MONTHS, 1)
    uri = write_part(world.items, join(storage.settings.data_uri, "parts"), storage)
    same = draw_pixels(model, uri, storage, dict.fromkeys(MONTHS, 1))
    assert same.left_out == []
    oftener = draw_pixels(model, uri, storage, dict.fromkeys(MONTHS, 2))
    assert oftener.periods == MONTHS
    assert {name.rpartition("_")[2] for name in oftener.left_out} == {"max", "std"}
    assert len(oftener.left_out) == 14
