"""Images of other grids than the project's: which pixels a window needs, and their warp."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from affine import Affine
from odc.geo.geobox import GeoBox
from pyproj import Geod, Transformer
from rasterio.enums import Resampling
from rasterio.io import MemoryFile
from rasterio.vrt import WarpedVRT

__all__ = ["Warp", "is_finer", "on_one_lattice", "pixel_size_m"]

Image = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Numbers = npt.NDArray[np.float64]
#: In pixels: by so little, pixels of two grids may lie apart and still be the same.
TOLERANCE_PX = 1e-3
#: Projections stretch: only pixels longer by more than this are those of a coarser grid.
COARSER = 1.05
#: A pixel has a value where so much of what the kernel weighs has one, but for rounding.
MIN_SHARE = 0.5 - 1e-4
#: Reach of GDAL's kernels in pixels of the coarser grid.
RADIUS_PX = {"nearest": 1, "average": 1, "mode": 1, "max": 1, "bilinear": 1, "cubic": 2}
#: So far, in pixels, GDAL may take a place from those around it; 0 is more than it can do.
EXACT_PX = 1e-6
#: Points on each side of a window whose places tell where it lies in another CRS.
EDGE_POINTS = 33


@dataclass(frozen=True)
class Warp:
    """How an image comes to a grid; the same wherever the grid is cut into windows.

    Attributes
    ----------
    image : GeoBox
        Whole grid of the image.
    geobox : GeoBox
        The grid, or any part of it.
    tile : GeoBox
        The pixels of the image's grid that `geobox` needs, also those around the image.
    resampling : str
        By GDAL's names.
    scale : tuple of float
        Pixels of `geobox` a pixel of the image, in x and y, in the middle of the image.
    """

    image: GeoBox
    geobox: GeoBox
    tile: GeoBox
    resampling: str
    scale: tuple[float, float]

    @classmethod
    def plan(cls, image: GeoBox, geobox: GeoBox, resampling: str) -> Warp | None:
        """Plan how an image comes to a grid; None where it does not reach it.

        Parameters
        ----------
        resampling : str
            By GDAL's names; "auto" averages to a coarser grid, and else is bilinear.
        """
        scale = _grid_scale(image, geobox)
        if scale is None:
            return None
        side_px = 1 / math.sqrt(scale[0] * scale[1])
        if resampling == "auto":
            resampling = "average" if side_px > COARSER else "bilinear"
        margin = math.ceil(RADIUS_PX[resampling] * max(1, *(1 / one for one in scale))) + 2
        tile = _tile(image, geobox, margin)
        return None if tile is None else cls(image, geobox, tile, resampling, scale)

    def apply(self, values: Image) -> Image:
        """Warp an image, leaving out pixels without a value.

        Parameters
        ----------
        values : ndarray, shape (y, x) of `tile`, float32
            NaN where there is none, or none that is clear.

        Returns
        -------
        ndarray, shape (y, x) of `geobox`, float32
            The mean of what is known, weighted by the kernel; NaN where that is less than half of
            what the kernel weighs.

        References
        ----------
        Normalised convolution: Knutsson & Westin 1993, doi:10.1109/CVPR.1993.341081; GDAL's warp
        does it where a source has nodata.
        """
        known = np.isfinite(values)
        if not known.any():
            return np.full(self.geobox.shape, np.nan, "float32")
        found = self._reproject(values, self.resampling, nodata=np.nan)
        found[~self.covered(known)] = np.nan
        return found

    def resample(self, values: Image) -> Image:
        """Warp an image as GDAL does, from what is known of what the kernel weighs, however little.

        Parameters
        ----------
        values : ndarray, shape (y, x) of `tile`, float32
            NaN where there is none.

        Returns
        -------
        ndarray, shape (y, x) of `geobox`, float32
        """
        return self._reproject(values, self.resampling, nodata=np.nan)

    def covered(self, known: Mask) -> Mask:
        """Tell where at least half of what the kernel weighs is known: bool, shape (y, x).

        Parameters
        ----------
        known : ndarray, shape (y, x) of `tile`, bool
        """
        if known.all() or not known.any():  # the tile reaches beyond the image
            return np.full(self.geobox.shape, known.all())
        # lobes of cubic weigh less than nothing, and GDAL is bilinear too where one is missing
        kernel = "bilinear" if self.resampling == "cubic" else self.resampling
        return self._reproject(known.astype("float32"), kernel) >= MIN_SHARE

    def touched(self, hidden: Mask) -> Mask:
        """Tell the pixels of which any part is hidden: bool, shape (y, x) of `geobox`.

        Parameters
        ----------
        hidden : ndarray, shape (y, x) of `tile`, bool
        """
        return self._reproject(hidden.astype("float32"), "max") > 0

    def _reproject(self, values: Image, resampling: str, *, nodata: float | None = None) -> Image:
        with MemoryFile() as memory:
            with memory.open(
                driver="GTiff",
                width=self.tile.width,
                height=self.tile.height,
                count=1,
                dtype="float32",
                crs=str(self.tile.crs),
                transform=self.tile.affine,
                nodata=nodata,
            ) as file:
                file.write(values, 1)
            with (
                memory.open() as file,
                WarpedVRT(
                    file,
                    crs=str(self.geobox.crs),
                    transform=self.geobox.affine,
                    width=self.geobox.width,
                    height=self.geobox.height,
                    resampling=Resampling[resampling],
                    # else GDAL takes places from between others, and the size of the kernel from
                    # what is read at once, and a window's values depend on where it ends
                    tolerance=EXACT_PX,
                    XSCALE=self.scale[0],
                    YSCALE=self.scale[1],
                ) as warped,
            ):
                found: Image = warped.read(1)
        return found


def on_one_lattice(image: GeoBox, geobox: GeoBox) -> bool:
    """Tell whether two grids have the same pixels, though not the same extent."""
    if image.crs != geobox.crs:
        return False
    a, b, c, d, e, f = (~image.affine * geobox.affine)[:6]
    stretch = max(abs(a - 1), abs(e - 1), abs(b), abs(d)) * max(*image.shape, *geobox.shape)
    return bool(max(stretch, abs(c - round(c)), abs(f - round(f))) < TOLERANCE_PX)


def is_finer(one: GeoBox, other: GeoBox) -> bool:
    """Tell whether pixels of one grid are smaller than those of another."""
    return math.prod(pixel_size_m(one)) * COARSER**2 < math.prod(pixel_size_m(other))


@lru_cache(maxsize=1024)
def pixel_size_m(image: GeoBox) -> tuple[float, float]:
    """Height and width in metres of the pixel in the middle of an image, on the ellipsoid."""
    to_degrees = _transformer(str(image.crs), "EPSG:4326")
    x, y = image.affine * (image.width / 2, image.height / 2)
    right, down = image.affine.a, image.affine.e
    longitudes, latitudes = to_degrees.transform([x, x, x + right], [y, y + down, y])
    _, _, (height, width) = Geod(ellps="WGS84").inv(
        longitudes[:1] * 2, latitudes[:1] * 2, longitudes[1:], latitudes[1:]
    )
    return height, width


def _grid_scale(image: GeoBox, geobox: GeoBox) -> tuple[float, float] | None:
    """Pixels of a grid a pixel of an image, in x and y, in its middle; None beyond the CRS."""
    column, row = image.width / 2, image.height / 2
    steps = np.array([(column, row), (column + 1, row), (column, row + 1)])
    places = _project(image, geobox, steps)
    across, down = np.hypot(*(places[1:] - places[0]).T)
    if not (math.isfinite(across) and math.isfinite(down)):
        return None  # the image lies where the grid's CRS has no places
    return round(float(across), 9), round(float(down), 9)


def _tile(image: GeoBox, geobox: GeoBox, margin: int) -> GeoBox | None:
    t = np.linspace(0, 1, EDGE_POINTS)
    zero, one = np.zeros_like(t), np.ones_like(t)
    edge = np.column_stack(
        [np.concatenate([t, t, zero, one]), np.concatenate([zero, one, t, t])]
    ) * (geobox.width, geobox.height)
    places = _project(geobox, image, edge)
    places = places[np.isfinite(places).all(axis=1)]
    if not places.size:
        return None
    size = np.array([image.width, image.height])
    first = np.maximum(np.floor(places.min(axis=0)) - margin, -margin)
    last = np.minimum(np.ceil(places.max(axis=0)) + margin, size + margin)
    if (last <= 0).any() or (first >= size).any():
        return None
    left, top, right, bottom = (int(number) for number in (*first, *last))
    affine = image.affine * Affine.translation(left, top)
    return GeoBox((bottom - top, right - left), affine, image.crs)


def _project(source: GeoBox, to: GeoBox, pixels: Numbers) -> Numbers:
    """Give places in pixels of one grid in those of another: float64, shape (place, 2), x first."""
    x, y = _apply(source.affine, *pixels.T)
    if source.crs != to.crs:
        x, y = _transformer(str(source.crs), str(to.crs)).transform(x, y)
    return np.column_stack(_apply(~to.affine, x, y))


def _apply(affine: Affine, x: Numbers, y: Numbers) -> tuple[Numbers, Numbers]:
    a, b, c, d, e, f = affine[:6]
    return a * x + b * y + c, d * x + e * y + f


@lru_cache(maxsize=64)
def _transformer(source: str, to: str) -> Transformer:
    return Transformer.from_crs(source, to, always_xy=True)
