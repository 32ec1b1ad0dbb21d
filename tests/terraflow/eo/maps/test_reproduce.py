from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox

from area import Area, make_project
from maps import make_model, write_items
from terraflow.eo.config.sections import Map
from terraflow.eo.hooks import Hooks
from terraflow.eo.maps import reproduce as step_module
from terraflow.eo.maps.map import make_map
from terraflow.eo.maps.map_file import BLOCK_PX, create_map
from terraflow.eo.maps.map_origin import MapOrigin, make_origin
from terraflow.eo.maps.reproduce import MapDifference, compare_maps, find_changes, reproduce
from terraflow.eo.models.choice import choose_model
from terraflow.eo.models.model import LoadedModel, load_model, log_model
from terraflow.eo.project import OpenProject, Project
from terraflow.eo.targets.classes.classification import Classification
from terraflow.eo.targets.parts import Band
from terraflow.errors import ConfigError, DataError
from terraflow.settings import Settings
from terraflow.storage import Storage
from terraflow.tracking import runs as tracking

GRID = GeoBox((1100, 1030), Affine(10, 0, 500_000, 0, -10, 5_100_000), "EPSG:32633")
BANDS = Classification().bands(["forest", "water"], Map())
ORIGIN = MapOrigin(
    model="models:/a/1",
    model_name="a",
    items="items.json",
    items_digest="1",
    config_digest="2",
    version="0.2.0",
)


def write_plain(path: Path, values: np.ndarray, bands: list[Band] = BANDS) -> str:
    """A map that need be no COG."""
    with create_map(path, GRID, bands, str(values.dtype), ORIGIN) as file:
        file.write(values)
    return str(path)


def opened(storage: Storage) -> OpenProject:
    return OpenProject(Project("land_cover"), make_project(), storage)


def test_compare_maps_that_are_equal_finds_nothing(storage: Storage, tmp_path: Path) -> None:
    bands = np.random.default_rng(0).integers(1, 3, (2, *GRID.shape)).astype("uint8")
    one, two = write_plain(tmp_path / "1.tif", bands), write_plain(tmp_path / "2.tif", bands)
    difference = compare_maps(one, two, storage)
    assert difference == MapDifference(0, GRID.shape[0] * GRID.shape[1], None, None, None)


def test_compare_maps_counts_pixels_of_which_class_or_confidence_differ(
    storage: Storage, tmp_path: Path
) -> None:
    bands = np.ones((2, *GRID.shape), dtype="uint8")
    changed = bands.copy()
    row, column = BLOCK_PX + 7, BLOCK_PX + 9
    changed[1, row, column] = 50
    changed[:, -1, -1] = 2
    one, two = write_plain(tmp_path / "1.tif", bands), write_plain(tmp_path / "2.tif", changed)
    difference = compare_maps(one, two, storage)
    assert difference.pixels == 2
    assert (difference.row, difference.column, difference.band) == (row, column, "confidence")


def test_compare_maps_of_numbers_takes_nodata_in_both_for_equal(
    storage: Storage, tmp_path: Path
) -> None:
    band = [Band("yield", nodata=np.nan)]
    values = np.full((1, *GRID.shape), np.nan, dtype="float32")
    values[0, :9] = 1.5
    changed = values.copy()
    changed[0, 9, 3], changed[0, 0, 0] = 1.5, np.nan
    one = write_plain(tmp_path / "1.tif", values, band)
    assert compare_maps(one, write_plain(tmp_path / "2.tif", values, band), storage).pixels == 0
    difference = compare_maps(one, write_plain(tmp_path / "3.tif", changed, band), storage)
    assert (difference.pixels, difference.row, difference.column) == (2, 0, 0)
    assert difference.band == "yield"


def test_compare_maps_on_different_grids_is_refused(
    area: Area, storage: Storage, tmp_path: Path
) -> None:
    made = make_map(make_model(), write_items(area), storage)
    other = write_plain(tmp_path / "1.tif", np.ones((2, *GRID.shape), dtype="uint8"))
    with pytest.raises(DataError, match=r"different grids \(20 x 24 pixels .* 1100 x 1030 pixels"):
        compare_maps(made.map, other, storage)


def test_compare_maps_of_different_targets_is_refused(storage: Storage, tmp_path: Path) -> None:
    one = write_plain(tmp_path / "1.tif", np.ones((2, *GRID.shape), dtype="uint8"))
    two = write_plain(tmp_path / "2.tif", np.ones((1, *GRID.shape), dtype="uint8"), [Band("x")])
    with pytest.raises(DataError, match=r"1\.tif has 2 bands and .*2\.tif has 1; .* one target"):
        compare_maps(one, two, storage)


def test_find_changes_of_the_same_code_are_none_and_of_other_code_are_told(area: Area) -> None:
    now = make_origin(make_model(), write_items(area), area.items)
    assert find_changes(now) == []
    changed = find_changes(
        now.model_copy(update={"map_code_commit": "0ld", "map_lock_digest": "0lder"})
    )
    assert len(changed) == 2
    assert "the code commit was 0ld, now it is" in changed[0]
    assert "the lock digest was 0lder, now it is" in changed[1]


