"""When images were taken: time and period of an item, and items of one day by the sun."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pystac

from terraflow.errors import DataError

__all__ = [
    "UNDATED",
    "check_plausible",
    "dates_text",
    "item_span",
    "item_time",
    "solar_days",
    "why_implausible",
]

#: Property of items without a date. STAC asks for a datetime, which then is 1970-01-01.
UNDATED = "terraflow:undated"

#: Properties that tell when an item was processed.
PROCESSED = ("s2:generation_time", "processing:datetime", "created")
#: Properties that tell how new the processing of an image is, by catalogue.
BASELINES = ("s2:processing_baseline", "processing:version")
#: What a time is that nobody set, or earlier.
UNSET = datetime(1970, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)


def item_time(item: pystac.Item) -> datetime:
    """Tell the time of an item: its datetime, or the middle of its period where that is null.

    Returns
    -------
    datetime
        In UTC, which is also taken for a time without a zone; aware.

    Raises
    ------
    DataError
        It has neither, or a period that ends before it begins.
    """
    start, end = item_span(item)
    return _in_utc(item.datetime) if item.datetime else start + (end - start) / 2


def item_span(item: pystac.Item) -> tuple[datetime, datetime]:
    """Tell the period that an item covers: its start and end, else its datetime as both.

    Returns
    -------
    start, end : datetime
        In UTC, aware, both included.

    Raises
    ------
    DataError
        It has neither, or its period ends before it begins.

    References
    ----------
    https://github.com/radiantearth/stac-spec/blob/v1.1.0/commons/common-metadata.md#date-and-time
    """
    told = item.common_metadata
    start = told.start_datetime or item.datetime
    if start is None:
        raise DataError(f"Item {item.id} has no datetime; add one to the catalogue.")
    end = told.end_datetime or item.datetime or start
    start, end = _in_utc(start), _in_utc(end)
    if end < start:
        raise DataError(
            f"Item {item.id} covers {start:%Y-%m-%d %H:%M:%S} to {end:%Y-%m-%d %H:%M:%S}, which "
            "ends before it begins; correct its start_datetime or end_datetime in the catalogue."
        )
    return start, end


def dates_text(items: Sequence[pystac.Item]) -> str:
    """Write of which dates items are: how many, the first and the last."""
    dated = [item for item in items if not item.properties.get(UNDATED)]
    if not dated:
        return "no dates, all count as one time"
    spans = {tuple(time.date() for time in item_span(item)) for item in dated}
    long = sum(start < end for start, end in spans)
    kind = ("periods" if long == len(spans) else "dates and periods") if long else "dates"
    first, last = min(start for start, _ in spans), max(end for _, end in spans)
    if len(spans) == 1:
        return f"1 {kind[:-1]}, {first}{f' to {last}' if long else ''}"
    return f"{len(spans)} {kind}, {first} to {last}"


def why_implausible(time: datetime) -> str:
    """Tell why an image can't be of a time; "" where it can. Clocks may differ by a day."""
    if time <= UNSET:
        return "is 1970-01-01 or before, as where nobody set it"
    return "lies in the future" if time > datetime.now(UTC) + DAY else ""


def check_plausible(items: Sequence[pystac.Item], catalogue: str) -> None:
    """See that images can have been taken when items say.

    Raises
    ------
    DataError
        One is of 1970-01-01 or before, or begins in the future.
    """
    for item in items:
        start, _ = item_span(item)
        if (why := why_implausible(start)) and not item.properties.get(UNDATED):
            raise DataError(
                f"Item {item.id} of {catalogue} is of {start:%Y-%m-%d}, which {why}; correct it "
                "there, or set [data] start and end to leave it out."
            )


def solar_days(items: Sequence[pystac.Item], *, undated: str = "") -> list[list[int]]:
    """Group items that show one day by the sun: tiles of one overpass, processings of one tile.

    Items of longer periods are together where they cover the same.

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
    days: dict[tuple[object, int], list[int]] = {}
    middle = _longitude(items[0]) if items else 0.0
    for index, item in enumerate(items):
        # both sides of the antimeridian have one day
        longitude = middle + (_longitude(item) - middle + 180) % 360 - 180
        start, end = item_span(item)
        shown: object = (start, end)
        if end - start < DAY:
            shown = (item_time(item) + timedelta(hours=longitude / 15)).date()
        alone = index if item.properties.get(undated) else -1
        days.setdefault((shown, alone), []).append(index)
    newest = [(_baseline(item), _processed(item)) for item in items]
    return [sorted(day, key=newest.__getitem__, reverse=True) for day in days.values()]


def _in_utc(time: datetime) -> datetime:
    return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)


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
