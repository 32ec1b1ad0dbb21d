from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

import pystac
import pytest

from terraflow.eo.images.assets import Image, find_images, find_scaling
from terraflow.errors import DataError


def make_item(assets: dict[str, dict[str, Any]], **properties: object) -> pystac.Item:
    item = pystac.Item("scene", None, None, datetime(2024, 5, 1, tzinfo=UTC), dict(properties))
    for name, fields in assets.items():
        media = fields.pop("type", None)
        item.add_asset(name, pystac.Asset(f"/{name}.tif", media_type=media, extra_fields=fields))
    return item


def find(item: pystac.Item, key: str) -> Image:
    ((image,),) = find_images([item], [key])
    return image


def test_find_images_key_of_an_asset_goes_before_a_band_of_another() -> None:
    item = make_item({"visual": {}, "visual.2": {}})
    assert find(item, "visual.2") == Image("scene", "visual.2", "/visual.2.tif", 1)
    assert find(item, "visual.3") == Image("scene", "visual.3", "/visual.tif", 3)


@pytest.mark.parametrize("field", ["bands", "eo:bands"])
def test_find_images_name_of_a_band_that_one_asset_has(field: str) -> None:
    bands = [{"name": "b1", "description": "B04"}, {"name": "b2", "description": "B08"}]
    item = make_item({"image": {field: bands}, "other": {}})
    assert find(item, "b2") == Image("scene", "b2", "/image.tif", 2)
    assert find(item, "B08").band == 2


def test_find_images_name_of_a_band_of_two_assets_is_not_guessed() -> None:
    bands = [{"name": "red"}]
    with pytest.raises(DataError, match=r"scene lacks red and has a, b; correct \[data\.bands\]"):
        find(make_item({"a": {"bands": bands}, "b": {"bands": bands}}), "red")


@pytest.mark.parametrize("key", ["B99", "B04.0", "B04.x", "B99.1"])
def test_find_images_missing_is_named_with_what_there_is(key: str) -> None:
    item = make_item({"B04": {}, "image": {"bands": [{"name": "b1"}, {"name": "b2"}]}})
    wanted = rf"1 of 1 items lack .*: scene lacks {key} and has B04, image \(b1, b2\); correct"
    with pytest.raises(DataError, match=wanted):
        find(item, key)


def test_find_images_names_three_items_at_most() -> None:
    items = [make_item({}) for _ in range(5)]
    with pytest.raises(
        DataError, match=r"5 of 5 items .*(scene lacks B04 and has none.*){3} \.\.\."
    ):
        find_images(items, ["B04"])


def test_find_images_key_named_twice_is_one_image() -> None:
    ((image,),) = find_images([make_item({"B04": {}})], ["B04", "B04"])
    assert image.key == "B04"


BAND = {"scale": 0.0001, "offset": -0.1, "nodata": 0}


@pytest.mark.parametrize(
    "fields",
    [
        {"raster:bands": [BAND]},
        {"bands": [BAND]},
        {"bands": [{"raster:scale": 0.0001, "raster:offset": -0.1, "nodata": 0}]},
        {"raster:scale": 0.0001, "raster:offset": -0.1, "nodata": 0},
    ],
    ids=["STAC 1.0", "STAC 1.1", "STAC 1.1 prefixed", "asset"],
)
def test_find_images_scale_offset_and_nodata_from_the_metadata(fields: dict[str, Any]) -> None:
    image = find(make_item({"B04": fields}), "B04")
    assert (image.scale, image.offset, image.nodata) == (0.0001, -0.1, 0)


def test_find_images_metadata_of_the_band_in_question() -> None:
    item = make_item({"image": {"raster:bands": [BAND, {"scale": 2.0}]}})
    image = find(item, "image.2")
    assert (image.scale, image.offset, image.nodata) == (2.0, 0.0, None)


def test_find_images_nothing_told_is_left_to_the_file() -> None:
    image = find(make_item({"B04": {}}), "B04")
    assert (image.scale, image.offset, image.nodata) == (None, None, None)


def test_find_images_nodata_nan_as_text() -> None:
    image = find(make_item({"ndvi": {"raster:bands": [{"nodata": "nan"}]}}), "ndvi")
    assert image.nodata != image.nodata


@pytest.mark.parametrize(
    ("applied", "media", "offset"),
    [
        (True, pystac.MediaType.COG, 0.0),
        (False, pystac.MediaType.COG, -0.1),
        (True, pystac.MediaType.JPEG2000, -0.1),
    ],
    ids=["subtracted", "not subtracted", "original file"],
)
def test_find_images_earth_search_offset_is_not_subtracted_twice(
    applied: bool, media: str, offset: float
) -> None:
    fields = {"raster:bands": [dict(BAND)], "type": media}
    item = make_item({"red": fields}, **{"earthsearch:boa_offset_applied": applied})
    image = find(item, "red")
    assert (image.scale, image.offset) == (0.0001, offset)


@pytest.mark.parametrize(
    ("baseline", "asset", "expected"),
    [
        ("05.09", "B04", (0.0001, -0.1)),
        ("04.00", "B8A", (0.0001, -0.1)),
        ("03.01", "B12", (0.0001, 0.0)),
        ("05.09", "SCL", (None, None)),
        ("05.09", "AOT", (None, None)),
    ],
)
def test_find_images_planetary_computer_scaling_by_processing_baseline(
    baseline: str, asset: str, expected: tuple[float | None, float | None]
) -> None:
    item = make_item({asset: {}}, **{"s2:processing_baseline": baseline})
    image = find(item, asset)
    assert (image.scale, image.offset) == expected


def test_find_scaling_gives_what_find_images_gives() -> None:
    bands = [BAND, {"scale": 2.0, "offset": 1.0, "nodata": "nan"}]
    item = make_item(
        {"image": {"raster:bands": bands}, "B04": {}}, **{"s2:processing_baseline": "05.09"}
    )
    assert find_scaling(item, "image") == (0.0001, -0.1, 0)
    scale, offset, nodata = find_scaling(item, "image.2")
    assert (scale, offset) == (2.0, 1.0)
    assert nodata is not None
    assert math.isnan(nodata)
    assert find_scaling(item, "B04") == (0.0001, -0.1, None)
    with pytest.raises(DataError, match="scene lacks B99"):
        find_scaling(item, "B99")
