from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pystac
import pytest
from hypothesis import given
from hypothesis import strategies as st
from shapely.geometry import MultiPolygon, Point, box, mapping
from shapely.geometry.base import BaseGeometry

from terraflow.eo.config.imagery import Data
from terraflow.eo.images.sources.selection import read_area, select
from terraflow.eo.images.sources.solar_days import (
    dates_text,
    item_span,
    item_time,
    solar_days,
)
from terraflow.errors import DataError
from terraflow.storage import Storage

HERE = box(15.0, 46.0, 15.1, 46.1)


def make_data(**changes: object) -> Data:
    return Data.model_validate({"bands": {"red": "B04"}} | changes)


def make_item(
    day: str, cloud: float | None = None, place: BaseGeometry | None = HERE
) -> pystac.Item:
    return pystac.Item(
        f"{day}-{cloud}",
        mapping(place) if place else None,
        list(place.bounds) if place else None,
        datetime.fromisoformat(day).replace(tzinfo=UTC),
        {} if cloud is None else {"eo:cloud_cover": cloud},
    )


def select_ids(
    items: list[pystac.Item], area: BaseGeometry | None = None, **data: object
) -> list[str]:
    return [item.id for item in select(items, make_data(**data), "catalogue", area)]


def test_select_sorts_by_time_and_id() -> None:
    items = [make_item("2024-02-01"), make_item("2024-01-01", 2), make_item("2024-01-01", 1)]
    assert select_ids(items) == ["2024-01-01-1", "2024-01-01-2", "2024-02-01-None"]


@given(
    days=st.lists(st.dates(date(2024, 1, 1), date(2024, 1, 31)), min_size=1, unique=True),
    start=st.none() | st.dates(date(2024, 1, 1), date(2024, 1, 15)),
    end=st.none() | st.dates(date(2024, 1, 16), date(2024, 1, 31)),
)
def test_select_takes_the_days_from_start_to_end_and_open_ends(
    days: list[date], start: date | None, end: date | None
) -> None:
    items = [make_item(f"{day:%Y-%m-%d}") for day in days]
    wanted = sorted(d for d in days if (not start or d >= start) and (not end or d <= end))
    if wanted:
        ids = select_ids(items, start=start, end=end)
        assert ids == [f"{day:%Y-%m-%d}-None" for day in wanted]
    else:
        with pytest.raises(DataError, match="items lie between 2024-01"):
            select_ids(items, start=start, end=end)


def test_select_compares_dates_in_utc() -> None:
    item = make_item("2024-01-01")
    item.datetime = datetime.fromisoformat("2024-01-01T23:30:00-02:00")
    assert item_time(item).day == 2
    assert select_ids([item], start="2024-01-02") == [item.id]


def make_period(
    start: str, end: str | None, time: str | None = None, place: BaseGeometry | None = HERE
) -> pystac.Item:
    item = make_item("2024-01-01", place=place)
    item.id = f"{start} {end}"
    item.datetime = datetime.fromisoformat(time) if time else None
    item.properties |= {"start_datetime": start, "end_datetime": end}
    return item


@pytest.mark.parametrize(
    ("start", "end", "taken"),
    [
        ("2024-04-01", "2024-09-30", True),
        ("2024-12-31", None, True),
        (None, "2024-01-01", True),
        ("2023-01-01", "2025-12-31", True),
        ("2025-01-01", None, False),
        (None, "2023-12-31", False),
    ],
)
@pytest.mark.parametrize("time", [None, "2024-01-01T00:00:00Z"])
def test_select_item_of_a_period_is_taken_where_it_overlaps_the_dates(
    start: str | None, end: str | None, taken: bool, time: str | None
) -> None:
    annual = make_period("2024-01-01T00:00:00Z", "2024-12-31T23:59:59Z", time)
    if taken:
        assert select_ids([annual], start=start, end=end) == [annual.id]
    else:
        wanted = r"its 1 items lie between 2024-01-01 and 2024-12-31; change \[data\] start"
        with pytest.raises(DataError, match=wanted):
            select_ids([annual], start=start, end=end)


def test_select_item_with_the_start_of_a_period_alone_counts_by_it() -> None:
    item = make_period("2024-03-01T00:00:00Z", None)
    assert select_ids([item], start="2024-03-01", end="2024-03-01") == [item.id]


