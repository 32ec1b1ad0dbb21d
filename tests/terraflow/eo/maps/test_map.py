from __future__ import annotations

import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pystac
import pytest
import rasterio
from sklearn.ensemble import RandomForestClassifier

from area import Area, make_project, write_raster
from harness import hear_ctrl_c
from maps import CLASSES, DARK, FEATURES, files_below, known_classes, make_model, write_items
from terraflow.disks.space import Disk
from terraflow.eo.features import windows
from terraflow.eo.hooks import Hooks
from terraflow.eo.maps import map as map_step
from terraflow.eo.maps.map import Mapped, check_output, find_map, make_map
from terraflow.eo.maps.map_item import quality_uri
from terraflow.eo.models.applicability import learn_applicability
from terraflow.eo.models.choice import choose_model, fit
from terraflow.eo.models.model import LoadedModel
from terraflow.eo.project import OpenProject, Project
from terraflow.eo.targets.calibration import Calibration
from terraflow.errors import ConfigError, DataError, NothingToDoError, StorageError
from terraflow.storage import Storage


def test_make_map_map_has_the_known_classes_with_their_confidence(
    area: Area, storage: Storage
) -> None:
    made = make_map(make_model(), write_items(area), storage)
    assert made.map.startswith(f"{storage.settings.data_uri}/land-cover/maps/land-cover-v3-")
    with rasterio.open(made.map) as file:
        classes, confidence = file.read()
        assert file.crs == "EPSG:32633"
        assert file.transform == rasterio.open(area.items[0].assets["B04"].href).transform
    assert (classes == known_classes()).all()
    assert (confidence == np.where(classes, 100, 0)).all()
    assert pystac.Item.from_file(made.item).assets["map"].get_absolute_href() == made.map


