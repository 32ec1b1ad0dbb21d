from __future__ import annotations

import dask
import numpy as np
import pytest

from area import Area, make_project
from terraflow.eo.features import windows
from terraflow.eo.features.recipe import FeatureRecipe
from terraflow.eo.features.windows import FeatureSource
from terraflow.errors import DataError
from terraflow.storage import Storage

ONES = np.ones((16, 16), "uint8")
RECIPE = FeatureRecipe.of(make_project())


def test_feature_source_undated_scene_needs_the_whole_period(area: Area, storage: Storage) -> None:
    area.add("2024-04-01", np.full((16, 16), 2000, "uint16"), ONES)
    area.items[0].properties["terraflow:undated"] = True
    with pytest.raises(DataError, match=r'has no date, .* set .* composites = "whole"'):
        FeatureSource(area.items, RECIPE, storage)
    project = make_project(features={"composites": "whole"})
    assert FeatureSource(area.items, FeatureRecipe.of(project), storage).periods == ["all"]


def test_feature_source_item_of_a_month_is_composited_by_its_beginning(
    area: Area, storage: Storage
) -> None:
    area.add("2024-04-01", np.full((16, 16), 2000, "uint16"), ONES)
    item = area.items[0]
    item.properties |= {
        "start_datetime": "2024-04-01T00:00:00Z", "end_datetime": "2024-04-30T23:59:59Z",
    }  # fmt: skip
    item.datetime = None
    source = FeatureSource(area.items, RECIPE, storage)
    assert source.periods == ["2024-04"]
    assert np.isfinite(source.compute(source.windows()[0]).values).all()


def test_feature_source_items_outside_the_models_periods_are_refused(
    area: Area, storage: Storage
) -> None:
    area.add("2025-04-01", np.full((16, 16), 2000, "uint16"), ONES)
    with pytest.raises(DataError, match=r"of 2025-04-01 to 2025-04-01, lies .* periods 2024-04 to"):
        FeatureSource(area.items, RECIPE, storage, ["2024-04", "2024-05"])


def test_feature_source_windows_of_a_large_area_are_wider_unless_memory_forbids(
    area: Area, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    area.add("2024-04-01", np.full((16, 16), 2000, "uint16"), ONES)
    source = FeatureSource(area.items, RECIPE, storage)

    def widths() -> set[int]:
        return {window.width for window in source.windows()}

    for side, width in ((8, 8), (4, 4), (2, 4)):
        monkeypatch.setattr(windows, "WINDOW_PX", side)
        assert widths() == {width}
    monkeypatch.undo()
    source.geobox = source.geobox.expand((4096, 4096))
    assert widths() == {1024}
    monkeypatch.setattr(windows, "WINDOW_BYTES", 1024**2)
    assert widths() == {128}  # of three features, each twice in memory


@pytest.mark.parametrize(("configured", "used"), [(None, "synchronous"), ("threads", "threads")])
def test_over_windows_dask_has_no_threads_of_its_own_unless_configured(
    configured: str | None, used: str, area: Area, storage: Storage
) -> None:
    area.add("2024-04-01", np.full((16, 16), 2000, "uint16"), ONES)
    source = FeatureSource(area.items, RECIPE, storage)
    with dask.config.set(scheduler=configured):
        found = source.over_windows(lambda window: dask.config.get("scheduler"), "look")
        assert [scheduler for _, scheduler in found] == [used]


def test_feature_source_names_the_models_periods_that_items_lack(
    area: Area, storage: Storage
) -> None:
    area.add("2024-04-01", np.full((16, 16), 2000, "uint16"), ONES)
    source = FeatureSource(area.items, RECIPE, storage, ["2024-04", "2024-05"])
    assert source.missing_periods == ["2024-05"]
    window = source.compute(source.windows()[0])
    assert (window.sel(feature="red_2024-05") == window.sel(feature="red_2024-04")).all()