def test_select_period_that_ends_before_it_begins_is_named() -> None:
    item = make_period("2024-12-31T00:00:00Z", "2024-01-01T00:00:00Z")
    with pytest.raises(DataError, match=r"covers 2024-12-31 .* to 2024-01-01 .*, which ends"):
        select_ids([item])


@pytest.mark.parametrize("day", ["1970-01-01", "1899-12-30", "2099-01-01"])
def test_select_implausible_time_is_named_and_the_remedy_leaves_it_out(day: str) -> None:
    items = [make_item(day), make_item("2024-01-01")]
    wanted = rf"Item {day}-None of catalogue is of {day}, which .*, or set \[data\] start and end"
    with pytest.raises(DataError, match=wanted):
        select_ids(items)
    assert select_ids(items, start="2000-01-01", end="2024-12-31") == ["2024-01-01-None"]


def test_select_period_that_has_not_ended_yet_is_plausible() -> None:
    now = datetime.now(UTC)
    item = make_period(f"{now:%Y}-01-01T00:00:00Z", f"{now:%Y}-12-31T23:59:59Z")
    assert select_ids([item]) == [item.id]


def test_select_undated_items_pass_without_dates_and_are_refused_with_them() -> None:
    item = make_item("1970-01-01")
    item.properties["terraflow:undated"] = True
    assert select_ids([item]) == [item.id]
    with pytest.raises(
        DataError, match=r"hold no date, so that .*remove these, or correct name_pa"
    ):
        select_ids([item, make_item("2024-01-01")], start="2000-01-01")


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        ("2024-03-01T01:30:00+02:00", datetime(2024, 2, 29, 23, 30, tzinfo=UTC)),
        ("2024-03-01T01:30:00Z", datetime(2024, 3, 1, 1, 30, tzinfo=UTC)),
        ("2024-03-01T01:30:00", datetime(2024, 3, 1, 1, 30, tzinfo=UTC)),
    ],
)
def test_item_span_and_time_of_a_period_are_in_utc(start: str, expected: datetime) -> None:
    end = datetime(2024, 3, 31, tzinfo=UTC)
    item = make_period(start, "2024-03-31T00:00:00Z")
    assert item_span(item) == (expected, end)
    assert item_time(item) == expected + (end - expected) / 2
    assert item_time(item).tzinfo is UTC


def test_item_time_of_a_period_with_a_datetime_is_that() -> None:
    item = make_period("2024-01-01T00:00:00Z", "2024-12-31T23:59:59Z", "2024-06-01T12:00:00Z")
    assert item_time(item) == datetime(2024, 6, 1, 12, tzinfo=UTC)


def test_dates_text_tells_how_many_first_and_last() -> None:
    may, june = make_item("2024-05-14"), make_item("2024-06-08")
    annual = make_period("2024-01-01T00:00:00Z", "2024-12-31T23:59:59Z")
    undated = make_item("1970-01-01")
    undated.properties["terraflow:undated"] = True
    assert dates_text([june, may, may]) == "2 dates, 2024-05-14 to 2024-06-08"
    assert dates_text([may, may]) == "1 date, 2024-05-14"
    assert dates_text([annual, annual]) == "1 period, 2024-01-01 to 2024-12-31"
    assert dates_text([annual, may]) == "2 dates and periods, 2024-01-01 to 2024-12-31"
    assert dates_text([undated]) == "no dates, all count as one time"


def test_solar_days_items_of_one_period_are_together_and_no_others() -> None:
    year = ("2024-01-01T00:00:00Z", "2024-12-31T23:59:59Z")
    west, east = box(15.0, 46.0, 15.1, 46.1), box(115.1, 46.0, 115.2, 46.1)
    items = [
        make_period(*year, place=west),
        make_period(*year, place=east),
        make_period("2024-04-01T00:00:00Z", "2024-10-01T23:59:59Z"),
        make_item("2024-07-01"),
    ]
    assert solar_days(items) == [[0, 1], [2], [3]]


def test_select_item_without_any_time_is_named() -> None:
    item = make_item("2024-01-01")
    item.datetime = None
    with pytest.raises(DataError, match="Item 2024-01-01-None has no datetime; add one"):
        select_ids([item])


def test_select_area_keeps_items_that_touch_it_and_those_that_do_not_tell() -> None:
    far = make_item("2024-01-01", place=box(100, 10, 101, 11))
    near, silent = make_item("2024-01-02"), make_item("2024-01-03", place=None)
    area = box(15.05, 46.05, 15.2, 46.2)
    assert select_ids([far, near, silent], area) == [near.id, silent.id]


