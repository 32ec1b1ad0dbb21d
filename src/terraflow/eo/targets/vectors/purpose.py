"""What vector data are read for, which decides what serves and how messages call it."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["AREAS", "LABELS", "POINTS", "Purpose"]


@dataclass(frozen=True)
class Purpose:
    """What vector data are read for, in the words of messages.

    Attributes
    ----------
    what : str
        What they are, as a sentence begins with it.
    source, layer : str
        Keys that name the data, and one of several tables; "" where there is no such key.
    crs : str
        Key that tells the CRS of what has none; "" where there is none.
    points : bool
        Whether points, and tables of points, serve.
    expected : str
        What is.
    """

    what: str
    source: str
    layer: str
    crs: str
    points: bool
    expected: str

    @property
    def geometries(self) -> str:
        """Name what serves."""
        return "polygons or points" if self.points else "polygons"


LABELS = Purpose(
    "Labels",
    "[labels] source",
    "[labels] layer",
    "[labels] crs",
    points=True,
    expected="polygons or points in a format OGR reads, or a raster that GDAL reads",
)
AREAS = Purpose(
    "Areas",
    "[map] areas",
    "[map] areas_layer",
    "",
    points=False,
    expected="polygons in a format OGR reads",
)
POINTS = Purpose(
    "Points", "", "", "", points=True, expected="the points that `validate draw` wrote"
)
