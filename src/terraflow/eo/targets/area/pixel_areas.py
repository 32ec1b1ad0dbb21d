"""Area of pixels and polygons on the ellipsoid, in any CRS."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pyproj
from affine import Affine
from pyproj import Transformer
from pyproj.crs import ProjectedCRS
from pyproj.crs.coordinate_operation import LambertCylindricalEqualAreaConversion
from pyproj.exceptions import CRSError
from rasterio.crs import CRS
from rasterio.transform import array_bounds

from terraflow.errors import DataError

__all__ = ["PixelAreas", "pixel_side_m"]

Floats = npt.NDArray[np.float64]
#: Pixels computed at once: 8 MB.
BLOCK_PX = 1_000_000
#: Metres between the places where the area is computed; between them it is interpolated. A scale
#: that changes with the cosine of the latitude is then off by less than 1 in ten million.
LATTICE_M = 5_000
#: Longest edge in metres of a polygon that is taken for straight.
EDGE_M = 500
M_PER_DEGREE = 111_320


@dataclass(frozen=True)
class PixelAreas:
    """The true area of each pixel of a grid.

    A pixel's area in its own CRS is scaled by the map projection: in Web Mercator at 46 degrees
    north, 100 square metres are 48. Each pixel's corners are therefore taken to Lambert's
    cylindrical equal-area projection of the same ellipsoid, in which areas are true.

    Attributes
    ----------
    crs : CRS
        Projected in any unit, or geographic.
    transform : Affine
        Pixel to world.
    shape : tuple of int
        Rows, columns.

    Raises
    ------
    DataError
        The CRS has no place on Earth.

    References
    ----------
    Snyder 1987, Map Projections: A Working Manual, doi:10.3133/pp1395, chapter 10.
    """

    crs: CRS
    transform: Affine
    shape: tuple[int, int]

    def __post_init__(self) -> None:
        """Refuse a CRS that has no place on Earth."""
        self.equal_area  # noqa: B018 - it raises

    @cached_property
    def equal_area(self) -> pyproj.CRS:
        """An equal-area CRS of the same ellipsoid, with the grid in its middle."""
        try:
            own = pyproj.CRS.from_user_input(self.crs.to_wkt() if self.crs else "")
            geographic = own.geodetic_crs
            if geographic is None:
                raise CRSError("it has no ellipsoid")
        except CRSError as error:
            told = self.crs.to_string()[:40] if self.crs else "no CRS"
            raise DataError(
                f"The map lies in {told}, whose pixels have no place on Earth and no area; map "
                "again with a [grid] crs by its EPSG code."
            ) from error
        west, south, east, north = array_bounds(*self.shape, self.transform)
        middle = ((west + east) / 2, (south + north) / 2)
        longitude, _ = Transformer.from_crs(own, geographic, always_xy=True).transform(*middle)
        known = longitude if np.isfinite(longitude) else 0
        conversion = LambertCylindricalEqualAreaConversion(longitude_natural_origin=known)
        return ProjectedCRS(conversion, geodetic_crs=geographic)

    def blocks(self) -> Iterator[tuple[slice, Floats]]:
        """Give rows, some at a time, with the area of their pixels: (row, column), m2.

        Pixels outside of what the CRS can show are 0.
        """
        rows, columns = self.shape
        lattice_y, lattice_x, known = self._lattice
        at = np.arange(columns) + 0.5
        along = np.stack([np.interp(at, lattice_x, row) for row in known])
        step = max(1, BLOCK_PX // columns)
        for top in range(0, rows, step):
            some = np.arange(top, min(top + step, rows))
            above = np.searchsorted(lattice_y, some + 0.5, side="right") - 1
            above = above.clip(0, max(len(lattice_y) - 2, 0))
            below = np.minimum(above + 1, len(lattice_y) - 1)
            span = np.maximum(lattice_y[below] - lattice_y[above], 1)
            part = ((some + 0.5 - lattice_y[above]) / span)[:, None]
            areas = along[above] * (1 - part) + along[below] * part
            yield slice(top, some[-1] + 1), np.nan_to_num(areas)

    def sums(self, values: npt.NDArray[np.integer], length: int) -> Floats:
        """Add up the area of the pixels of each value.

        Parameters
        ----------
        values : ndarray, shape (y, x), integer
            0 to `length` - 1.

        Returns
        -------
        ndarray, shape (length,), float64
            Square metres.
        """
        total = np.zeros(length)
        for rows, areas in self.blocks():
            total += np.bincount(values[rows].ravel(), areas.ravel(), length)
        return total

    def of_polygons(self, polygons: gpd.GeoSeries) -> Floats:
        """Give the area of polygons in the grid's CRS: shape (polygon,), square metres."""
        dense = polygons.segmentize(EDGE_M / self._metres_per_unit)
        areas: Floats = dense.to_crs(self.equal_area).area.to_numpy("float64")
        return areas

    @property
    def _metres_per_unit(self) -> float:
        return float(self.crs.linear_units_factor[1]) if self.crs.is_projected else M_PER_DEGREE

    def _world(self, x: Floats, y: Floats) -> tuple[Floats, Floats]:
        """Give the world coordinates of all pairs of columns and rows: shape (y, x) each."""
        a, b, c, d, e, f, *_ = self.transform
        columns, rows = np.meshgrid(x, y)
        return a * columns + b * rows + c, d * columns + e * rows + f

    @cached_property
    def _lattice(self) -> tuple[Floats, Floats, Floats]:
        """Compute the area of pixels at rows and columns some kilometres apart, the last included.

        An area of 100 x 100 km has 21 x 21 places.
        """
        pixel_m = np.sqrt(abs(self.transform.determinant)) * self._metres_per_unit
        step = max(1, int(LATTICE_M / pixel_m))
        y, x = (_places(size, step) for size in self.shape)
        transformer = Transformer.from_crs(self.crs.to_wkt(), self.equal_area, always_xy=True)

        # half a kilometre at least: of a small pixel's area rounding would be a part
        half = max(0.5, 250 / pixel_m)

        def differences(dx: float, dy: float) -> Floats:
            after, before = (
                transformer.transform(*self._world(x + sign * dx, y + sign * dy))
                for sign in (1, -1)
            )
            with np.errstate(invalid="ignore"):  # infinite outside of what the CRS can show
                moved: Floats = (np.array(after) - np.array(before)) / (2 * half)
            return moved

        (x_by_x, y_by_x), (x_by_y, y_by_y) = differences(half, 0), differences(0, half)
        with np.errstate(invalid="ignore"):
            areas = np.abs(x_by_x * y_by_y - x_by_y * y_by_x)
        return y, x, np.where(np.isfinite(areas), areas, np.nan)


def pixel_side_m(crs: str, transform: Affine, shape: tuple[int, int]) -> float | None:
    """Give the side in metres of a square as large as the pixel in the middle of a grid.

    Parameters
    ----------
    crs : str
        As rasterio reads it.

    Returns
    -------
    float or None
        None where the grid has no place on Earth.
    """
    rows, columns = shape
    middle = transform * Affine.translation(columns // 2, rows // 2)
    try:
        areas = PixelAreas(CRS.from_user_input(crs), middle, (1, 1))
    except DataError:
        return None
    return round(float(np.sqrt(next(areas.blocks())[1][0, 0])), 4)


def _places(size: int, step: int) -> Floats:
    """Give the middle of every `step`-th pixel, and of the last."""
    places: Floats = np.unique([*range(0, size, step), size - 1]) + 0.5
    return places
