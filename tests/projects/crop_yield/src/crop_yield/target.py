"""Yield, t/ha: what is learnt here, in place of classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import geopandas as gpd
import numpy as np
import pandas as pd
from odc.geo.geobox import GeoBox

from terraflow.eo import Band, Target, mean_per_area
from terraflow.eo.config.sections import Labels, Map
from terraflow.eo.targets import vector
from terraflow.eo.targets.figures import number_figure
from terraflow.eo.targets.parts import HeldOut, MapView, ReportFiles, markdown_table
from terraflow.errors import DataError
from terraflow.storage import Storage

__all__ = ["Yield"]


@dataclass(frozen=True)
class FieldLabels:
    """Polygons of fields, each with its yield."""

    frame: gpd.GeoDataFrame
    field: str

    @property
    def expected(self) -> list[str]:
        """Name no stratum: there is but one."""
        return []

    def burn(self, geobox: GeoBox) -> tuple[Any, Any]:
        """Give the yield of the field that holds a pixel's centre, float64, and its polygon."""
        rows, polygons = vector.burn_rows(self.frame, geobox)
        values = np.append(self.frame[self.field].to_numpy("float64"), np.nan)[rows]
        return np.ma.masked_invalid(values), polygons

    def decode(self, values: Any) -> Any:
        """Give the values as they are."""
        return values

    def anchors(self) -> Any:
        """Give a point within each field."""
        return vector.anchors(self.frame)


class Yield(Target):
    """A number for each pixel, float32, NaN nodata; scored by RMSE, MAE, R2 and bias.

    Sums of a group: number, error, squared error, absolute error, reference, squared reference.
    """

    name: ClassVar[str] = "yield"
    column: ClassVar[str] = "yield_t_ha"
    primary: ClassVar[str] = "rmse"
    greater_is_better: ClassVar[bool] = False
    headline: ClassVar[tuple[str, ...]] = ("rmse", "mae", "r2", "bias")
    dtype: ClassVar[str] = "float32"
    overview_resampling: ClassVar[str] = "average"
    code: ClassVar[tuple[str, ...]] = ("terraflow.eo.targets.vector",)

    def read_labels(
        self, uri: str, labels: Labels, geobox: GeoBox, storage: Storage
    ) -> FieldLabels:
        """Read polygons with a number each."""
        frame = vector.on_grid_crs(vector.read_frame(uri, storage), uri, labels, geobox)
        if not pd.api.types.is_numeric_dtype(frame[labels.field]):
            raise DataError(f"{labels.field} of {uri} holds no numbers; correct [labels] field.")
        frame = vector.shrink(vector.inside(frame, uri, geobox), labels.shrink, uri)
        return FieldLabels(frame.reset_index(drop=True), labels.field)

    def count(self, reference: Any, predictions: Any, groups: Any, levels: Sequence[str]) -> Any:
        """Add up what the measures need, by group."""
        truth = np.asarray(reference, "float64")
        error = predictions[:, 0] - truth
        each = [np.ones_like(error), error, error**2, abs(error), truth, truth**2]
        return pd.DataFrame(np.stack(each, axis=1)).groupby(np.asarray(groups)).sum().to_numpy()

    def measures(self, sums: Any, levels: Sequence[str]) -> dict[str, Any]:
        """Compute RMSE, MAE and bias in t/ha, and R2; NaN where there is nothing to explain."""
        n, error, squared, absolute, truth, truth_squared = np.moveaxis(sums, -1, 0)
        with np.errstate(invalid="ignore", divide="ignore"):
            spread = truth_squared - truth**2 / n
            return {
                "rmse": np.sqrt(squared / n),
                "mae": absolute / n,
                "r2": np.where(spread > 0, 1 - squared / spread, np.nan),
                "bias": error / n,
            }

    def bands(self, levels: Sequence[str], section: Map) -> list[Band]:
        """Describe the one band."""
        return [Band("yield", "Predicted yield", "t/ha", nodata=float("nan"))]

    def report(self, view: MapView, held_out: HeldOut, section: Map) -> ReportFiles:
        """Give the mean of each area, and a quicklook."""
        where = (view.crs, view.transform, view.areas(), section.areas_field)
        means = mean_per_area(view.values, *where)
        rows = [(str(r.area), str(r.pixels), f"{r.mean:.2f}") for r in means.itertuples()]

        def draw(path: Path) -> None:
            text = {"label": "yield (t/ha)", "note": view.note, "title": view.title}
            number_figure(view.thumbnail(1200), bounds=view.bounds, **text).savefig(path, dpi=150)

        return ReportFiles(
            {
                "quicklook": ("quicklook.png", draw),
                "means": ("means.csv", lambda path: means.to_csv(path, index=False)),
            },
            markdown_table(("area", "pixels", "mean (t/ha)"), rows),
        )
