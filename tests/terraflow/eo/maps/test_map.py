from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pystac
import pytest
import rasterio
import xarray as xr

from area import Area, make_project, write_raster
from maps import FEATURES, files_below, known_classes, make_model, write_items
from terraflow.eo.features import windows
from terraflow.eo.maps.map import check_output, classify, find_map, predict
from terraflow.eo.models.estimators import fit, make_classifier
from terraflow.errors import ConfigError, DataError, StorageError
from terraflow.storage import Storage


class Probabilities:
    """A classifier whose probabilities are the features."""

    def predict_proba(self, table: pd.DataFrame) -> np.ndarray:
        assert list(table.columns) == FEATURES
        return table.to_numpy()


def features(*pixels: list[float]) -> xr.DataArray:
    """One row of pixels."""
    values = np.array(pixels, dtype="float32").T[:, None, :]
    return xr.DataArray(values, dims=("feature", "y", "x"))


def test_classify_takes_the_most_probable_class_and_its_probability() -> None:
    model = make_model(classifier=Probabilities(), classes=["a", "b", "c"])
    bands = classify(model, features([0.2, 0.7, 0.1], [0.994, 0.006, 0.0], [0.0, 0.0, 1.0]))
    assert bands.dtype == np.uint8
    assert bands.tolist() == [[[2, 1, 3]], [[70, 99, 100]]]


def test_classify_pixel_without_a_feature_is_nodata_in_both_bands() -> None:
    model = make_model(classifier=Probabilities(), classes=["a", "b", "c"])
    bands = classify(model, features([0.2, np.nan, 0.1], [1, 0, 0], [np.inf, 0, 0]))
    assert bands.tolist() == [[[0, 1, 0]], [[0, 100, 0]]]


def test_classify_confidence_that_rounds_to_nodata_is_one_per_cent() -> None:
    model = make_model(classifier=Probabilities(), classes=["a", "b", "c"])
    assert classify(model, features([0.004, 0.003, 0.003]))[1].tolist() == [[1]]


def test_classify_more_pixels_than_a_chunk_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model(classifier=Probabilities(), classes=["a", "b", "c"])
    values = np.random.default_rng(0).random((3, 10, 10)).astype("float32")
    values[0, ::3] = np.nan
    table = xr.DataArray(values, dims=("feature", "y", "x"))
    whole = classify(model, table)
    monkeypatch.setattr("terraflow.eo.maps.map.CHUNK_PX", 7)
    assert (classify(model, table) == whole).all()


def test_predict_map_has_the_known_classes_with_their_confidence(
    area: Area, storage: Storage
) -> None:
    made = predict(make_model(), write_items(area), storage)
    assert made["map"].startswith(f"{storage.settings.data_uri}/land-cover/maps/land-cover-v3-")
    with rasterio.open(made["map"]) as file:
        classes, confidence = file.read()
        assert file.crs == "EPSG:32633"
        assert file.transform == rasterio.open(area.items[0].assets["B04"].href).transform
    assert (classes == known_classes()).all()
    assert (confidence == np.where(classes, 100, 0)).all()
    assert pystac.Item.from_file(made["item"]).assets["map"].get_absolute_href() == made["map"]