def test_find_changes_of_a_map_that_does_not_tell_its_code_says_so() -> None:
    assert "the code commit was not known, now it is" in find_changes(ORIGIN)[0]


@pytest.fixture
def registered(tracked_settings: Settings) -> LoadedModel:
    """A model that lies in a real registry."""
    made = make_model()
    example = pd.DataFrame([[0.1, 0.1, 0.0], [0.4, 0.4, 0.0]], columns=made.info.features)
    choice = choose_model(made.config.model, {}, seed=42)
    with tracking.start_run(tracked_settings, "reproduce", name="train", tags={}):
        logged = log_model(made.estimator, example, choice, made.info)
        tracking.register(logged.model_uri, "reproduced", "champion")
    return load_model("models:/reproduced@champion", tracked_settings, Hooks())


def test_reproduce_with_the_registered_model_comes_out_equal(
    registered: LoadedModel,
    area: Area,
    tracked_settings: Settings,
    capsys: pytest.CaptureFixture[str],
) -> None:
    storage = Storage(tracked_settings)
    made = make_map(registered, write_items(area), storage)
    before = Path(made.map).stat().st_mtime_ns
    project = opened(storage)
    assert step_module.show(project, step_module.step(project, {"file": made.map})) == 0
    assert "all 480 pixels come out equal in all bands." in capsys.readouterr().out
    assert Path(made.map).stat().st_mtime_ns == before


def test_reproduce_of_an_edited_map_tells_the_first_pixel(
    area: Area,
    storage: Storage,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    made = make_map(make_model(), write_items(area), storage)
    with rasterio.open(made.map, "r+", IGNORE_COG_LAYOUT_BREAK="YES") as file:
        bands = file.read()
        bands[0, 7, 11:13] = [1, 2]
        file.write(bands)
    found = reproduce(made.map, Hooks(), storage, model=make_model())
    assert found == MapDifference(2, 480, 7, 11, "class")
    monkeypatch.setattr(step_module, "load_model", lambda *_, **__: make_model())
    project = opened(storage)
    assert step_module.show(project, step_module.step(project, {"file": made.map})) == 1
    out = capsys.readouterr().out
    assert "2 of 480 pixels differ; the first is row 7, column 11 (class)." in out


def test_reproduce_warns_of_changed_items_and_configuration(
    area: Area, storage: Storage, capsys: pytest.CaptureFixture[str]
) -> None:
    items = write_items(area)
    made = make_map(make_model(), items, storage)
    assert reproduce(made.map, Hooks(), storage, model=make_model()).pixels == 0
    assert "Warning" not in capsys.readouterr().out
    text = Path(items).read_text()
    Path(items).write_text(text.replace('"scale": 0.0001', '"scale": 0.00010001'))
    project = make_model().config.model_copy(update={"seed": 7})
    reproduce(made.map, Hooks(), storage, model=make_model(project))
    out = capsys.readouterr().out
    assert "Warning: the items changed since" in out
    assert "Warning: the model's configuration changed since" in out


def test_reproduce_with_a_model_that_is_gone_is_refused(
    area: Area, tracked_settings: Settings
) -> None:
    storage = Storage(tracked_settings)
    gone = make_model(uri="models:/gone/1", version="1")
    made = make_map(gone, write_items(area), storage)
    with pytest.raises(ConfigError, match="Model models:/gone/1 can't be read"):
        reproduce(made.map, Hooks(), storage)


@pytest.mark.parametrize(
    "address",
    [
        "/tmp/model",
        "model",
        "file:///tmp/model",
        "http://evil.example/model",
        "s3://bucket/model",
        "mlflow-artifacts://evil.example/model",
        "models://evil@databricks/m/1",
        "runs:",
    ],
)
def test_reproduce_takes_a_model_of_this_registry_alone(
    address: str, area: Area, storage: Storage
) -> None:
    made = make_map(make_model(uri=address, version=""), write_items(area), storage)
    told = re.escape(f"names {address!r} for its model, which is not of this stack's registry")
    with pytest.raises(ConfigError, match=f"{told}; .* --trust"):
        reproduce(made.map, Hooks(), storage)


def test_reproduce_of_a_strangers_map_runs_its_model_only_when_trusted(
    area: Area, tracked_settings: Settings, tmp_path: Path
) -> None:
    ran, storage = tmp_path / "ran", Storage(tracked_settings)
    folder = tmp_path / "model"
    estimator = make_model().estimator
    mlflow.sklearn.save_model(estimator, folder, pip_requirements=[], serialization_format="pickle")
    (folder / "model.pkl").write_bytes(pickle.dumps(Touch(ran)))
    made = make_map(make_model(uri=str(folder), version=""), write_items(area), storage)
    project = opened(storage)
    with pytest.raises(ConfigError, match="not of this stack's registry"):
        step_module.step(project, {"file": made.map})
    with pytest.raises(ConfigError, match="runs code when it is loaded"):
        load_model(str(folder), tracked_settings, Hooks())
    assert not ran.exists()
    with pytest.raises(DataError, match="does not tell what it was trained with"):
        step_module.step(project, {"file": made.map, "trust": True})
    assert ran.exists()


class Touch:
    """Makes a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)