def test_make_map_in_many_windows_gives_the_same_bytes(
    area: Area, storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    items, model = write_items(area), make_model()
    first = make_map(model, items, storage, output=str(tmp_path / "a.tif"))
    monkeypatch.setattr(windows, "WINDOW_PX", 7)
    second = make_map(model, items, storage, output=str(tmp_path / "b.tif"))
    assert Path(first.map).read_bytes() == Path(second.map).read_bytes()


def network() -> Any:
    """Tells dark from bright, by the mlp as it is configured."""
    random = np.random.default_rng(0)
    table = pd.DataFrame(random.uniform(0, 0.6, (500, 3)), columns=FEATURES).astype("float32")
    names = pd.Series(np.where(table["red_max"] > 0.25, "forest", "water"))
    choice = choose_model(make_project(model={"name": "mlp"}).model, {}, seed=42)
    return fit(choice.make(), table, names)


@pytest.mark.parametrize("kind", ["forest", "network"])
def test_make_map_on_any_number_of_threads_gives_the_same_bytes(
    kind: str, area: Area, storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = write_items(area)
    model = make_model(estimator=network()) if kind == "network" else make_model()
    monkeypatch.setattr(windows, "WINDOW_PX", 7)
    maps = []
    for workers in (1, 2, 5):
        monkeypatch.setattr(windows, "WORKERS", workers)
        made = make_map(model, items, storage, output=str(tmp_path / f"{workers}.tif"))
        maps.append(Path(made.map).read_bytes())
    assert maps[0] == maps[1] == maps[2]
    with rasterio.open(tmp_path / "1.tif") as file:
        assert (file.read(1) == known_classes()).all()


def test_make_map_twice_goes_to_the_same_place(area: Area, storage: Storage) -> None:
    items = write_items(area)
    first = make_map(make_model(), items, storage)
    content = Path(first.map).read_bytes(), Path(first.item).read_bytes()
    second = make_map(make_model(), items, storage)
    assert first == second
    assert content == (Path(second.map).read_bytes(), Path(second.item).read_bytes())
    assert make_map(make_model(version="4"), items, storage).map != first.map


def test_find_map_gives_the_map_of_model_and_items(area: Area, storage: Storage) -> None:
    items = write_items(area)
    with pytest.raises(DataError, match=r"no map of .* by models:/land-cover/3 at .*`invoke map`"):
        find_map(make_model(), items, storage)
    made = make_map(make_model(), items, storage)
    assert find_map(make_model(), items, storage) == made.map


def test_make_map_output_lies_where_it_is_asked_for(
    area: Area, storage: Storage, tmp_path: Path
) -> None:
    output = tmp_path / "maps" / "mine.tif"
    made = make_map(make_model(), write_items(area), storage, output=str(output))
    assert made == Mapped(map=str(output), item=str(output.with_suffix(".json")))
    assert files_below(output.parent) == [
        "mine.json",
        "mine.qml",
        "mine.quality.tif",
        "mine.tif",
        "mine.tif.aux.xml",
    ]


def sure_model(**changes: Any) -> LoadedModel:
    """Whose training knew dark water alone."""
    model = make_model(**changes)
    red = DARK * 0.0001 - 0.1
    rows = [[red + more, red + more, 0.0] for more in (-0.01, 0.01)] * 5
    dark = pd.DataFrame(rows, columns=model.info.features)
    importance = dict.fromkeys(model.info.features, 1.0)
    known = learn_applicability(dark, importance, folds=np.arange(10) % 2, seed=0)
    calibration = Calibration(confidence=[0, 1], accuracy=[0, 0.5], set_probability=0.3)
    info = model.info.model_copy(update={"calibration": calibration})
    return replace(model, applicability=known, info=info)


def test_make_map_writes_its_quality_beside_it(area: Area, storage: Storage) -> None:
    made = make_map(sure_model(), write_items(area), storage)
    with rasterio.open(made.map) as file, rasterio.open(quality_uri(made.map)) as quality:
        confidence = file.read(2)
        assert quality.descriptions == (
            *("clear_observations", "set_size", "dissimilarity", "applicable"),
        )
        assert (quality.crs, quality.transform) == (file.crs, file.transform)
        assert quality.scales == (1, 1, 0.01, 1)
        clear, sizes, unlike, inside = quality.read(masked=True)
    known = known_classes()
    assert confidence.max() == 50  # as often as held-out predictions are right
    assert (clear == np.where(known > 0, 2, 0)).all()
    for band in (sizes, unlike, inside):
        assert (np.ma.getmaskarray(band) == (known == 0)).all()
    assert (sizes.compressed() == 1).all()
    assert (inside[known == 2] == 1).all()
    assert (inside[known == 1] == 0).all()
    assert unlike[known == 1].min() > 100 > unlike[known == 2].max()
    item = pystac.Item.from_file(made.item)
    told = item.assets["quality"]
    assert told.get_absolute_href() == quality_uri(made.map)
    assert [band["name"] for band in told.extra_fields["bands"]][2] == "dissimilarity"


def test_make_map_without_quality_writes_none_and_the_same_map(
    area: Area, storage: Storage, tmp_path: Path
) -> None:
    items = write_items(area)
    made = make_map(sure_model(), items, storage, output=str(tmp_path / "with.tif"))
    plain = make_project(map={"quality": False, "colours": {"water": "#0000ff"}})
    off = make_map(sure_model(project=plain), items, storage, output=str(tmp_path / "off.tif"))
    assert not Path(quality_uri(off.map)).exists()
    assert "quality" not in pystac.Item.from_file(off.item).assets
    with rasterio.open(made.map) as one, rasterio.open(off.map) as other:
        assert (one.read() == other.read()).all()


def test_make_map_of_an_older_model_tells_clear_observations_alone(
    area: Area, storage: Storage
) -> None:
    made = make_map(make_model(), write_items(area), storage)
    with rasterio.open(quality_uri(made.map)) as quality:
        assert quality.descriptions == ("clear_observations",)


@pytest.mark.parametrize(("trained", "told"), [(10.0, False), (10.5, False), (30.0, True)])
def test_make_map_of_pixels_of_another_size_says_so(
    trained: float, told: bool, area: Area, storage: Storage, capsys: pytest.CaptureFixture[str]
) -> None:
    model = make_model(info={"pixel_m": trained})
    made = make_map(model, write_items(area), storage)
    sentence = "Pixels of these items are 10 m wide, and the model learnt pixels of 30 m"
    assert (sentence in capsys.readouterr().out) == told
    remark = pystac.Item.from_file(made.item).properties.get("terraflow:remark", "")
    assert (sentence in remark) == told


def test_make_map_that_the_disk_does_not_hold_is_refused_before_work(
    area: Area, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = write_items(area)
    height, width = known_classes().shape
    monkeypatch.setattr(Disk, "of", lambda path: Disk(Path("/small"), 2 * height * width, None))
    told = rf"map of {height} x {width} pixels, .* some seconds of .* /small has 960 bytes free"
    with pytest.raises(StorageError, match=told):
        make_map(make_model(), items, storage)
    assert not storage.scratch_dir.exists()


def test_make_map_output_of_another_kind_is_refused(area: Area, storage: Storage) -> None:
    with pytest.raises(ConfigError, match=r"Output map\.png .* ends in \.tif"):
        make_map(make_model(), write_items(area), storage, output="map.png")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([*FEATURES[:2], "nir_std"], r"missing are nir_std \(1\); too many are red_std \(1\)"),
        (FEATURES[:2], r"the 2 features .* too many are red_std \(1\)"),
        ([*FEATURES, *"abcdefg"], r"missing are a, b, c, d, e \.\.\. \(7\)"),
        (FEATURES[::-1], "their order differs"),
    ],
)
def test_make_map_with_a_model_of_other_features_is_refused(
    names: list[str], message: str, area: Area, storage: Storage, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=message):
        make_map(
            make_model(info={"features": names}),
            write_items(area),
            storage,
            output=str(tmp_path / "out" / "map.tif"),
        )
    assert not (tmp_path / "out").exists()


def test_make_map_of_masked_pixels_alone_is_refused(
    area: Area, storage: Storage, tmp_path: Path
) -> None:
    items = write_items(area)
    for item in area.items:
        write_raster(Path(item.assets["mask"].href), np.zeros((20, 24), "uint8"))
    with pytest.raises(
        NothingToDoError, match=r"None of the 20 x 24 pixels .* masked .*cloud_mask"
    ):
        make_map(make_model(), items, storage, output=str(tmp_path / "out" / "map.tif"))
    assert not (tmp_path / "out").exists()


def of_year_model(**features: Any) -> LoadedModel:
    """A model of January and July."""
    project = make_project(features={"composites": "month_of_year"} | features)
    random = np.random.default_rng(0)
    names = ["red_01", "red_07", "red_max", "red_std"]
    table = pd.DataFrame(random.uniform(0, 0.6, (100, 4)), columns=names)
    forest = RandomForestClassifier(5, random_state=0, n_jobs=1).fit(table, CLASSES * 50)
    return make_model(project, estimator=forest, info={"features": names, "periods": ["01", "07"]})


def test_make_map_of_items_too_far_from_a_period_of_the_model_is_refused(
    area: Area, storage: Storage, tmp_path: Path
) -> None:
    items, output = write_items(area), str(tmp_path / "map.tif")
    told = r"in 1 of the model's 2 periods, and 07 are more than 92 days away, the max_gap_days"
    with pytest.raises(NothingToDoError, match=told):
        make_map(of_year_model(), items, storage, output=output)
    make_map(of_year_model(max_gap_days=183), items, storage, output=output)


def test_make_map_tells_what_gaps_cost(
    area: Area, storage: Storage, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cloudy = np.ones((20, 24), "uint8")
    cloudy[:2, :5] = 0
    area.add("2024-07-05", np.full((20, 24), 3000, "uint16"), cloudy)
    made = make_map(of_year_model(), write_items(area), storage, output=str(tmp_path / "map.tif"))
    # the three uppermost rows are not clear in January, of these ten pixels never
    assert "62 pixels are nodata: they have no features: in some" in capsys.readouterr().out
    with rasterio.open(made.map) as file:
        assert np.array_equal(file.read(1) > 0, known_classes() > 0)


def test_make_map_stopped_half_way_leaves_nothing(
    area: Area, storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stopped:
        classes_ = np.array(CLASSES)

        def predict_proba(self, table: pd.DataFrame) -> Any:
            if table["red_max"].iloc[-1] > 0.3:  # in the east, after the first window
                raise KeyboardInterrupt
            return np.full((len(table), 2), 0.5)

    monkeypatch.setattr(windows, "WINDOW_PX", 8)
    with pytest.raises(KeyboardInterrupt):
        make_map(
            make_model(estimator=Stopped()),
            write_items(area),
            storage,
            output=str(tmp_path / "out" / "map.tif"),
        )
    assert not (tmp_path / "out").exists()
    assert files_below(storage.settings.var / "tmp") == []


SLOW = """
import sys, time
from pathlib import Path
import numpy as np
from area import Area
from terraflow.eo.features import windows
from terraflow.eo.maps.map import make_map
from maps import CLASSES, make_model, write_items
from terraflow.settings import load
from terraflow.storage import Storage

class Slow:
    classes_ = np.array(CLASSES)

    def predict_proba(self, table):
        Path(sys.argv[1], "began").touch()
        time.sleep(3)

windows.WINDOW_PX = 8
items = write_items(Area(Path(sys.argv[1])))
make_map(make_model(estimator=Slow()), items, Storage(load()), output=sys.argv[2])
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_make_map_killed_leaves_no_file_under_the_final_name(
    number: signal.Signals, storage: Storage, tmp_path: Path
) -> None:
    folder, output = tmp_path / "area", tmp_path / "out" / "map.tif"
    words = [sys.executable, "-c", SLOW, str(folder), str(output)]
    process = subprocess.Popen(words, cwd=Path(__file__).parents[3], preexec_fn=hear_ctrl_c)
    try:
        deadline = time.monotonic() + 60
        while not (folder / "began").exists():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(number)
        assert process.wait(30) != 0
    finally:
        process.kill()
    assert not output.parent.exists()


def test_make_map_colours_are_the_configured_ones(
    area: Area, storage: Storage, tmp_path: Path
) -> None:
    project = make_project(map={"colours": {"forest": "#00ff00", "water": "#0000FF"}})
    made = make_map(make_model(project), write_items(area), storage)
    with rasterio.open(made.map) as file:
        palette = file.colormap(1)
    assert [palette[i][:3] for i in (1, 2)] == [(0, 255, 0), (0, 0, 255)]


def test_check_output_place_that_cant_be_written_is_refused(
    storage: Storage, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"file/map\.tif can't be written"):
        check_output(str(tmp_path / "file" / "map.tif"), storage)


def opened(storage: Storage) -> OpenProject:
    return OpenProject(Project("land_cover"), make_project(), storage)


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What the step asked for as a model, which is that of `make_model`."""
    asked: list[tuple[Any, ...]] = []

    def load(uri: str, settings: Any, hooks: Hooks, **_: Any) -> Any:
        asked.append((uri, hooks))
        return make_model()

    monkeypatch.setattr(map_step, "load_model", load)
    return asked


def test_step_maps_by_the_champion_and_tells_what_a_reader_must_know(
    area: Area,
    storage: Storage,
    given: list[tuple[Any, ...]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    items = write_items(area)
    made = map_step.step(opened(storage), {"items": items})
    assert made == make_map(make_model(), items, storage)
    assert given == [("models:/land-cover@champion", Hooks())]
    assert "Trained on simulated data." in capsys.readouterr().out


def test_step_takes_the_model_and_the_output_that_are_named(
    area: Area, storage: Storage, given: list[tuple[Any, ...]], tmp_path: Path
) -> None:
    output = str(tmp_path / "mine.tif")
    inputs = {"items": write_items(area), "model": "models:/other/2", "output": output}
    assert map_step.step(opened(storage), inputs).map == output
    assert given[0][0] == "models:/other/2"


def test_check_output_of_another_kind_is_refused_before_work(storage: Storage) -> None:
    map_step.check(opened(storage), {"output": None})
    with pytest.raises(ConfigError, match=r"map\.png is no name of a GeoTIFF"):
        map_step.check(opened(storage), {"output": "map.png"})


@pytest.mark.parametrize(
    ("started_by", "hint"),
    [
        ({}, "invoke report --map 'my map.tif'"),
        ({"TERRAFLOW_STARTED_BY": "make"}, """make report ARGS="--map 'my map.tif'\""""),
        (
            {"PIXI_PROJECT_ROOT": "/x", "INIT_CWD": "/x"},
            "pixi run report --map 'my map.tif'",
        ),
    ],
)
def test_show_names_the_next_command_as_the_user_types_it(
    started_by: dict[str, str],
    hint: str,
    storage: Storage,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in ("TERRAFLOW_STARTED_BY", "PIXI_PROJECT_ROOT", "INIT_CWD"):
        monkeypatch.delenv(name, raising=False)
    project = opened(storage)
    for name, value in started_by.items():
        monkeypatch.setenv(name, value)
    assert map_step.show(project, {"map": "my map.tif", "item": "my map.json"}) == 0
    assert capsys.readouterr().out.splitlines() == [
        "Map: my map.tif",
        "STAC item: my map.json",
        f"Its report: {hint}",
    ]
