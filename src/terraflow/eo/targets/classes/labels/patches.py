"""Patches of a raster of classes: connected pixels of one class, kept whole as polygons are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from odc.geo.geobox import GeoBox
from scipy import ndimage

from terraflow.eo.features.grid import windows

__all__ = ["PATCH_PX", "Patches", "find_patches"]

#: Most rows and columns of a patch that is kept whole. Larger ones, as the forest of a map without
#: gaps, would leave too few blocks; these cut them.
PATCH_PX = 100
#: Side of the tiles in which patches are looked for, so that memory does not grow with the grid.
TILE_PX = 1024

#: Gives class numbers of a part of the grid: uint8, shape (y, x), 0 is none.
Burn = Callable[[GeoBox], npt.NDArray[np.uint8]]


@dataclass(frozen=True)
class Patches:
    """The patches of a grid that are not too large.

    Attributes
    ----------
    geobox : GeoBox
        The grid.
    patch_px : int
        Most rows and columns of a patch.
    firsts : ndarray, shape (patch,), int64
        Place of each patch's first pixel, row by row over the grid; ascending.
    anchors : ndarray, shape (patch, 2), float64
        x and y of the centre of a pixel of each patch.
    """

    geobox: GeoBox
    patch_px: int
    firsts: npt.NDArray[np.int64]
    anchors: npt.NDArray[np.float64]

    def burn(self, burn: Burn, part: GeoBox) -> npt.NDArray[np.int32]:
        """Give the pixels of a part of the grid the numbers of their patches.

        Returns
        -------
        ndarray, shape (y, x), int32
            Index of `anchors`; -1 is none, or one that is too large.
        """
        column, row = ~self.geobox.affine * (part.affine.c, part.affine.f)
        top, left = round(row), round(column)
        core = slice(top, top + part.height), slice(left, left + part.width)
        around, inner = _around(core, self.geobox, self.patch_px)
        seen = _Seen.of(burn(self.geobox[around]), self.patch_px)
        firsts = _places(seen.firsts, around, self.geobox)
        found = np.searchsorted(self.firsts, firsts)
        # what is cut by the edge of what is seen here, and looks small, lies beyond the part
        known = seen.fits & (np.append(self.firsts, -1)[found] == firsts)
        numbers = np.append(-1, np.where(known, found, -1)).astype("int32")[seen.labels]
        return numbers[inner]


@dataclass(frozen=True)
class _Seen:
    """The connected pixels of each class in one array.

    Attributes
    ----------
    labels : ndarray, shape (y, x), int32
        1 to n; 0 is none.
    fits : ndarray, shape (n,), bool
        Which have few enough rows and columns.
    firsts, middles : ndarray, shape (2, n), int64
        Row and column of the first and of the middle pixel of each, row by row.
    """

    labels: npt.NDArray[np.int32]
    fits: npt.NDArray[np.bool_]
    firsts: npt.NDArray[np.int64]
    middles: npt.NDArray[np.int64]

    @classmethod
    def of(cls, numbers: npt.NDArray[np.uint8], most_px: int) -> _Seen:
        """Label class numbers, of which 0 is none."""
        labels, count = np.zeros(numbers.shape, "int32"), 0
        for value in np.unique(numbers[numbers > 0]):
            ours = numbers == value
            found, more = ndimage.label(ours)
            labels[ours] = found[ours] + count
            count += more
        pixels = np.flatnonzero(labels)
        order = np.argsort(labels.ravel()[pixels], kind="stable")
        pixels = pixels[order]
        starts = np.flatnonzero(np.diff(labels.ravel()[pixels], prepend=0))
        if not count:
            nothing = np.empty((2, 0), "int64")
            return cls(labels, np.empty(0, bool), nothing, nothing)
        ends = np.append(starts[1:], len(pixels)) - 1
        rows, columns = np.divmod(pixels, numbers.shape[1])
        height = rows[ends] - rows[starts]
        width = np.maximum.reduceat(columns, starts) - np.minimum.reduceat(columns, starts)
        places, middles = np.stack([rows, columns]), (starts + ends) // 2
        fits = np.maximum(height, width) < most_px
        return cls(labels, fits, places[:, starts], places[:, middles])


def find_patches(
    burn: Burn, geobox: GeoBox, *, patch_px: int | None = None, tile_px: int | None = None
) -> Patches:
    """Find the patches of a grid, tile by tile, with as much around each as a patch may reach.

    Pixels of one class that share an edge are connected. A patch whose first pixel lies in a tile
    is seen as a whole, or else it reaches too far.

    Parameters
    ----------
    burn : callable
        Gives class numbers of a part of the grid: uint8, shape (y, x), 0 is none.
    patch_px : int, optional
        Most rows and columns of a patch, by default 100.
    tile_px : int, optional
        Side of a tile, by default 1024.
    """
    patch_px = patch_px or PATCH_PX
    firsts, anchors = [np.empty(0, "int64")], [np.empty((0, 2))]
    for core in windows(geobox, tile_px or TILE_PX):
        around, inner = _around(core, geobox, patch_px)
        seen = _Seen.of(burn(geobox[around]), patch_px)
        rows, columns = seen.firsts
        ours = seen.fits & (rows >= inner[0].start) & (rows < inner[0].stop)
        ours &= (columns >= inner[1].start) & (columns < inner[1].stop)
        firsts.append(_places(seen.firsts[:, ours], around, geobox))
        rows, columns = seen.middles[:, ours]
        centre = (columns + around[1].start + 0.5, rows + around[0].start + 0.5)
        anchors.append(np.column_stack(geobox.affine * centre))
    places = np.concatenate(firsts)
    order = np.argsort(places)
    return Patches(geobox, patch_px, places[order], np.concatenate(anchors)[order])


def _around(
    core: tuple[slice, slice], geobox: GeoBox, pad: int
) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Give a part of the grid with what is around it, and its place therein."""
    around = tuple(
        slice(max(part.start - pad, 0), min(part.stop + pad, size))
        for part, size in zip(core, geobox.shape, strict=True)
    )
    inner = tuple(
        slice(part.start - wide.start, part.stop - wide.start)
        for part, wide in zip(core, around, strict=True)
    )
    return (around[0], around[1]), (inner[0], inner[1])


def _places(
    pixels: npt.NDArray[np.int64], around: tuple[slice, slice], geobox: GeoBox
) -> npt.NDArray[np.int64]:
    """Give the places of pixels of a part, shape (2, n), counted row by row over the grid."""
    rows, columns = pixels[0] + around[0].start, pixels[1] + around[1].start
    places: npt.NDArray[np.int64] = rows * geobox.width + columns
    return places
