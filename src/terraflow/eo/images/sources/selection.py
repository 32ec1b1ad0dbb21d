"""Which items: by area, dates, cloud cover and number; and the area that they were taken for."""

from __future__ import annotations

import hashlib
import json
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from datetime import datetime

import pystac
import shapely
from shapely.geometry import mapping, shape
from shapely.geometry.base import BaseGeometry

from terraflow.eo.config.bounds import Bounds, across, as_bounds, as_geometry, cut, jumps, smallest
from terraflow.eo.config.imagery import Data
from terraflow.eo.images.sources.solar_days import (
    UNDATED,
    check_plausible,
    item_span,
    item_time,
)
from terraflow.errors import DataError, StorageError
from terraflow.storage import Storage, join

__all__ = [
    "AREA",
    "area_bounds",
    "bounds_text",
    "item_area",
    "outline_file",
    "period_text",
    "read_area",
    "select",
]

#: Property of an item that was ingested for polygons: URI of their GeoJSON in the store.
AREA = "terraflow:area"


def read_area(data: Data, storage: Storage) -> BaseGeometry | None:
    """Read the area: a box, or the polygons of a GeoJSON file.

    Returns
    -------
    geometry or None
        In degrees (EPSG:4326), cut at the antimeridian where it crosses it; None is everywhere.

    Raises
    ------
    DataError
        The file can't be read, is no GeoJSON of polygons, or not in degrees.

    References
    ----------
    https://www.rfc-editor.org/rfc/rfc7946
    """
    if not isinstance(data.area, str):
        return as_geometry(data.area) if data.area else None
    try:
        document = json.loads(storage.read(data.area))
        features = document.get("features", [document])
        shapes = [shape(feature.get("geometry", feature)) for feature in features]
        area = shapely.union_all([shapely.make_valid(part) for part in shapes])
    except (StorageError, ValueError, KeyError, AttributeError, TypeError, IndexError) as error:
        raise _wrong_area(data.area, f"can't be read ({error})") from error
    except shapely.errors.ShapelyError as error:
        raise _wrong_area(data.area, f"can't be read ({error})") from error
    if area.is_empty or not area.area > 0:
        raise _wrong_area(data.area, "holds no polygon")
    west, south, east, north = area.bounds
    # past 180 it is the other side of the antimeridian, unless it goes around the globe
    if not (-360 <= west <= east <= 360 and east - west <= 360 and -90 <= south <= north <= 90):
        raise _wrong_area(data.area, f"lies at {bounds_text(area.bounds)}, which are no degrees")
    return cut(area)


def area_bounds(area: BaseGeometry) -> Bounds:
    """Give the smallest box around an area: west, south, east, north in degrees (EPSG:4326)."""
    return smallest(part.bounds for part in getattr(area, "geoms", [area]))


def outline_file(area: BaseGeometry, root: str) -> tuple[str, bytes]:
    """Name and write polygons for the store, beside the items that are ingested for them.

    Parameters
    ----------
    area : geometry
        In degrees (EPSG:4326).
    root : str
        URI of the project's part of the store.

    Returns
    -------
    uri, document : str, bytes
        GeoJSON; the same for the same polygons.
    """
    document = json.dumps(mapping(area), sort_keys=True).encode()
    return join(root, f"area-{hashlib.sha256(document).hexdigest()[:12]}.geojson"), document


def item_area(items: Sequence[pystac.Item], storage: Storage) -> BaseGeometry | None:
    """Read the polygons that items were ingested for.

    Returns
    -------
    geometry or None
        In degrees (EPSG:4326); None where no item names any: all of their pixels count.

    Raises
    ------
    DataError
        Items were ingested for unlike areas, so that no one area can be told.
    StorageError
        The polygons can't be read.
    """
    found = {item.properties.get(AREA): item.id for item in items}
    if len(found) > 1:
        raise DataError(
            f"Items {' and '.join(list(found.values())[:2])} were ingested for {len(found)} areas; "
            "one is expected; ingest them for one [data] area."
        )
    uri = next(iter(found), None)
    return shape(json.loads(storage.read(uri))) if uri else None


def select(
    items: list[pystac.Item], data: Data, catalogue: str, area: BaseGeometry | None
) -> list[pystac.Item]:
    """Keep the items of the dates, the area and the cloud cover; sort by time and id.

    Both days are included, and an item of a period is taken where it overlaps them. An item without
    a geometry is kept, since its images tell where it is;
    so is one that does not tell its cloud cover.

    Raises
    ------
    DataError
        Nothing is left; the message names the condition and what the items have. Or one of them has
        no date, though dates are asked for, or an implausible one.
    """
    if not items:
        raise DataError(f"{catalogue} holds no item at all; choose another [data] catalogue.")
    chosen = _in_dates(items, data, catalogue)
    check_plausible(chosen, catalogue)
    if area is not None:
        chosen = _in_area(chosen, area, catalogue)
    if data.max_cloud_cover is not None:
        chosen = _clear_enough(chosen, data.max_cloud_cover, catalogue)
    if data.max_items is not None:
        chosen = _spread(chosen, data.max_items)
    return sorted(chosen, key=lambda item: (item_time(item), item.id))


def bounds_text(bounds: Iterable[float]) -> str:
    """Write bounds for a message."""
    return f"[{', '.join(f'{value:.6g}' for value in bounds)}]"


