"""What a map of classes is reported as: polygons, a quicklook, and the area of each class."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import rasterio.features
from shapely.geometry import shape

from terraflow.eo.config.sections import Map
from terraflow.eo.targets.classes.areas import (
    ASSUMPTION,
    WEIGHTED,
    AreaEstimate,
    Interval,
    area_table,
    error_matrix,
    estimate_areas,
    sampling_weights,
)
from terraflow.eo.targets.figures import map_figure
from terraflow.eo.targets.parts import HeldOut, MapView, ReportFiles
from terraflow.errors import DataError

__all__ = ["class_areas", "polygons", "report_classes", "sieve"]

QUICKLOOK_PX = 1200
Numbers = npt.NDArray[np.uint8]


def report_classes(view: MapView, held_out: HeldOut, section: Map) -> ReportFiles:
    """Make polygons, a quicklook and the table of areas.

    Polygons are of the map without patches below [map] minimum_mapping_unit_px. Sieve and polygons
    need the classes of the whole map in memory: 30 MB for 5490 x 5490 pixels, and about 1 kB for
    each polygon.

    Raises
    ------
    DataError
        What was held out does not fit the map.
    """
    classes = list(view.bands[0].names.values())
    areas = class_areas(view, held_out, classes)
    patches = polygons(sieve(view.values, section.minimum_mapping_unit_px), view, classes)

    def draw(path: Path) -> None:
        colours = list(view.bands[0].colours.values())
        small = view.thumbnail(QUICKLOOK_PX)
        figure = map_figure(
            small, classes, view.note, colours, bounds=view.bounds, title=view.title
        )
        figure.savefig(path, dpi=150)

    table = area_table(areas)
    return ReportFiles(
        {
            "polygons": ("polygons.parquet", lambda path: patches.to_parquet(path, index=False)),
            "geopackage": ("polygons.gpkg", lambda path: patches.to_file(path, driver="GPKG")),
            "quicklook": ("quicklook.png", draw),
            "area table": ("area.md", lambda path: path.write_text(table, "utf-8")),
            "area": ("area.json", lambda path: path.write_text(json.dumps(areas, indent=2))),
        },
        table,
    )


def sieve(numbers: Numbers, minimum_px: int) -> Numbers:
    """Merge patches smaller than the minimum mapping unit into their largest neighbour.

    Pixels belong together by their edges, not by corners. Nodata neither grows nor shrinks, and a
    small patch with nothing but nodata around it stays.

    Parameters
    ----------
    numbers : ndarray, shape (y, x), uint8
        Classes; 0 is nodata.

    References
    ----------
    https://gdal.org/en/stable/programs/gdal_sieve.html
    """
    if minimum_px < 2:
        return numbers
    valid = numbers > 0
    merged: Numbers = rasterio.features.sieve(numbers, minimum_px, mask=valid, connectivity=4)
    return np.where(valid, merged, 0).astype("uint8")


def polygons(numbers: Numbers, view: MapView, classes: Sequence[str]) -> gpd.GeoDataFrame:
    """Draw a polygon around every patch of a class.

    Parameters
    ----------
    numbers : ndarray, shape (y, x), uint8
        Classes; 0 is nodata.

    Returns
    -------
    GeoDataFrame
        class_number, class_name and area_m2, in the map's CRS.
    """
    found = [
        (int(number), shape(geometry))
        for geometry, number in rasterio.features.shapes(
            numbers, mask=numbers > 0, connectivity=4, transform=view.transform
        )
    ]
    numbers_found = [number for number, _ in found]
    frame = gpd.GeoDataFrame(
        {
            "class_number": np.array(numbers_found, dtype="int32"),
            "class_name": [classes[number - 1] for number in numbers_found],
        },
        geometry=[geometry for _, geometry in found],
        crs=view.crs.to_wkt(),
    )
    pixel_area = abs(view.transform.determinant)
    frame["area_m2"] = np.rint(frame.area / pixel_area) * view.pixel_m2
    return frame[["class_number", "class_name", "area_m2", "geometry"]]


def class_areas(view: MapView, held_out: HeldOut, classes: Sequence[str]) -> dict[str, Any]:
    """Estimate the area of each class: plain values of JSON.

    Areas are of the map as it is, without a sieve, because that is what the held-out predictions
    tell the errors of.

    Raises
    ------
    DataError
        What was held out does not fit the map.
    """
    predictions, pixel_m2 = held_out.table, view.pixel_m2
    sizes = held_out.label_counts or predictions["class_name"].value_counts().to_dict()
    counts = np.bincount(view.values.ravel(), minlength=len(classes) + 1)
    areas: dict[str, Any] = {
        "map": dict(view.origin),
        "pixel_m2": pixel_m2,
        "total_px": int(counts.sum()),
        "nodata_px": int(counts[0]),
    }
    mapped = counts[1:].astype("int64")
    matrix = error_matrix(predictions["class_name"], predictions["predicted"], classes)
    weights = sampling_weights(matrix, sizes, classes)
    try:
        estimate = estimate_areas(matrix, mapped, classes, pixel_m2, weights)
    except DataError as error:  # the mapped areas are worth telling all the same
        plain = {
            name: {"mapped_m2": float(count * pixel_m2)}
            for name, count in zip(classes, mapped, strict=True)
        }
        return areas | {"adjusted": False, "remark": str(error), "classes": plain}
    return areas | {
        "adjusted": True,
        "remark": f"{ASSUMPTION} {WEIGHTED}" if (weights != 1).any() else ASSUMPTION,
        "samples": int(matrix.sum()),
        "error_matrix": {"rows": "mapped", "columns": "reference", "samples": matrix.tolist()},
        "weights": dict(zip(classes, weights.tolist(), strict=True)),
        **_plain(estimate),
    }


def _plain(estimate: AreaEstimate) -> dict[str, Any]:
    """Turn NaN, which JSON does not know, into None."""

    def interval(value: Interval) -> dict[str, float] | None:
        return None if math.isnan(value.value) else asdict(value)

    return {
        "overall_accuracy": interval(estimate.overall_accuracy),
        "classes": {
            name: {
                "mapped_m2": area.mapped_m2,
                "area_m2": interval(area.area_m2),
                "users_accuracy": interval(area.users_accuracy),
                "producers_accuracy": interval(area.producers_accuracy),
            }
            for name, area in estimate.classes.items()
        },
    }