def test_predict_in_many_windows_gives_the_same_bytes(
    area: Area, storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    items, model = write_items(area), make_model()
    first = predict(model, items, storage, output=str(tmp_path / "a.tif"))
    monkeypatch.setattr(windows, "WINDOW_PX", 7)
    second = predict(model, items, storage, output=str(tmp_path / "b.tif"))
    assert Path(first["map"]).read_bytes() == Path(second["map"]).read_bytes()


def network() -> Any:
    """Tells dark from bright, by the mlp as it is configured."""
    random = np.random.default_rng(0)
    table = pd.DataFrame(random.uniform(0, 0.6, (500, 3)), columns=FEATURES).astype("float32")
    names = pd.Series(np.where(table["red_max"] > 0.25, "forest", "water"))
    return fit(make_classifier(make_project(model={"name": "mlp"})), table, names)


@pytest.mark.parametrize("kind", ["forest", "network"])
def test_predict_on_any_number_of_threads_gives_the_same_bytes(
    kind: str, area: Area, storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = write_items(area)
    model = make_model(classifier=network()) if kind == "network" else make_model()
    monkeypatch.setattr(windows, "WINDOW_PX", 7)
    maps = []
    for workers in (1, 2, 5):
        monkeypatch.setattr(windows, "WORKERS", workers)
        made = predict(model, items, storage, output=str(tmp_path / f"{workers}.tif"))
        maps.append(Path(made["map"]).read_bytes())
    assert maps[0] == maps[1] == maps[2]
    with rasterio.open(tmp_path / "1.tif") as file:
        assert (file.read(1) == known_classes()).all()


def test_predict_twice_goes_to_the_same_place(area: Area, storage: Storage) -> None:
    items = write_items(area)
    first = predict(make_model(), items, storage)
    content = Path(first["map"]).read_bytes(), Path(first["item"]).read_bytes()
    second = predict(make_model(), items, storage)
    assert first == second
    assert content == (Path(second["map"]).read_bytes(), Path(second["item"]).read_bytes())
    assert predict(make_model(version="4"), items, storage)["map"] != first["map"]


def test_find_map_gives_the_map_of_model_and_items(area: Area, storage: Storage) -> None:
    items = write_items(area)
    with pytest.raises(DataError, match=r"no map of .* by models:/land-cover/3 at .*`invoke map`"):
        find_map(make_model(), items, storage)
    made = predict(make_model(), items, storage)
    assert find_map(make_model(), items, storage) == made["map"]


def test_predict_output_lies_where_it_is_asked_for(
    area: Area, storage: Storage, tmp_path: Path
) -> None:
    output = tmp_path / "maps" / "mine.tif"
    made = predict(make_model(), write_items(area), storage, output=str(output))
    assert made == {"map": str(output), "item": str(output.with_suffix(".json"))}
    assert files_below(output.parent) == ["mine.json", "mine.tif", "mine.tif.aux.xml"]


def test_predict_output_of_another_kind_is_refused(area: Area, storage: Storage) -> None:
    with pytest.raises(ConfigError, match=r"Output map\.png .* ends in \.tif"):
        predict(make_model(), write_items(area), storage, output="map.png")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([*FEATURES[:2], "nir_std"], r"missing are nir_std \(1\); too many are red_std \(1\)"),
        (FEATURES[:2], r"the 2 features .* too many are red_std \(1\)"),
        ([*FEATURES, *"abcdefg"], r"missing are a, b, c, d, e \.\.\. \(7\)"),
        (FEATURES[::-1], "their order differs"),
    ],
)
def test_predict_with_a_model_of_other_features_is_refused(
    names: list[str], message: str, area: Area, storage: Storage, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=message):
        predict(make_model(features=names), write_items(area), storage,
                output=str(tmp_path / "out" / "map.tif"))  # fmt: skip
    assert not (tmp_path / "out").exists()


def test_predict_of_masked_pixels_alone_is_refused(
    area: Area, storage: Storage, tmp_path: Path
) -> None:
    items = write_items(area)
    for item in area.items:
        write_raster(Path(item.assets["mask"].href), np.zeros((20, 24), "uint8"))
    with pytest.raises(DataError, match=r"None of the 20 x 24 pixels .* masked .*cloud_mask"):
        predict(make_model(), items, storage, output=str(tmp_path / "out" / "map.tif"))
    assert not (tmp_path / "out").exists()


def test_predict_stopped_half_way_leaves_nothing(
    area: Area, storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stopped:
        def predict_proba(self, table: pd.DataFrame) -> Any:
            if table["red_max"].iloc[-1] > 0.3:  # in the east, after the first window
                raise KeyboardInterrupt
            return np.full((len(table), 2), 0.5)

    monkeypatch.setattr(windows, "WINDOW_PX", 8)
    with pytest.raises(KeyboardInterrupt):
        predict(make_model(classifier=Stopped()), write_items(area), storage,
                output=str(tmp_path / "out" / "map.tif"))  # fmt: skip
    assert not (tmp_path / "out").exists()
    assert files_below(storage.settings.var / "tmp") == []


SLOW = """
import sys, time
from pathlib import Path
from area import Area
from terraflow.eo.features import windows
from terraflow.eo.maps.map import predict
from maps import make_model, write_items
from terraflow.settings import load
from terraflow.storage import Storage

class Slow:
    def predict_proba(self, table):
        Path(sys.argv[1], "began").touch()
        time.sleep(3)

windows.WINDOW_PX = 8
items = write_items(Area(Path(sys.argv[1])))
predict(make_model(classifier=Slow()), items, Storage(load()), output=sys.argv[2])
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_predict_killed_leaves_no_file_under_the_final_name(
    number: signal.Signals, storage: Storage, tmp_path: Path
) -> None:
    folder, output = tmp_path / "area", tmp_path / "out" / "map.tif"
    command = [sys.executable, "-c", SLOW, str(folder), str(output)]
    process = subprocess.Popen(command, cwd=Path(__file__).parents[3])
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


def test_predict_colours_are_the_configured_ones(
    area: Area, storage: Storage, tmp_path: Path
) -> None:
    project = make_project(map={"colours": {"forest": "#00ff00", "water": "#0000FF"}})
    made = predict(make_model(project), write_items(area), storage)
    with rasterio.open(made["map"]) as file:
        palette = file.colormap(1)
    assert [palette[i][:3] for i in (1, 2)] == [(0, 255, 0), (0, 0, 255)]


def test_check_output_place_that_cant_be_written_is_refused(
    storage: Storage, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"file/map\.tif can't be written"):
        check_output(str(tmp_path / "file" / "map.tif"), storage)