def period_text(data: Data) -> str:
    """Write the dates for a message."""
    if data.start and data.end:
        return f"between {data.start} and {data.end}"
    if data.start or data.end:
        return f"since {data.start}" if data.start else f"until {data.end}"
    return "at any time"


def _in_dates(items: list[pystac.Item], data: Data, catalogue: str) -> list[pystac.Item]:
    if data.start is None and data.end is None:
        return items
    if any(item.properties.get(UNDATED) for item in items):
        raise DataError(
            f"The names of {catalogue} hold no date, so that [data] start and end can't be "
            "compared; remove these, or correct name_pattern or date_format."
        )
    first, last = data.start or datetime.min.date(), data.end or datetime.max.date()
    spans = [tuple(time.date() for time in item_span(item)) for item in items]
    chosen = [
        item
        for item, (start, end) in zip(items, spans, strict=True)
        if start <= last and first <= end
    ]
    if not chosen:
        raise DataError(
            f"No item of {catalogue} lies {period_text(data)}; its {len(items)} items lie between "
            f"{min(start for start, _ in spans)} and {max(end for _, end in spans)}; change [data] "
            "start and end."
        )
    return chosen


def _in_area(items: list[pystac.Item], area: BaseGeometry, catalogue: str) -> list[pystac.Item]:
    places = [_footprint(item) for item in items]
    chosen = [
        item
        for item, place in zip(items, places, strict=True)
        if place is None or area.intersects(place)
    ]
    if not chosen:
        extent = shapely.union_all([place for place in places if place is not None]).bounds
        raise DataError(
            f"No item of {catalogue} touches the area {bounds_text(area_bounds(area))} (west, "
            f"south, east, north in degrees); its items lie within {bounds_text(extent)}; change "
            "[data] area."
        )
    return chosen


def _footprint(item: pystac.Item) -> BaseGeometry | None:
    """Give where an item lies; of an outline that jumps, both that it may mean."""
    if not item.geometry:
        return as_geometry(as_bounds(item.bbox)) if item.bbox and len(item.bbox) == 4 else None
    told = shape(item.geometry)
    place = shapely.make_valid(told)
    return place.union(across(told)) if jumps(told) else place


def _clear_enough(items: list[pystac.Item], limit: float, catalogue: str) -> list[pystac.Item]:
    chosen = [item for item in items if _cloud_cover(item, 0) <= limit]
    if not chosen:
        least = min(_cloud_cover(item, 0) for item in items)
        raise DataError(
            f"No item of {catalogue} has at most {limit:g} % cloud; the clearest of {len(items)} "
            f"has {least:g} %; raise [data] max_cloud_cover."
        )
    return chosen


def _cloud_cover(item: pystac.Item, unknown: float) -> float:
    cover = item.properties.get("eo:cloud_cover")
    return unknown if cover is None else float(cover)


def _spread(items: Sequence[pystac.Item], number: int) -> list[pystac.Item]:
    """Take items by turns of all tiles and months, of each the clearest first.

    The least cloud cover of all together would be that of a dry month, or of the tile without
    mountains.
    """
    groups: dict[tuple[str, str], list[pystac.Item]] = {}
    for item in sorted(items, key=lambda i: (_cloud_cover(i, 101), item_time(i), i.id)):
        groups.setdefault((_tile(item), f"{item_time(item):%Y-%m}"), []).append(item)
    waiting = {key: deque(members) for key, members in groups.items()}
    taken: Counter[tuple[str, str] | str] = Counter()
    chosen: list[pystac.Item] = []

    def turn(key: tuple[str, str]) -> tuple[float, ...]:
        tile, month = key
        return taken[key], taken[tile], taken[month], _cloud_cover(waiting[key][0], 101)

    while waiting and len(chosen) < number:
        key = min(waiting, key=turn)
        chosen.append(waiting[key].popleft())
        taken.update([key, *key])
        if not waiting[key]:
            del waiting[key]
    return chosen


def _tile(item: pystac.Item) -> str:
    """Name the tile of an item: by its code, else by its grid, else by its place.

    References
    ----------
    https://github.com/stac-extensions/grid, /sentinel-2, /landsat and /projection
    """
    told = item.properties
    for keys in (("grid:code",), ("s2:mgrs_tile",), ("landsat:wrs_path", "landsat:wrs_row")):
        if all(key in told for key in keys):
            return "/".join(str(told[key]) for key in keys)
    for fields in (told, *(asset.extra_fields for asset in item.assets.values())):
        if "proj:transform" in fields:
            west, north = fields["proj:transform"][2], fields["proj:transform"][5]
            crs = [fields.get(key, told.get(key)) for key in ("proj:code", "proj:epsg")]
            return f"{crs} {west} {north}"
    # to half a degree: of one tile an image may end where the orbit does
    return " ".join(f"{round(2 * edge) / 2:g}" for edge in item.bbox[:2]) if item.bbox else ""


def _wrong_area(path: str, what: str) -> DataError:
    return DataError(
        f"Area {path} {what}; expected GeoJSON of polygons in degrees (EPSG:4326), as `ogr2ogr "
        "-t_srs EPSG:4326 area.geojson FILE` writes; correct the file or [data] area."
    )
