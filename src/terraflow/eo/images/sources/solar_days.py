"""When images were taken: the time of an item, and items of one day by the sun."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta

import pystac

from terraflow.errors import DataError

__all__ = ["item_time", "solar_days", "why_implausible"]

#: Properties that tell when an item was processed.
PROCESSED = ("s2:generation_time", "processing:datetime", "created")
#: Properties that tell how new the processing of an image is, by catalogue.
BASELINES = ("s2:processing_baseline", "processing:version")
#: No satellite took images for maps before; a time that nobody set is this, or earlier.
EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)


def item_time(item: pystac.Item) -> datetime:
    """Tell the time of an item: its datetime, or the start of its range where that is null.

    Returns
    -------
    datetime
        In UTC, which is also taken for a time without a zone; aware.

    Raises
    ------
    DataError
        It has neither.
    """
    time = item.datetime or item.common_metadata.start_datetime
    if time is None:
        raise DataError(f"Item {item.id} has no datetime; add one to the catalogue.")
    return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)


def why_implausible(time: datetime) -> str:
    """Tell why an image can't be of a time; "" where it can. Clocks may differ by a day."""
    if time < EARLIEST:
        return "is before 1970"
    return "lies in the future" if time > datetime.now(UTC) + timedelta(days=1) else ""


def solar_days(items: Sequence[pystac.Item], *, undated: str = "") -> list[list[int]]:
    """Group items that show one day by the sun: tiles of one overpass, processings of one tile.

    Parameters
    ----------
    items : sequence of pystac.Item
        In the order of time and id.
    undated : str
        Property of items without a date, none of which shows the same as another.

    Returns
    -------
    list of list of int
        Numbers of the items, of each day the newest processing baseline first, and of one baseline
        what was processed last; days in the order of their first item.

    References
    ----------
    Mean solar time, 15 degrees an hour, as odc-stac groups by solar_day:
    https://odc-stac.readthedocs.io/en/stable/_api/odc.stac.load.html
    """
    days: dict[tuple[date, int], list[int]] = {}
    middle = _longitude(items[0]) if items else 0.0
    for index, item in enumerate(items):
        # both sides of the antimeridian have one day
        longitude = middle + (_longitude(item) - middle + 180) % 360 - 180
        day = (item_time(item) + timedelta(hours=longitude / 15)).date()
        alone = index if item.properties.get(undated) else -1
        days.setdefault((day, alone), []).append(index)
    newest = [(_baseline(item), _processed(item)) for item in items]
    return [sorted(day, key=newest.__getitem__, reverse=True) for day in days.values()]


def _longitude(item: pystac.Item) -> float:
    """Longitude of an item's middle in degrees; 0, where days are UTC's, if it has no bounds."""
    if not item.bbox:
        return 0.0
    west, east = item.bbox[0], item.bbox[len(item.bbox) // 2]
    return (west + east + (360 if east < west else 0)) / 2


def _baseline(item: pystac.Item) -> tuple[int, ...]:
    told = next((str(item.properties[key]) for key in BASELINES if key in item.properties), "")
    return tuple(int(number) for number in re.findall(r"\d+", told))


def _processed(item: pystac.Item) -> str:
    """Tell when an item was processed, as ISO 8601 writes it; "" where it does not say."""
    return next((str(item.properties[key]) for key in PROCESSED if key in item.properties), "")