def test_select_area_compares_the_footprint_and_not_its_box() -> None:
    corner = MultiPolygon([box(15, 46, 15.01, 46.01), box(15.09, 46.09, 15.1, 46.1)])
    with pytest.raises(DataError, match="touches the area"):
        select_ids([make_item("2024-01-01", place=corner)], box(15.04, 46.04, 15.06, 46.06))


def test_select_no_overlap_gives_both_extents() -> None:
    wanted = (
        r"No item of catalogue touches the area \[20, 50, 21, 51\] \(west, south, east, north in "
        r"degrees\); its items lie within \[15, 46, 15\.1, 46\.1\]; change \[data\] area\."
    )
    with pytest.raises(DataError, match=wanted):
        select_ids([make_item("2024-01-01")], box(20, 50, 21, 51))


def test_select_cloud_cover_keeps_clear_items_and_those_that_do_not_tell() -> None:
    items = [make_item("2024-01-01", 30), make_item("2024-01-02", 20), make_item("2024-01-03")]
    assert select_ids(items, max_cloud_cover=20) == ["2024-01-02-20", "2024-01-03-None"]


def test_select_all_too_cloudy_tells_the_clearest() -> None:
    items = [make_item("2024-01-01", 30), make_item("2024-01-02", 45)]
    wanted = r"at most 10 % cloud; the clearest of 2 has 30 %; raise \[data\] max_cloud_cover"
    with pytest.raises(DataError, match=wanted):
        select_ids(items, max_cloud_cover=10)


def test_select_number_takes_the_clearest_in_order_of_time() -> None:
    items = [
        make_item("2024-01-01", 5),
        make_item("2024-01-02"),
        make_item("2024-01-03", 1),
        make_item("2024-01-04", 90),
    ]
    assert select_ids(items, max_items=2) == ["2024-01-01-5", "2024-01-03-1"]
    assert len(select_ids(items, max_items=9)) == 4


def tiled(day: str, cloud: float, tile: int, **properties: Any) -> pystac.Item:
    """An item of one of two tiles beside each other, whose images end where the orbit does."""
    item = make_item(day, cloud, box(15 + tile, 46, 15.9 + tile - cloud / 1000, 46.9))
    item.id = f"{tile} {day}"
    item.properties |= properties
    return item


TILES: dict[str, Callable[[int], dict[str, Any]]] = {
    "grid": lambda tile: {"grid:code": f"MGRS-33TV{tile}"},
    "sentinel-2": lambda tile: {"s2:mgrs_tile": f"33TV{tile}"},
    "landsat": lambda tile: {"landsat:wrs_path": "190", "landsat:wrs_row": f"02{tile}"},
    "projection": lambda tile: {
        "proj:code": "EPSG:32633",
        "proj:transform": [10, 0, 500_000 + 99_990 * tile, 0, -10, 5_100_000],
    },
}


@pytest.mark.parametrize("kind", TILES)
def test_select_number_takes_of_each_tile_and_month(kind: str) -> None:
    items = [
        tiled(f"2024-0{month}-{day:02}", day + 20 * tile + month, tile, **TILES[kind](tile))
        for tile in (0, 1)  # the second is always cloudier
        for month in (4, 5, 6)
        for day in (3, 13)
    ]
    ids = select_ids(items, max_items=6)
    assert {(item[0], item[7:9]) for item in ids} == {
        (tile, month) for tile in "01" for month in ("04", "05", "06")
    }
    assert {item[-2:] for item in ids} == {"03"}  # the clearer of both days
    assert len(select_ids(items, max_items=12)) == 12
    few = select_ids(items, max_items=3)
    assert {item[7:9] for item in few} == {"04", "05", "06"}
    assert {item[0] for item in few} == {"0", "1"}


def test_select_number_takes_more_of_a_month_where_others_have_no_more() -> None:
    items = [make_item(f"2024-05-{day:02}", day) for day in range(1, 6)]
    items.append(make_item("2024-06-01", 90))
    ids = select_ids(items, max_items=4)
    assert ids == ["2024-05-01-1", "2024-05-02-2", "2024-05-03-3", "2024-06-01-90"]


def write_area(path: Path, document: object) -> str:
    path.write_text(json.dumps(document))
    return str(path)


def test_read_area_none_and_box(storage: Storage) -> None:
    assert read_area(make_data(), storage) is None
    assert read_area(make_data(area=[15, 46, 15.1, 46.1]), storage) == HERE


