"""What a map of classes is reported as: polygons, a quicklook, and the area of each class."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import rasterio.features
from shapely.geometry import shape

from terraflow.eo.config.sections import Map
from terraflow.eo.targets.classes.areas import area_table
from terraflow.eo.targets.figures import map_figure, plain
from terraflow.eo.targets.parts import Accuracy, MapView, ReportFiles
from terraflow.tracking.runs import metric_name

__all__ = ["class_areas", "polygons", "report_classes", "sieve"]

QUICKLOOK_PX = 1200
ACCURACIES = ("users_accuracy", "producers_accuracy")
Numbers = npt.NDArray[np.uint8]


def report_classes(view: MapView, accuracy: Accuracy, section: Map) -> ReportFiles:
    """Make polygons, a quicklook and the table of areas.

    Polygons are of the map without patches below [map] minimum_mapping_unit_px. Sieve and polygons
    need the classes of the whole map in memory: 30 MB for 5490 x 5490 pixels, and about 1 kB for
    each polygon.

    Raises
    ------
    DataError
        The map's CRS has no place on Earth.
    """
    names = view.bands[0].names
    areas = class_areas(view, accuracy, names)
    patches = polygons(sieve(view.values, section.minimum_mapping_unit_px), view, names)

    @plain()
    def draw(path: Path) -> None:
        colours = list(view.bands[0].colours.values())
        # the figure's numbers are 1 to n
        place = np.zeros(max(names) + 1, "uint8")
        place[list(names)] = np.arange(len(names)) + 1
        small = place[view.thumbnail(QUICKLOOK_PX)]
        figure = map_figure(
            small, list(names.values()), view.note, colours, bounds=view.bounds, title=view.title
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


def polygons(numbers: Numbers, view: MapView, names: Mapping[int, str]) -> gpd.GeoDataFrame:
    """Draw a polygon around every patch of a class.

    Parameters
    ----------
    numbers : ndarray, shape (y, x), uint8
        Classes; 0 is nodata.
    names : mapping
        Number of a class to its name.

    Returns
    -------
    GeoDataFrame
        class_number, class_name and area_m2, on the ellipsoid, in the map's CRS.
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
            "class_name": [names[number] for number in numbers_found],
        },
        geometry=[geometry for _, geometry in found],
        crs=view.crs.to_wkt(),
    )
    frame["area_m2"] = view.pixel_areas.of_polygons(frame.geometry)
    return frame[["class_number", "class_name", "area_m2", "geometry"]]


def class_areas(view: MapView, accuracy: Accuracy, names: Mapping[int, str]) -> dict[str, Any]:
    """Measure the area of each class: plain values of JSON, with its number in the map.

    Areas are of the map as it is, without a sieve, because that is what a sample tells the errors
    of. Without a sample they are those of the pixels, and have no interval: what the training held
    out are polygons that somebody chose, and perhaps of another area or year.

    Raises
    ------
    DataError
        The map's CRS has no place on Earth.
    """
    pixels = np.bincount(view.values.ravel(), minlength=max(names) + 1)
    mapped_m2 = view.pixel_areas.sums(view.values, max(names) + 1)
    sampled = accuracy.sample["classes"] if accuracy.sample else {}
    # JSON has no NaN
    scores = {key: v for key, v in accuracy.cross_validated.items() if not math.isnan(v)}
    areas: dict[str, Any] = {
        "map": dict(view.origin) | {"uri": view.uri},
        "method": "probability sample" if accuracy.sample else "pixel count",
        "remark": accuracy.remark,
        "pixel_m2": float(mapped_m2.sum() / pixels.sum()),
        "total_px": int(pixels.sum()),
        "nodata_px": int(pixels[0]),
        "cross_validated": {"overall_accuracy": scores.get("overall_accuracy")},
        "classes": {
            name: {
                "number": number,
                "pixels": int(pixels[number]),
                "mapped_m2": float(mapped_m2[number]),
                "cross_validated": {
                    key: scores.get(metric_name(f"{key}_{name}")) for key in ACCURACIES
                },
                **sampled.get(name, {}),
            }
            for number, name in names.items()
        },
    }
    rest = accuracy.sample or {}
    return areas | {key: rest[key] for key in rest if key not in ("classes", "measures")}
