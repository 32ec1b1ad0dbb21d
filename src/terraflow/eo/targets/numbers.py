"""Numbers: a quantity of each pixel, by polygons or points where it is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd
from odc.geo.geobox import GeoBox

from terraflow.console import command
from terraflow.eo.config.labels import Labels
from terraflow.eo.config.sections import Map
from terraflow.eo.targets.area.design import Stratum
from terraflow.eo.targets.area.means import estimate_means, mean_rows, overall_spread
from terraflow.eo.targets.area.zonal import mean_per_area
from terraflow.eo.targets.figures import number_figure, plain
from terraflow.eo.targets.parts import (
    Accuracy,
    Band,
    Floats,
    MapView,
    ReportFiles,
    Sums,
    markdown_table,
)
from terraflow.eo.targets.target import Target
from terraflow.eo.targets.vectors import CODE as VECTORS
from terraflow.eo.targets.vectors.account import Accounting, LabelAccount
from terraflow.eo.targets.vectors.cleaning import NAME
from terraflow.eo.targets.vectors.files import on_grid_crs, read_frame
from terraflow.eo.targets.vectors.geometry import anchors, lay_out
from terraflow.eo.targets.vectors.overlaps import Shapes
from terraflow.errors import DataError
from terraflow.storage import Storage

__all__ = ["NumberLabels", "Numbers"]

#: Column of the number of each geometry.
VALUE = "value_"
QUICKLOOK_PX = 1200
COUNTED = (
    "Means are of the map's pixels: the map's errors are in them, which need not cancel out, and "
    "they have no interval. A probability sample of this map tells the mean with one:"
)
SAMPLED = (
    "This is estimated from a probability sample of this map, of {points} points in {strata} "
    "strata. Intervals are 95 %; they tell chance, and not mistakes of who interpreted. The second "
    "mean of the reference is the map's mean less its bias. Estimators: Särndal, Swensson & "
    "Wretman 1992, <https://doi.org/10.1007/978-1-4612-4378-6>."
)


@dataclass(frozen=True)
class NumberLabels:
    """Polygons or points, each with a number.

    Attributes
    ----------
    shapes : Shapes
        In the grid's CRS; their frame has a column `value_`, float64.
    account : LabelAccount
        What became of those in the file.
    """

    shapes: Shapes
    account: LabelAccount = field(default_factory=LabelAccount)

    @property
    def frame(self) -> gpd.GeoDataFrame:
        """Geometries that are laid on the grid, in its CRS."""
        return self.shapes.frame

    @property
    def expected(self) -> list[str]:
        """Give none: numbers have no strata."""
        return []

    def burn(self, geobox: GeoBox) -> tuple[npt.NDArray[Any], npt.NDArray[np.int32]]:
        """Give each pixel the number of the polygon that holds its centre, or of the point in it.

        Returns
        -------
        values : MaskedArray, shape (y, x), float64
            Masked where there is no label.
        polygons : ndarray, shape (y, x), int32
            Index of `anchors`, -1 is none, as for points.
        """
        rows, polygons = self.shapes.burn(geobox)
        values = np.append(self.shapes.frame[VALUE].to_numpy("float64"), np.nan)[rows]
        return np.ma.masked_invalid(values), polygons

    def decode(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Give the numbers themselves."""
        return values

    def anchors(self) -> Floats:
        """Give a point within each geometry: float64, shape (geometry, 2), x and y."""
        return anchors(self.shapes.frame)


