"""Class codes stay the values of a map, wherever values meet names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import geopandas as gpd
import matplotlib.image
import numpy as np
import pandas as pd
import pytest
import rasterio.crs
import xarray as xr
from odc.geo.geobox import GeoBox
from sklearn.ensemble import RandomForestClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from area import CRS, TRANSFORM, write_labels, write_raster
from maps import FEATURES, make_model
from terraflow.eo.config.labels import Labels
from terraflow.eo.config.sections import Map
from terraflow.eo.maps.map_file import category_names, qgis_style
from terraflow.eo.models.apply import apply_model
from terraflow.eo.models.model import ModelInfo
from terraflow.eo.targets.area.pixel_areas import PixelAreas
from terraflow.eo.targets.area.strata import part_map
from terraflow.eo.targets.classes.classification import Classification
from terraflow.eo.targets.classes.labels.codes import in_order, map_values
from terraflow.eo.targets.classes.labels.read import read_labels
from terraflow.eo.targets.classes.report import report_classes
from terraflow.eo.targets.parts import Accuracy, MapView
from terraflow.errors import DataError
from terraflow.storage import Storage

GRID = GeoBox((16, 16), TRANSFORM, CRS)
LEVELS, VALUES = ["2", "10", "111"], [2, 10, 111]


@pytest.mark.parametrize(
    ("names", "ordered", "values"),
    [
        (["10", "2", "1"], ["1", "2", "10"], [1, 2, 10]),
        (["255", "1"], ["1", "255"], [1, 255]),
        (["01", "10", "02"], ["01", "02", "10"], [1, 2, 10]),
        (["water", "crop"], ["crop", "water"], [1, 2]),
        (["10", "2", "water"], ["10", "2", "water"], [1, 2, 3]),  # not all are codes
        (["1", "01"], ["01", "1"], [1, 2]),  # two names of one number
        (["300", "20"], ["20", "300"], [1, 2]),  # of a model from before they were refused
    ],
)
def test_codes_are_kept_where_all_names_are_codes(
    names: list[str], ordered: list[str], values: list[int]
) -> None:
    assert in_order(names) == ordered
    assert map_values(ordered) == values
    assert Classification().levels(pd.Series(names)) == ordered
    assert Classification().values(ordered) == values


def test_a_project_that_encodes_itself_numbers_as_it_did() -> None:
    class Own(Classification):
        def encode(self, predictions: Any) -> Any:
            return super().encode(predictions)

    assert Own().values(LEVELS) == [1, 2, 3]


@pytest.mark.parametrize("codes", [(0, 1), (-1, 2), (1, 256), (111, 311)])
@pytest.mark.parametrize("kind", ["raster", "field"])
def test_codes_that_do_not_fit_name_the_table_that_helps(
    kind: str, codes: tuple[int, int], storage: Storage, tmp_path: Path
) -> None:
    if kind == "raster":
        path = tmp_path / "codes.tif"
        write_raster(path, np.repeat(np.array([codes], "int16"), 8, axis=1).repeat(16, axis=0))
        labels = Labels()
    else:
        frame = gpd.read_file(write_labels(tmp_path / "l.gpkg"))
        path = tmp_path / "codes.gpkg"
        frame.assign(code=codes).to_file(path)
        labels = Labels(field="code")
    with pytest.raises(DataError, match=r"which no map can hold: its values are 1 to 255") as told:
        read_labels(str(path), labels, GRID, storage)
    table = str(told.value).partition("classes = {")[2].partition("}")[0]
    written = dict(pair.split(" = ") for pair in table.strip().split(", "))
    classes = {json.loads(key): json.loads(name) for key, name in written.items()}
    assert list(classes) == [str(code) for code in codes]
    helped = read_labels(str(path), labels.model_copy(update={"classes": classes}), GRID, storage)
    assert sorted(helped.names) == sorted(f"name of {code}" for code in codes)
    one = labels.model_copy(update={"classes": {str(codes[1]): "7"}})  # or to another number
    assert read_labels(str(path), one, GRID, storage).names == ["7"]


@pytest.mark.parametrize("values", [[10, 2], [10.0, 2.0], ["10", "2"], [" 10", "2 "]])
def test_codes_of_a_field_are_sorted_as_numbers(
    values: list[object], storage: Storage, tmp_path: Path
) -> None:
    frame = gpd.read_file(write_labels(tmp_path / "l.gpkg"))
    frame.assign(code=values).to_file(tmp_path / "codes.gpkg")
    labels = read_labels(str(tmp_path / "codes.gpkg"), Labels(field="code"), GRID, storage)
    assert Classification().levels(pd.Series(labels.decode(np.array([1, 2])))) == ["2", "10"]


def pixels(levels: list[str]) -> tuple[pd.DataFrame, xr.DataArray]:
    """A table to learn of, where each class has its own feature, and a pixel of each level."""
    places = np.eye(3)[[0, 1, 2] * 20] + np.random.default_rng(0).normal(0, 0.01, (60, 3))
    table = pd.DataFrame(places, columns=FEATURES).astype("float32")
    image = np.eye(3, dtype="float32")[:, None, :]
    return table.assign(name=levels * 20), xr.DataArray(image, dims=("feature", "y", "x"))


@pytest.mark.parametrize("kind", ["forest", "network"])
def test_map_holds_the_codes(kind: str) -> None:
    table, image = pixels(LEVELS)
    network = MLPClassifier([8], max_iter=300, solver="lbfgs", random_state=0)
    estimator = {
        "forest": RandomForestClassifier(10, random_state=0, n_jobs=1),
        "network": make_pipeline(StandardScaler(), network),
    }[kind]
    estimator.fit(table[FEATURES], table["name"])
    assert list(estimator.classes_) == ["10", "111", "2"]
    model = make_model(estimator=estimator, info={"levels": LEVELS, "values": VALUES})
    assert apply_model(model, image)[0].tolist() == [VALUES]
    old = make_model(estimator=estimator, info={"levels": sorted(LEVELS)})
    assert apply_model(old, image)[0].tolist() == [[3, 1, 2]]
    assert dict(old.target.bands(sorted(LEVELS), Map())[0].names) == {1: "10", 2: "111", 3: "2"}


def test_models_from_before_have_no_values() -> None:
    info = make_model().info.to_metadata()
    del info["values"]
    assert ModelInfo.model_validate(info).values == []


def target() -> Classification:
    return Classification().with_values(VALUES)


def test_bands_names_and_style_have_the_codes() -> None:
    band = target().bands(LEVELS, Map(colours={"10": "#00ff00"}))[0]
    assert band.names == dict(zip(VALUES, LEVELS, strict=True))
    assert band.colours[10] == "#00ff00"
    categories = [each.text for each in ET.fromstring(category_names(band)).iter("Category")]
    assert len(categories) == 112
    assert {i: n for i, n in enumerate(categories) if n} == {0: "nodata"} | dict(band.names)
    style = qgis_style(band).decode()
    assert all(f'value="{value}" label="{value}"' in style for value in VALUES)


def test_summary_counts_codes() -> None:
    values = np.array([2, 2, 10, 111], "uint8")
    assert target().summarise(values, LEVELS) == {"2": 0.5, "10": 0.25, "111": 0.25}


def test_report_and_strata_have_the_codes(tmp_path: Path) -> None:
    numbers = np.zeros((10, 12), "uint8")
    numbers[:3], numbers[3:7], numbers[7:9] = VALUES
    bands = target().bands(LEVELS, Map())
    crs = rasterio.crs.CRS.from_epsg(32633)
    view = MapView(
        numbers, bands, crs, TRANSFORM, "map.tif", {"model": "m"}, lambda most_px: numbers
    )
    files = report_classes(view, Accuracy(), Map()).files
    for name, (end, write) in files.items():
        write(tmp_path / end)
        assert (tmp_path / end).exists(), name
    found = json.loads((tmp_path / "area.json").read_text())["classes"]
    assert {name: (each["number"], each["pixels"]) for name, each in found.items()} == {
        "2": (2, 36),
        "10": (10, 48),
        "111": (111, 24),
    }
    frame = gpd.read_parquet(tmp_path / "polygons.parquet")
    assert (frame["class_number"].astype(str) == frame["class_name"]).all()
    assert sorted(frame["class_number"]) == VALUES
    names = dict(bands[0].names)
    areas = PixelAreas(crs, TRANSFORM, numbers.shape)
    strata, told = part_map(numbers, None, names, areas, by="classes")
    assert [each.level for each in told.values()] == LEVELS
    assert (np.bincount(strata.ravel())[1:] == [36, 48, 24]).all()


def test_quicklook_shows_each_code_in_its_colour(tmp_path: Path) -> None:
    numbers = np.full((20, 20), 111, "uint8")
    colours = {"2": "#ff0000", "10": "#00ff00", "111": "#0000ff"}
    view = MapView(
        numbers,
        target().bands(LEVELS, Map(colours=colours)),
        rasterio.crs.CRS.from_epsg(32633),
        TRANSFORM,
        "map.tif",
        {"model": "m"},
        lambda most_px: numbers,
    )
    _, write = report_classes(view, Accuracy(), Map()).files["quicklook"]
    write(tmp_path / "quicklook.png")
    shown = matplotlib.image.imread(tmp_path / "quicklook.png")[..., :3]
    assert (shown == [0, 0, 1]).all(axis=-1).mean() > 0.2