@pytest.mark.parametrize("kind", ["Polygon", "MultiPolygon", "Feature", "FeatureCollection"])
def test_read_area_of_each_kind_of_geojson(kind: str, tmp_path: Path, storage: Storage) -> None:
    halves = box(15.0, 46.0, 15.05, 46.1), box(15.05, 46.0, 15.1, 46.1)
    features = [{"type": "Feature", "properties": {}, "geometry": mapping(h)} for h in halves]
    documents = {
        "Polygon": mapping(HERE),
        "MultiPolygon": mapping(MultiPolygon([HERE])),
        "Feature": {"type": "Feature", "properties": {}, "geometry": mapping(HERE)},
        "FeatureCollection": {"type": "FeatureCollection", "features": features},
    }
    path = write_area(tmp_path / "area.geojson", documents[kind])
    area = read_area(make_data(area=path), storage)
    assert area is not None
    assert area.equals(HERE)


def test_read_area_polygon_that_crosses_itself_is_mended(tmp_path: Path, storage: Storage) -> None:
    bow = {"type": "Polygon", "coordinates": [[[0, 0], [2, 2], [2, 0], [0, 2], [0, 0]]]}
    area = read_area(make_data(area=write_area(tmp_path / "a.json", bow)), storage)
    assert area is not None
    assert area.area == pytest.approx(2)


@pytest.mark.parametrize(
    ("document", "what"),
    [
        ({"type": "Polygon"}, "can't be read"),
        ({"hello": 1}, "can't be read"),
        ([1, 2], "can't be read"),
        ({"type": "Feature", "properties": {}, "geometry": None}, "can't be read"),
        ({"type": "FeatureCollection", "features": []}, "holds no polygon"),
        ({"type": "Polygon", "coordinates": []}, "holds no polygon"),
        (mapping(Point(15, 46)), "holds no polygon"),
        (mapping(box(500_000, 5_099_000, 501_000, 5_100_000)), "which are no degrees"),
        ({"type": "Polygon", "coordinates": [[["a", "b"]] * 4]}, "can't be read"),
        ({"type": "Polygon", "coordinates": [[[0, 0], [1, 1]]]}, "can't be read"),
    ],
)
def test_read_area_of_another_kind_is_told(
    document: object, what: str, tmp_path: Path, storage: Storage
) -> None:
    path = write_area(tmp_path / "area.geojson", document)
    with pytest.raises(DataError, match=rf"Area {path} .*{what}.*expected GeoJSON of polygons"):
        read_area(make_data(area=path), storage)


@pytest.mark.parametrize("content", [None, "no JSON"])
def test_read_area_of_no_geojson_file_is_told(
    content: str | None, tmp_path: Path, storage: Storage
) -> None:
    path = tmp_path / "area.geojson"
    if content:
        path.write_text(content)
    with pytest.raises(DataError, match=rf"Area {path} can't be read"):
        read_area(make_data(area=str(path)), storage)


def test_solar_days_both_sides_of_the_antimeridian_have_one_day() -> None:
    items = []
    for name, west in (("a", 179.0), ("b", -180.0)):
        time = datetime(2024, 4, 1, 22, 20, tzinfo=UTC)
        items.append(pystac.Item(name, None, [west, -17.0, west + 1, -16.0], time, {}))
    assert solar_days(items) == [[0, 1]]


@pytest.mark.parametrize("key", ["s2:generation_time", "processing:datetime", "created"])
def test_solar_days_of_one_baseline_what_was_processed_last_is_first(key: str) -> None:
    time = datetime(2024, 4, 1, 10, tzinfo=UTC)
    told = [
        {"s2:processing_baseline": "05.10", key: "2024-04-01T12:00:00Z"},
        {"s2:processing_baseline": "05.10", key: "2024-06-01T12:00:00Z"},
        {"s2:processing_baseline": "05.10"},
        {"s2:processing_baseline": "04.00", key: "2025-01-01T12:00:00Z"},
    ]
    items = [pystac.Item(str(n), None, None, time, values) for n, values in enumerate(told)]
    assert solar_days(items) == [[1, 0, 2, 3]]


def test_solar_days_baselines_are_numbers_and_the_newest_is_first() -> None:
    time = datetime(2024, 4, 1, 10, tzinfo=UTC)
    told = [{}, {"processing:version": "5.9"}, {"processing:version": "05.10"}]
    items = [pystac.Item(str(n), None, None, time, values) for n, values in enumerate(told)]
    assert solar_days(items) == [[2, 1, 0]]
