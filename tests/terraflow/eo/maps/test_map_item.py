from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pystac
import pytest
from affine import Affine
from odc.geo.geobox import GeoBox
from pystac.extensions.mlm import MLMExtension
from pystac.extensions.projection import ProjectionExtension
from shapely.geometry import shape

from area import Area
from maps import FEATURES, make_model, write_items
from terraflow.credentials import read_mlflow_token
from terraflow.eo.hooks import Hooks
from terraflow.eo.maps.map import make_map
from terraflow.eo.maps.map_item import map_item
from terraflow.eo.maps.map_origin import make_origin
from terraflow.eo.targets.classes.classification import Classification
from terraflow.eo.targets.parts import Band
from terraflow.settings import Settings
from terraflow.storage import Storage
from terraflow.tracking import runs as tracking

SINUSOIDAL = "+proj=sinu +lon_0=0 +x_0=0 +y_0=0 +R=6371007.181 +units=m +no_defs"


@pytest.fixture
def document(area: Area, storage: Storage) -> dict[str, Any]:
    made = make_map(make_model(), write_items(area), storage)
    document: dict[str, Any] = json.loads(Path(made.item).read_text())
    return document


def test_map_item_time_is_the_span_of_the_inputs(document: dict[str, Any]) -> None:
    properties = document["properties"]
    assert properties["datetime"] is None
    assert properties["start_datetime"] == "2024-01-05T00:00:00Z"
    assert properties["end_datetime"] == "2024-01-25T00:00:00Z"


def test_map_item_is_made_of_the_core_fields(document: dict[str, Any]) -> None:
    assert document["type"] == "Feature"
    assert document["stac_version"] == "1.1.0"
    assert re.fullmatch(r"land-cover-v3-[0-9a-f]{12}", document["id"])
    west, south, east, north = document["bbox"]
    outline = shape(document["geometry"])
    assert outline.exterior.is_ccw
    assert outline.bounds == tuple(document["bbox"])
    assert (west, north) == pytest.approx((15.0, 46.053), abs=0.002)
    assert 0 < east - west < 0.01
    assert 0 < north - south < 0.01


def test_map_item_extensions_are_declared_with_their_required_fields(
    document: dict[str, Any],
) -> None:
    names = [uri.split("/")[3] for uri in document["stac_extensions"]]
    assert sorted(names) == ["classification", "mlm", "processing", "projection"]
    properties = document["properties"]
    assert properties["processing:level"] == "L4"
    assert properties["processing:expression"] == {
        "format": "mlflow-model",
        "expression": "models:/land-cover/3",
    }
    item = pystac.Item.from_dict(document)
    projection = ProjectionExtension.ext(item)
    assert projection.code == "EPSG:32633"
    assert projection.shape == [20, 24]
    assert projection.transform == [10, 0, 500_000, 0, -10, 5_100_000]
    model = MLMExtension.ext(item)
    assert (model.mlm_name, model.architecture) == ("land-cover", "random_forest")
    assert model.tasks == ["semantic-segmentation"]
    assert model.input[0].input.shape == [-1, len(FEATURES)]
    assert model.output[0].result.shape == [-1, 2]
    assert document["assets"]["model"]["roles"] == ["mlm:model"]
    assert document["assets"]["model"]["href"] == "models:/land-cover/3"


def test_map_item_asset_names_bands_classes_and_colours(document: dict[str, Any]) -> None:
    asset = document["assets"]["map"]
    assert asset["href"] == "./map.tif"
    assert asset["type"] == "image/tiff; application=geotiff; profile=cloud-optimized"
    assert "data" in asset["roles"]
    classes, confidence = asset["bands"]
    assert (classes["name"], confidence["name"]) == ("class", "confidence")
    assert classes["nodata"] == confidence["nodata"] == 0
    nodata, forest, water = classes["classification:classes"]
    assert (nodata["value"], nodata["nodata"]) == (0, True)
    assert (forest["value"], forest["name"]) == (1, "forest")
    assert water == {"value": 2, "name": "water", "description": "water", "color_hint": "0000ff"}
    assert re.fullmatch("[0-9a-f]{6}", forest["color_hint"])


