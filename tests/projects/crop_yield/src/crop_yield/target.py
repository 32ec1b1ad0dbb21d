"""Yield in t/ha: a target of numbers, by fields whose yield is known."""

from __future__ import annotations

from dataclasses import dataclass

import geopandas as gpd
import numpy as np
import pandas as pd

from terraflow.eo import Band, Target, mean_per_area
from terraflow.eo.targets.figures import number_figure
from terraflow.eo.targets.parts import ReportFiles, markdown_table
from terraflow.eo.targets.vector import anchors, burn_rows, inside, on_grid_crs, read_frame, shrink
from terraflow.errors import DataError

__all__ = ["CropYield"]

UNIT, QUICKLOOK_PX = "t/ha", 1200


@dataclass(frozen=True)
class FieldYields:
    """Fields with their yields, in the grid's CRS, index 0 to n - 1."""

    frame: gpd.GeoDataFrame
    expected = ()

    def burn(self, geobox):
        """Give each pixel its field's yield, masked where there is none, and its field."""
        rows, polygons = burn_rows(self.frame, geobox)
        return np.ma.masked_invalid(np.append(self.frame["yield_"], np.nan)[rows]), polygons

    def decode(self, values):
        """Give the yields themselves."""
        return values

    def anchors(self):
        """Give a point within each field."""
        return anchors(self.frame)


@dataclass(frozen=True)
class CropYield(Target):
    """A map of yield in t/ha, float32, NaN is nodata; errors are predicted less observed."""

    name = "crop_yield"
    column = "yield_t_ha"
    primary = "rmse"
    greater_is_better = False
    headline = ("rmse", "mae", "r2", "bias")
    dtype = "float32"
    overview_resampling = "average"
    code = ("terraflow.eo.targets.vector",)

    def read_labels(self, uri, labels, geobox, storage):
        """Read polygons whose attribute [labels] field is their yield."""
        frame = on_grid_crs(read_frame(uri, storage), uri, labels, geobox)
        if not pd.api.types.is_numeric_dtype(frame[labels.field]):
            raise DataError(f"{labels.field} of {uri} holds no numbers; correct [labels] field.")
        frame = inside(frame.assign(yield_=frame[labels.field].astype(float)), uri, geobox)
        return FieldYields(shrink(frame, labels.shrink, uri).reset_index(drop=True))

    def count(self, reference, predictions, groups, levels):
        """Add up n, e, e2, |e|, y and y2 of each group: shape (group, 6)."""
        y = np.asarray(reference, dtype="float64")
        e = predictions[:, 0] - y
        found, number = np.unique(groups, return_inverse=True)
        terms = (np.ones_like(e), e, e**2, np.abs(e), y, y**2)
        return np.stack([np.bincount(number, t, len(found)) for t in terms], axis=1)

    def measures(self, sums, levels):
        """Compute RMSE, MAE and bias in t/ha, and R2."""
        n, e, e2, absolute, y, y2 = np.moveaxis(sums, -1, 0)
        spread = y2 - y**2 / n
        r2 = 1 - np.divide(e2, spread, out=np.full_like(spread, np.nan), where=spread > 0)
        return {"rmse": np.sqrt(e2 / n), "mae": absolute / n, "r2": r2, "bias": e / n}

    def bands(self, levels, section):
        """Describe the one band."""
        return [Band("yield", "Predicted yield", unit=UNIT, nodata=np.nan)]

    def report(self, view, held_out, section):
        """Make a table of the mean of each area, and a quicklook."""
        where = (view.crs, view.transform, view.areas(), section.areas_field)
        areas = mean_per_area(view.values, *where)
        rows = [(a.area, str(a.pixels), f"{a.mean:.2f}") for a in areas.itertuples()]
        table = markdown_table(("area", "pixels", f"mean yield ({UNIT})"), rows)

        def draw(path):
            small, label = view.thumbnail(QUICKLOOK_PX), f"yield ({UNIT})"
            figure = number_figure(small, label, view.note, bounds=view.bounds, title=view.title)
            figure.savefig(path, dpi=150)

        return ReportFiles(
            {
                "quicklook": ("quicklook.png", draw),
                "area table": ("areas.md", lambda path: path.write_text(table, "utf-8")),
                "areas": ("areas.csv", lambda path: areas.to_csv(path, index=False)),
            },
            table,
        )
