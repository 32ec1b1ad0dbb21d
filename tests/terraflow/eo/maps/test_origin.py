from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine

from area import Area, make_project, write_raster
from maps import INFO, make_model, write_items
from terraflow.eo.config.sections import Map
from terraflow.eo.maps import origin
from terraflow.eo.maps.map import make_map
from terraflow.eo.maps.map_file import MapInfo, read_info
from terraflow.eo.maps.map_origin import MapOrigin
from terraflow.eo.maps.origin import describe
from terraflow.eo.project import OpenProject, Project
from terraflow.eo.targets.classes.classification import Classification
from terraflow.eo.targets.parts import Band
from terraflow.errors import DataError
from terraflow.storage import Storage


def opened(storage: Storage) -> OpenProject:
    return OpenProject(Project("land_cover"), make_project(), storage)


def unknown() -> MapInfo:
    """A map that tells as little as a map may."""
    told = MapOrigin(
        model="models:/a/1",
        model_name="a",
        items="items.json",
        items_digest="1",
        config_digest="2",
        version="0.2.0",
    )
    bands = Classification().bands(["forest", "water"], Map())
    crs = rasterio.crs.CRS.from_epsg(32633)
    return MapInfo(bands, crs, Affine(10, 0, 500_000, 0, -10, 5_100_000), (2, 2), told)


def test_origin_prints_what_the_file_tells(
    area: Area, storage: Storage, capsys: pytest.CaptureFixture[str]
) -> None:
    made = make_map(make_model(), write_items(area), storage)
    project = opened(storage)
    assert origin.show(project, origin.step(project, {"file": made.map})) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["map", made.map]
    told = dict(line.split("  ", 1) for line in lines[1:])
    words = {key.strip(): value.strip() for key, value in told.items()}
    expected = {
        "model": "models:/land-cover/3",
        "version": "3",
        "run": "5" * 32,
        "code commit": "c0ffee",
        "data digest": INFO["data_digest"],
        "seed": "42",
        "overall accuracy": "0.938",
        "macro F1": "0.875",
        "note": "Trained on simulated data.",
        "target": "classification",
        "classes": "forest, water",
        "grid": "20 rows x 24 columns, EPSG:32633",
    }
    assert {key: words[key] for key in expected} == expected


def test_origin_reads_the_file_alone(area: Area, storage: Storage, tmp_path: Path) -> None:
    made = make_map(make_model(), write_items(area), storage)
    alone = tmp_path / "moved" / "other.tif"
    alone.parent.mkdir()
    shutil.move(made.map, alone)
    rows = describe(read_info(str(alone), storage))
    assert ("model", "models:/land-cover/3") in rows


def test_origin_of_another_raster_is_refused(storage: Storage, tmp_path: Path) -> None:
    write_raster(tmp_path / "other.tif", np.zeros((4, 4), "uint8"))
    with pytest.raises(DataError, match="does not tell which model"):
        origin.step(opened(storage), {"file": str(tmp_path / "other.tif")})


def test_describe_says_what_is_not_known() -> None:
    rows = dict(describe(unknown()))
    assert rows["run"] == rows["code commit"] == "not known"
    assert "note" not in rows


def test_describe_map_of_numbers_tells_bands_with_their_units() -> None:
    rows = dict(describe(replace(unknown(), bands=[Band("yield", unit="t/ha"), Band("error")])))
    assert rows["bands"] == "yield (t/ha), error"
    assert "classes" not in rows


def test_describe_names_scores_as_a_reader_does_and_shortens_them() -> None:
    info = unknown()
    scores = {"macro_f1": 0.123456, "rmse": 12.5}
    rows = dict(describe(replace(info, origin=info.origin.model_copy(update={"scores": scores}))))
    assert (rows["macro F1"], rows["RMSE"]) == ("0.123", "12.5")
    assert rows["TerraFlow"] == "0.2.0"