def test_map_item_links_to_its_inputs_and_its_run(
    document: dict[str, Any], area: Area, storage: Storage
) -> None:
    links = {(link["rel"], link["href"]) for link in document["links"]}
    assert ("derived_from", str(area.folder / "items.json")) in links
    run = f"{storage.settings.mlflow_url}/api/2.0/mlflow/runs/get?run_id={'5' * 32}"
    assert ("via", run) in links


def test_map_item_links_to_each_input_item_that_has_an_address(
    area: Area, settings: Settings
) -> None:
    write_items(area)
    area.items[1].set_self_href("https://example.org/second.json")
    grid = GeoBox((4, 4), Affine(10, 0, 0, 0, -10, 0), 32633)
    links = item_of(make_model(), area, settings, grid).get_links("derived_from")
    assert [link.href for link in links] == ["items.json", "https://example.org/second.json"]


def test_map_item_of_undated_inputs_says_so(area: Area, settings: Settings) -> None:
    write_items(area)
    grid = GeoBox((4, 4), Affine(10, 0, 0, 0, -10, 0), 32633)
    dated = item_of(make_model(), area, settings, grid)
    area.items[0].properties["terraflow:undated"] = True
    undated = item_of(make_model(), area, settings, grid)
    assert "terraflow:undated" not in dated.properties
    assert undated.properties["terraflow:undated"] is True


def test_map_item_class_name_keeps_to_the_extensions_letters(
    area: Area, settings: Settings
) -> None:
    write_items(area)
    model = make_model(info={"levels": ["Wald & Wiese", "water"]})
    item = item_of(model, area, settings, GeoBox((4, 4), Affine(10, 0, 0, 0, -10, 0), 32633))
    described = item.properties["mlm:output"][0]["classification:classes"][0]
    assert (described["name"], described["description"]) == ("Wald___Wiese", "Wald & Wiese")


def test_map_item_crs_without_a_code_is_told_by_wkt(area: Area, settings: Settings) -> None:
    write_items(area)
    grid = GeoBox((4, 4), Affine(500, 0, 1_000_000, 0, -500, 5_000_000), SINUSOIDAL)
    properties = item_of(make_model(), area, settings, grid).properties
    assert properties["proj:code"] is None
    assert "Sinusoidal" in properties["proj:wkt2"]


class Numbers(Classification):
    """A target whose map holds one number."""

    dtype = "float32"

    def bands(self, levels: Any, section: Any) -> list[Band]:
        del levels, section
        return [Band("yield", "Yield of wheat", unit="t/ha", nodata=float("nan"))]


def test_map_item_of_numbers_is_a_regression_with_its_unit(area: Area, settings: Settings) -> None:
    write_items(area)
    grid = GeoBox((4, 4), Affine(10, 0, 0, 0, -10, 0), 32633)
    model = make_model(hooks=Hooks(target=Numbers()))
    document = item_of(model, area, settings, grid).to_dict()
    assert document["properties"]["mlm:tasks"] == ["regression"]
    [output] = document["properties"]["mlm:output"]
    assert (output["name"], output["result"]["shape"]) == ("Yield of wheat", [-1, 1])
    assert "classification:classes" not in output
    asset = document["assets"]["map"]
    assert asset["title"] == "Land cover: yield"
    assert asset["roles"] == ["data"]
    assert asset["bands"] == [
        {
            "name": "yield",
            "description": "Yield of wheat",
            "unit": "t/ha",
            "data_type": "float32",
            "nodata": "nan",
        }
    ]
    json.dumps(document, allow_nan=False)


def test_map_item_run_link_answers(area: Area, tracked_settings: Settings) -> None:
    import httpx

    write_items(area)
    with tracking.start_run(tracked_settings, "map-item", name="run", tags={}) as run:
        run_id = run.info.run_id
    grid = GeoBox((4, 4), Affine(10, 0, 0, 0, -10, 0), 32633)
    item = item_of(make_model(run_id=run_id), area, tracked_settings, grid)
    login = {"Authorization": f"Bearer {read_mlflow_token(tracked_settings)}"}
    answer = httpx.get(item.get_single_link("via").href, headers=login)
    assert answer.json()["run"]["info"]["run_id"] == run_id


def item_of(model: Any, area: Area, settings: Settings, grid: GeoBox) -> pystac.Item:
    origin = make_origin(model, "items.json", area.items)
    return map_item("m/map.tif", model, area.items, geobox=grid, origin=origin, settings=settings)
