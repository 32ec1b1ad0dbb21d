from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox

from area import Area, write_raster
from maps import METADATA, make_model, write_items
from terraflow.eo.maps.map import predict
from terraflow.eo.maps.map_file import BLOCK_PX, MapInfo, create_map, read_info
from terraflow.eo.maps.origin import compare_maps, describe, explain, find_changes, reproduce
from terraflow.eo.models.model import LoadedModel, load_model, log_classifier
from terraflow.errors import ConfigError, DataError
from terraflow.settings import Settings
from terraflow.storage import Storage
from terraflow.tracking import runs as tracking

GRID = GeoBox((1100, 1030), Affine(10, 0, 500_000, 0, -10, 5_100_000), "EPSG:32633")
CLASSES, COLOURS = ["forest", "water"], ["#00ff00", "#0000ff"]


def write_plain(path: Path, bands: np.ndarray) -> str:
    """A map that need be no COG."""
    with create_map(path, GRID, CLASSES, COLOURS, {"model": "models:/a/1"}) as file:
        file.write(bands)
    return str(path)


def test_explain_prints_what_the_file_tells(
    area: Area, storage: Storage, capsys: pytest.CaptureFixture[str]
) -> None:
    made = predict(make_model(), write_items(area), storage)
    assert explain(made["map"], storage) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["map", made["map"]]
    told = dict(line.split("  ", 1) for line in lines[1:])
    words = {key.strip(): value.strip() for key, value in told.items()}
    expected = {
        "model": "models:/land-cover/3", "version": "3", "run": "5" * 32,
        "code commit": "c0ffee", "data digest": METADATA["data_digest"], "seed": "42",
        "overall accuracy": "0.938", "macro F1": "0.875", "note": "Trained on simulated data.",
        "classes": "forest, water", "grid": "20 rows x 24 columns, EPSG:32633",
    }  # fmt: skip
    assert {key: words[key] for key in expected} == expected


def test_explain_reads_the_file_alone(area: Area, storage: Storage, tmp_path: Path) -> None:
    made = predict(make_model(), write_items(area), storage)
    alone = tmp_path / "moved" / "other.tif"
    alone.parent.mkdir()
    shutil.move(made["map"], alone)
    rows = describe(read_info(str(alone), storage))
    assert ("model", "models:/land-cover/3") in rows


def test_describe_says_what_is_not_known() -> None:
    info = MapInfo(CLASSES, COLOURS, rasterio.crs.CRS.from_epsg(32633), GRID.affine, (2, 2), {})
    rows = dict(describe(info))
    assert rows["run"] == "not known"
    assert "note" not in rows


def test_explain_of_another_raster_is_refused(storage: Storage, tmp_path: Path) -> None:
    write_raster(tmp_path / "other.tif", np.zeros((4, 4), "uint8"))
    with pytest.raises(DataError, match="does not tell which model"):
        explain(str(tmp_path / "other.tif"), storage)


def test_compare_maps_that_are_equal_finds_nothing(storage: Storage, tmp_path: Path) -> None:
    bands = np.random.default_rng(0).integers(1, 3, (2, *GRID.shape)).astype("uint8")
    one, two = write_plain(tmp_path / "1.tif", bands), write_plain(tmp_path / "2.tif", bands)
    difference = compare_maps(one, two, storage)
    assert (difference.pixels, difference.total) == (0, GRID.shape[0] * GRID.shape[1])
    assert difference.row is None


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


def test_compare_maps_on_different_grids_is_refused(
    area: Area, storage: Storage, tmp_path: Path
) -> None:
    made = predict(make_model(), write_items(area), storage)
    other = write_plain(tmp_path / "1.tif", np.ones((2, *GRID.shape), dtype="uint8"))
    with pytest.raises(DataError, match=r"different grids \(20 x 24 pixels .* 1100 x 1030 pixels"):
        compare_maps(made["map"], other, storage)


def test_find_changes_of_the_same_code_are_none_and_of_other_code_are_told() -> None:
    now = {f"map_{key}": value for key, value in tracking.provenance().items()}
    assert find_changes(now) == []
    changed = find_changes(now | {"map_code_commit": "0ld", "map_lock_digest": "0lder"})
    assert len(changed) == 2
    assert "the code commit was 0ld, now it is" in changed[0]
    assert "the lock digest was 0lder, now it is" in changed[1]


@pytest.fixture
def registered(tracked_settings: Settings) -> LoadedModel:
    """A model that lies in a real registry."""
    made = make_model()
    metadata = {
        **METADATA, "classes": made.classes, "features": made.features, "periods": made.periods,
        "project": made.project.model_dump(mode="json"),
    }  # fmt: skip
    example = pd.DataFrame([[0.1, 0.1, 0.0], [0.4, 0.4, 0.0]], columns=made.features)
    with tracking.start_run(tracked_settings, "explain", name="train", tags={}):
        info = log_classifier(made.classifier, example, made.project, metadata)
        tracking.register(info.model_uri, "explained", "champion")
    return load_model("models:/explained@champion", tracked_settings)


def test_reproduce_with_the_registered_model_comes_out_equal(
    registered: LoadedModel, area: Area, tracked_settings: Settings,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    storage = Storage(tracked_settings)
    made = predict(registered, write_items(area), storage)
    before = Path(made["map"]).stat().st_mtime_ns
    assert reproduce(made["map"], storage) == 0
    assert "all 480 pixels come out equal" in capsys.readouterr().out
    assert Path(made["map"]).stat().st_mtime_ns == before


def test_reproduce_of_an_edited_map_tells_the_first_pixel(
    area: Area, storage: Storage, capsys: pytest.CaptureFixture[str]
) -> None:
    made = predict(make_model(), write_items(area), storage)
    with rasterio.open(made["map"], "r+", IGNORE_COG_LAYOUT_BREAK="YES") as file:
        bands = file.read()
        bands[0, 7, 11:13] = [1, 2]
        file.write(bands)
    assert reproduce(made["map"], storage, model=make_model()) == 1
    out = capsys.readouterr().out
    assert "2 of 480 pixels differ; the first is row 7, column 11 (class)." in out


def test_reproduce_warns_of_changed_items_and_configuration(
    area: Area, storage: Storage, capsys: pytest.CaptureFixture[str]
) -> None:
    items = write_items(area)
    made = predict(make_model(), items, storage)
    text = Path(items).read_text()
    Path(items).write_text(text.replace('"scale": 0.0001', '"scale": 0.00010001'))
    project = make_model().project.model_copy(update={"seed": 7})
    reproduce(made["map"], storage, model=make_model(project))
    out = capsys.readouterr().out
    assert "Warning: the items changed since" in out
    assert "Warning: the model's configuration changed since" in out


def test_reproduce_with_a_model_that_is_gone_is_refused(
    area: Area, tracked_settings: Settings
) -> None:
    storage = Storage(tracked_settings)
    gone = make_model(uri="models:/gone/1", version="1")
    made = predict(gone, write_items(area), storage)
    with pytest.raises(ConfigError, match="Model models:/gone/1 can't be read"):
        reproduce(made["map"], storage)
