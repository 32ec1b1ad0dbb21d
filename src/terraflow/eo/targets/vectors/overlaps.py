"""Geometries laid on a grid, and what becomes of pixels whose labels contradict each other."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import shapely
from odc.geo.geobox import GeoBox
from rasterio.features import rasterize
from shapely.geometry import box

from terraflow.eo.features.grid import crs_name, windows
from terraflow.eo.targets.vectors.cleaning import NAME
from terraflow.errors import DataError

__all__ = ["Shapes", "Survey", "contradiction_text"]

#: Side of the tiles in which a grid is surveyed, so that memory does not grow with it.
TILE_PX = 1024
Rows = npt.NDArray[np.int32]


@dataclass
class Survey:
    """What shows when geometries are laid on a whole grid.

    Attributes
    ----------
    contradicted_px : int
        Pixels whose labels tell different values.
    contradicted : Counter
        Name of a label to how many of its pixels another contradicts.
    pairs : Counter
        Two names to the pixels that both claim; the extreme ones of more than two.
    first : tuple of float
        x and y of the first such pixel.
    seen : ndarray, shape (geometry,), bool
        Which geometries have a pixel of their own.
    """

    seen: npt.NDArray[np.bool_]
    contradicted_px: int = 0
    contradicted: Counter[str] = field(default_factory=Counter)
    pairs: Counter[tuple[str, str]] = field(default_factory=Counter)
    first: tuple[float, float] = (np.nan, np.nan)


@dataclass(frozen=True)
class Shapes:
    """Polygons and points with a value each.

    Two labels contradict each other where both hold a pixel's centre, or a point lies in the pixel,
    and their values differ. A centre on the very edge of two polygons is no contradiction.

    Attributes
    ----------
    frame : GeoDataFrame
        In the grid's CRS, index 0 to n - 1, column `NAME`.
    values : ndarray, shape (geometry,)
        Numbers; what tells the same has the same.
    overlaps : {"drop", "refuse", "first", "last"}
        What becomes of pixels whose labels contradict each other.
    contradict : bool
        Whether there are any; a survey tells.
    """

    frame: gpd.GeoDataFrame
    values: npt.NDArray[Any]
    overlaps: str = "drop"
    contradict: bool = True

    def burn(self, geobox: GeoBox) -> tuple[Rows, Rows]:
        """Rasterise: a pixel takes the polygon that holds its centre, or the point in it.

        Of several that do not contradict each other it takes the last.

        Returns
        -------
        rows : ndarray, shape (y, x), int32
            Row of the frame, -1 is none.
        polygons : ndarray, shape (y, x), int32
            The same, -1 for points too.
        """
        here = self._here(geobox)
        rows = self._rows(here[::-1] if self.overlaps == "first" else here, geobox)
        if self.contradict and self.overlaps in ("drop", "refuse"):
            rows[self._contradicted(here, geobox)[0]] = -1
        return rows, np.where(np.append(self._areal, False)[rows], rows, -1).astype("int32")

    def survey(self, geobox: GeoBox) -> Survey:
        """Look at the whole grid, tile by tile."""
        found = Survey(np.zeros(len(self.frame), bool))
        for core in windows(geobox, TILE_PX):
            part = geobox[core]
            if not len(here := self._here(part)):
                continue
            rows = self._rows(here[::-1] if self.overlaps == "first" else here, part)
            found.seen[np.unique(rows[rows >= 0])] = True
            wrong, low, high = self._contradicted(here, part)
            if wrong.any():
                self._add(found, here, part, wrong, (low, high))
        return found

    @cached_property
    def _areal(self) -> npt.NDArray[np.bool_]:
        areal: npt.NDArray[np.bool_] = self.frame.geom_type.str.contains("Polygon").to_numpy()
        return areal

    @cached_property
    def _geometry(self) -> npt.NDArray[Any]:
        found: npt.NDArray[Any] = np.asarray(self.frame.geometry.array)
        return found

    def _here(self, geobox: GeoBox) -> npt.NDArray[np.int64]:
        """List the rows that reach a part of the grid, in order."""
        extent = box(*geobox.boundingbox.bbox)
        found = self.frame.sindex.query(extent, predicate="intersects")
        return np.sort(np.asarray(found, dtype="int64"))

    def _rows(self, here: npt.NDArray[np.int64], geobox: GeoBox) -> Rows:
        """Burn rows one over the other in the order given."""
        rows = np.full((geobox.height, geobox.width), -1, dtype="int32")
        if len(here):
            shapes = zip(self._geometry[here], here.tolist(), strict=True)
            rasterize(shapes, out=rows, transform=geobox.affine)
        return rows

    def _contradicted(
        self, here: npt.NDArray[np.int64], geobox: GeoBox
    ) -> tuple[npt.NDArray[np.bool_], Rows, Rows]:
        """Tell the pixels whose least and greatest value differ, with the rows that tell these.

        Burnt by value in ascending order, a pixel keeps the greatest; in descending, the least.
        """
        order = here[np.argsort(self.values[here], kind="stable")]
        none = np.full((geobox.height, geobox.width), -1, dtype="int32")
        if not len(order) or self.values[order[0]] == self.values[order[-1]]:
            return none >= 0, none, none
        high, low = self._rows(order, geobox), self._rows(order[::-1], geobox)
        wrong = (low >= 0) & (self.values[low] != self.values[high])
        places = np.nonzero(wrong)
        wrong[places] = self._within(low[wrong], high[wrong], geobox, places)
        return wrong, low, high

    def _within(
        self, low: Rows, high: Rows, geobox: GeoBox, places: tuple[npt.NDArray[np.int64], ...]
    ) -> npt.NDArray[np.bool_]:
        """Tell at which centres values differ of polygons that hold them, not only touch them.

        GDAL gives a centre on an edge to both sides.
        """
        centres: Any = (places[1] + 0.5, places[0] + 0.5)
        points = shapely.points(*(geobox.affine * centres))
        point, row = self.frame.sindex.query(points, predicate="within")
        least, greatest = np.full(len(points), np.inf), np.full(len(points), -np.inf)
        for rows in (low, high):
            of_points = ~self._areal[rows]
            least[of_points] = np.minimum(least, self.values[rows])[of_points]
            greatest[of_points] = np.maximum(greatest, self.values[rows])[of_points]
        np.minimum.at(least, point, self.values[row])
        np.maximum.at(greatest, point, self.values[row])
        return least < greatest

    def _add(
        self,
        found: Survey,
        here: npt.NDArray[np.int64],
        part: GeoBox,
        wrong: npt.NDArray[np.bool_],
        extremes: tuple[Rows, Rows],
    ) -> None:
        """Add the contradictions of one tile."""
        names = self.frame[NAME].to_numpy(dtype=object)
        if not found.contradicted_px:
            row, column = (int(place[0]) for place in np.nonzero(wrong))
            found.first = part.affine * (column + 0.5, row + 0.5)
        found.contradicted_px += int(wrong.sum())
        low, high = (names[rows[wrong]] for rows in extremes)
        found.pairs.update(zip(low.tolist(), high.tolist(), strict=True))
        for name in np.unique(names[here]):
            ours = self._rows(here[names[here] == name], part) >= 0
            if number := int((ours & wrong).sum()):
                found.contradicted[name] += number


def contradiction_text(survey: Survey, overlaps: str, uri: str, geobox: GeoBox) -> str:
    """Write what becomes of contradicted pixels, "" where there are none.

    Raises
    ------
    DataError
        There are some, and they are to be refused.
    """
    number = survey.contradicted_px
    if not number:
        return ""
    x, y = survey.first
    pairs = ", ".join(
        f"{low} and {high} {count}" if low != high else f"{low} {count}"
        for (low, high), count in survey.pairs.most_common(3)
    )
    where = f"the first at {x:.10g}, {y:.10g} in {crs_name(geobox.crs)}"
    if overlaps == "refuse":
        raise DataError(
            f"Labels of {uri} contradict each other in {number} pixels ({pairs}), {where}; correct "
            'them, or set [labels] overlaps to "drop", which leaves such pixels out, or to "first" '
            'or "last" of the file.'
        )
    done = {"drop": "are left out", "first": "take the first in the file"}
    return (
        f"{number} pixels lie in labels that contradict each other ({pairs}), {where}, and "
        f'{done.get(overlaps, "take the last in the file")}: [labels] overlaps = "{overlaps}".'
    )