class Numbers(Target):
    """A map of a quantity: float32, NaN is nodata. An error is predicted less observed.

    A project derives its own, which names the quantity:

    >>> class Biomass(Numbers):
    ...     name, column, unit = "biomass", "biomass_t_ha", "t/ha"

    Attributes
    ----------
    unit : str
        Of the quantity, as "t/ha"; "" where it has none.
    """

    name = "numbers"
    column = "value"
    unit: ClassVar[str] = ""
    primary = "rmse"
    greater_is_better = False
    headline = ("rmse", "mae", "r2", "bias")
    dtype = "float32"
    overview_resampling = "average"
    code = (__name__, *VECTORS)

    @property
    def quantity(self) -> str:
        """Name of the quantity for a reader, with its unit."""
        spoken = self.name.replace("_", " ")
        return f"{spoken} ({self.unit})" if self.unit else spoken

    def read_labels(
        self, uri: str, labels: Labels, geobox: GeoBox, storage: Storage
    ) -> NumberLabels:
        """Read polygons or points whose attribute [labels] field is the quantity.

        Raises
        ------
        DataError
            They can't be read, hold no numbers, or lie outside of the grid.
        """
        frame, accounting = read_frame(uri, storage, labels.layer), Accounting()
        features = len(frame)
        frame = on_grid_crs(frame, uri, labels, geobox)
        accounting.leave_out(f"no value in {labels.field}", [""] * (features - len(frame)))
        numbers = pd.to_numeric(frame[labels.field], errors="coerce")  # a table's are texts
        if numbers.isna().any():
            found = frame[labels.field][numbers.isna()].iloc[0]
            raise DataError(
                f"{labels.field} of {uri} holds {found!r}, which is no number; correct the data, "
                "or name another attribute by [labels] field."
            )
        frame = frame.assign(**{VALUE: numbers.astype("float64"), NAME: labels.field})
        shapes, _, account = lay_out(frame, uri, labels, geobox, value=VALUE, accounting=accounting)
        return NumberLabels(shapes, account)

    def count(
        self, reference: Any, predictions: Floats, groups: npt.ArrayLike, levels: Sequence[str]
    ) -> Sums:
        """Add up n, e, e2, abs(e), y and y2 of each group: shape (group, 6)."""
        del levels
        y = np.asarray(reference, dtype="float64")
        e = predictions[:, 0] - y
        found, number = np.unique(groups, return_inverse=True)
        terms = (np.ones_like(e), e, e**2, np.abs(e), y, y**2)
        return np.stack([np.bincount(number, t, len(found)) for t in terms], axis=1)

    def measures(self, sums: Sums, levels: Sequence[str]) -> dict[str, Floats]:
        """Compute RMSE, MAE and bias in the quantity's unit, and R2, the share explained."""
        del levels
        n, e, e2, absolute, y, y2 = np.moveaxis(sums, -1, 0)
        spread = y2 - y**2 / n
        r2 = 1 - np.divide(e2, spread, out=np.full_like(spread, np.nan), where=spread > 0)
        return {"rmse": np.sqrt(e2 / n), "mae": absolute / n, "r2": r2, "bias": e / n}

    def bands(self, levels: Sequence[str], section: Map) -> list[Band]:
        """Describe the one band."""
        del levels, section
        return [Band(self.name, f"Predicted {self.quantity}", unit=self.unit, nodata=np.nan)]

    def spreads(
        self, scores: Mapping[str, float], strata: Mapping[str, Stratum]
    ) -> dict[str, float]:
        """Expect the reference to spread as the map does, and around the map by its error.

        The variance of the reference in a stratum is that of the map's numbers there and the square
        of the cross-validated RMSE. A map whose RMSE is not known is expected to explain half of
        the reference's variance: its RMSE is then the standard deviation of the whole map.
        """
        rmse = scores.get("rmse", np.nan)
        if np.isnan(rmse):
            rmse = overall_spread(strata)
        return {name: float(np.hypot(each.spread or 0, rmse)) for name, each in strata.items()}

    def estimate(
        self, sample: pd.DataFrame, strata: Mapping[str, Stratum], levels: Sequence[str]
    ) -> dict[str, Any]:
        """Estimate the mean over the map's area, by two estimators, and bias and RMSE."""
        del levels
        return estimate_means(sample, strata)

    def report(self, view: MapView, accuracy: Accuracy, section: Map) -> ReportFiles:
        """Make a table of the mean of each area of [map] areas, and a quicklook.

        What a probability sample told of the whole map follows the table.
        """
        where = (view.crs, view.transform, view.areas(), section.areas_field)
        areas = mean_per_area(view.values, *where)
        rows = [(a.area, str(a.pixels), f"{a.mean:.2f}") for a in areas.itertuples()]
        table = markdown_table(("area", "pixels", f"mean {self.quantity}"), rows)
        table += f"\n\n{self._sampled(view, accuracy)}\n"

        @plain()
        def draw(path: Path) -> None:
            small = view.thumbnail(QUICKLOOK_PX)
            figure = number_figure(
                small, self.quantity, view.note, bounds=view.bounds, title=view.title
            )
            figure.savefig(path, dpi=150)

        return ReportFiles(
            {
                "quicklook": ("quicklook.png", draw),
                "area table": ("areas.md", lambda path: path.write_text(table, "utf-8")),
                "areas": ("areas.csv", lambda path: areas.to_csv(path, index=False)),
            },
            table,
        )

    def _sampled(self, view: MapView, accuracy: Accuracy) -> str:
        """Write what a sample told of the map, or how to draw one."""
        told = accuracy.sample
        if not told:
            remark = f"{accuracy.remark}\n\n" if accuracy.remark else ""
            return f"{remark}{COUNTED}\n`{command('validate', 'draw', '--map', view.uri)}`."
        table = markdown_table(("whole map", self.quantity), mean_rows(told))
        return f"{table}\n\n{SAMPLED.format(points=told['points'], strata=told['strata'])}"
