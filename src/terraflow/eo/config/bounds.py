"""Boxes in degrees, which may cross the antimeridian: their west is then greater than their east.

References
----------
https://www.rfc-editor.org/rfc/rfc7946, sections 3.1.9 and 5.2.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import shapely
from shapely.affinity import translate
from shapely.geometry import box
from shapely.geometry.base import BaseGeometry

__all__ = [
    "Bounds",
    "across",
    "as_bounds",
    "as_geometry",
    "crosses",
    "cut",
    "jumps",
    "overlap",
    "parts",
    "smallest",
    "width_deg",
]

#: West, south, east, north in degrees (EPSG:4326).
Bounds = tuple[float, float, float, float]
WORLD: Bounds = (-180.0, -90.0, 180.0, 90.0)


def as_bounds(bbox: Sequence[float]) -> Bounds:
    """Take a bbox of STAC for a box, without its heights where it has some."""
    west, south, east, north = (bbox[i] for i in ((0, 1, 2, 3) if len(bbox) == 4 else (0, 1, 3, 4)))
    return west, south, east, north


def crosses(bounds: Bounds) -> bool:
    """Tell whether a box crosses the antimeridian."""
    return bounds[0] > bounds[2]


def width_deg(bounds: Bounds) -> float:
    """Tell how many degrees of longitude a box spans."""
    return bounds[2] - bounds[0] + (360 if crosses(bounds) else 0)


def parts(bounds: Bounds) -> list[Bounds]:
    """Cut a box at the antimeridian: one box, or two."""
    west, south, east, north = bounds
    if not crosses(bounds):
        return [bounds]
    return [(west, south, 180.0, north), (-180.0, south, east, north)]


def as_geometry(bounds: Bounds) -> BaseGeometry:
    """Draw a box: a polygon, or two where it crosses the antimeridian."""
    drawn = [box(*part) for part in parts(bounds)]
    return drawn[0] if len(drawn) == 1 else shapely.union_all(drawn)


def cut(geometry: BaseGeometry) -> BaseGeometry:
    """Bring longitudes past 180 or -180 back between them, and cut what crosses these."""
    west, _, east, _ = geometry.bounds
    if -180 <= west <= east <= 180:
        return geometry
    turned = [translate(geometry, turn).intersection(box(*WORLD)) for turn in (-360, 0, 360)]
    return shapely.union_all([part for part in turned if part.area > 0])


def jumps(geometry: BaseGeometry) -> bool:
    """Tell whether an outline goes from one side of the globe to the other in a step.

    It then runs either around the globe, or across the antimeridian without being cut there.
    """
    for part in getattr(geometry, "geoms", [geometry]):
        steps = np.abs(np.diff(shapely.get_coordinates(part)[:, 0]))
        if ((steps > 180) & (steps < 360)).any():
            return True
    return False


def across(geometry: BaseGeometry) -> BaseGeometry:
    """Take an outline that jumps for one across the antimeridian, and cut it there."""
    east = shapely.transform(geometry, lambda at: at + [360, 0] * (at < 0))
    return cut(shapely.make_valid(east))


def smallest(boxes: Iterable[Bounds]) -> Bounds:
    """Give the box around all: that which leaves out the widest gap of longitudes."""
    every = sorted(part for bounds in boxes for part in parts(bounds))
    west, east = every[0][0], max(part[2] for part in every)
    widest, seen = west + 360 - east, every[0][2]
    for left, _, right, _ in every:
        if left - seen > widest:
            widest, west, east = left - seen, left, seen
        seen = max(seen, right)
    return west, min(part[1] for part in every), east, max(part[3] for part in every)


def overlap(image: Bounds, area: Bounds) -> Bounds | None:
    """Give the part of an image's box that an area's box covers, or None.

    Returns
    -------
    tuple of float or None
        Longitudes run on past 180 where it crosses the antimeridian, in the turn of the image's
        west; of an area that an image holds on both its sides, all between them.
    """
    south, north = max(image[1], area[1]), min(image[3], area[3])
    east, width = image[0] + width_deg(image), width_deg(area)
    both = [
        (max(image[0], area[0] + turn), min(east, area[0] + turn + width))
        for turn in (-360, 0, 360)
    ]
    found = np.array([ends for ends in both if ends[0] < ends[1]])
    if south >= north or not len(found):
        return None
    return float(found[:, 0].min()), south, float(found[:, 1].max()), north
