"""Polygons and points with the names of classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import geopandas as gpd
import numpy as np
import numpy.typing as npt
from odc.geo.geobox import GeoBox

from terraflow.eo.config.labels import Labels
from terraflow.eo.targets.classes.labels.names import NOT_LISTED, check_names, name_classes
from terraflow.eo.targets.vectors.account import Accounting, LabelAccount
from terraflow.eo.targets.vectors.cleaning import NAME
from terraflow.eo.targets.vectors.files import on_grid_crs
from terraflow.eo.targets.vectors.geometry import anchors, lay_out
from terraflow.eo.targets.vectors.overlaps import Shapes
from terraflow.errors import DataError

__all__ = ["VectorLabels", "decode", "read_polygons"]

#: Column of the class.
CLASS = "class_"


@dataclass(frozen=True)
class VectorLabels:
    """Polygons or points.

    Attributes
    ----------
    shapes : Shapes
        In the grid's CRS.
    names : list of str
        Name of class 1, 2, ...: of those that reach the grid.
    account : LabelAccount
        What became of those in the file.
    """

    shapes: Shapes
    names: list[str]
    account: LabelAccount = field(default_factory=LabelAccount)

    @property
    def frame(self) -> gpd.GeoDataFrame:
        """Geometries that are laid on the grid, in its CRS."""
        return self.shapes.frame

    @property
    def expected(self) -> list[str]:
        """Classes that must be found on the grid."""
        return self.names

    def burn(self, geobox: GeoBox) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int32]]:
        """Rasterise: a pixel takes the polygon that holds its centre, or the point in it.

        Returns
        -------
        numbers : MaskedArray, shape (y, x), uint8
            1 to n for `names`, masked where there is no label.
        polygons : ndarray, shape (y, x), int32
            Index of `anchors`, -1 is none, as for points.
        """
        rows, polygons = self.shapes.burn(geobox)
        number = self.shapes.frame[CLASS].map({n: i + 1 for i, n in enumerate(self.names)})
        numbers = np.append(number.to_numpy("uint8"), np.uint8(0))[rows]  # -1 takes the last, 0
        return np.ma.masked_equal(numbers, 0), polygons

    def decode(self, numbers: npt.NDArray[np.uint8]) -> npt.NDArray[np.object_]:
        """Give the class name of each number."""
        return decode(numbers, self.names)

    def anchors(self) -> npt.NDArray[np.float64]:
        """Give a point within each geometry: float64, shape (geometry, 2), x and y."""
        return anchors(self.shapes.frame)


def decode(numbers: npt.NDArray[np.uint8], names: Sequence[str]) -> npt.NDArray[np.object_]:
    """Give the name of each number, 1 to n for `names`."""
    return np.array(["", *names], dtype=object)[numbers]


def read_polygons(
    frame: gpd.GeoDataFrame, uri: str, labels: Labels, geobox: GeoBox
) -> VectorLabels:
    """Make labels of geometries whose attribute [labels] field names the class.

    Parameters
    ----------
    uri : str
        Where they come from, for messages.

    Raises
    ------
    DataError
        There is no such field or no CRS, none has a class, none is a polygon or point, or none
        lies in the grid.
    """
    accounting, features = Accounting(), len(frame)
    frame = on_grid_crs(frame, uri, labels, geobox)
    accounting.leave_out(f"no value in {labels.field}", [""] * (features - len(frame)))
    named = name_classes(frame[labels.field], labels.classes, accounting)
    values, known = named.values, named.classes.notna()
    accounting.leave_out(f"no value in {labels.field}", [""] * int(values.isna().sum()))
    accounting.leave_out(NOT_LISTED, values[~known].dropna())
    if not known.any():
        found = ", ".join(sorted(values.dropna().unique())[:10]) or "nothing"
        raise DataError(
            f"No geometry of {uri} has a class: {labels.field} holds {found}, [labels] "
            f"classes lists {', '.join(labels.classes or []) or 'nothing'}; correct it."
        )
    frame = frame.assign(**{CLASS: named.classes, NAME: named.classes})[known]
    shapes, names, account = lay_out(frame, uri, labels, geobox, value=CLASS, accounting=accounting)
    return VectorLabels(shapes, check_names(names, uri), account)
