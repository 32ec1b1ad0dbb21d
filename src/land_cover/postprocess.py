"""From a map to what is read of it: polygons, a picture, and the area of each class."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import geopandas as gpd
import mlflow
import numpy as np
import numpy.typing as npt
import pandas as pd
import rasterio.features
from mlflow.exceptions import MlflowException
from rasterio.enums import Resampling
from shapely.geometry import shape

from terraflow import tracking
from terraflow.errors import DataError
from terraflow.settings import Settings
from terraflow.storage import Storage

from .area import ASSUMPTION, AreaEstimate, Interval, error_matrix, estimate_areas
from .config import ProjectConfig
from .figures import map_figure
from .map_file import MapInfo, open_map, read_info

__all__ = ["area_table", "polygons", "read_predictions", "report", "sieve"]

QUICKLOOK_PX = 1200
M2_PER_HA = 10_000
DOI = "https://doi.org/10.1016/j.rse.2014.02.015"
Numbers = npt.NDArray[np.uint8]


def report(
    project: ProjectConfig,
    map_uri: str,
    storage: Storage,
    *,
    predictions: pd.DataFrame | None = None,
) -> dict[str, Any]:
    """Write polygons, a quicklook and the table of areas beside a map.

    Polygons are of the map without patches below [map] minimum_mapping_unit_px. Areas are of the
    map as it is, because that is what the held-out predictions tell the errors of. Sieve and
    polygons need the classes of the whole map in memory: 30 MB for 5490 x 5490 pixels, and about
    1 kB a polygon.

    Parameters
    ----------
    map_uri : str
        A map that `predict` made.
    predictions : DataFrame, optional
        Columns class_name (reference) and predicted; by default what the map's run held out.

    Returns
    -------
    dict
        URIs "polygons" (GeoParquet), "geopackage", "quicklook" (PNG), "area" (JSON) and
        "area_table" (Markdown); "assumption", a sentence on the intervals; "areas", what the
        JSON holds.

    Raises
    ------
    DataError
        The file is no map, or its CRS has no unit of length.
    ConfigError, ServiceError
        Its run is not there, or MLflow does not answer.
    StorageError
        The store can't be read or written.
    """
    info = read_info(map_uri, storage)
    pixel_m2 = _pixel_m2(map_uri, info)
    if predictions is None:
        predictions = read_predictions(info.metadata.get("run_id", ""), storage)
    with open_map(map_uri, storage) as file:
        numbers = file.read(1)
    areas = _areas(numbers, info, pixel_m2, predictions)
    patches = polygons(sieve(numbers, project.map.minimum_mapping_unit_px), info, pixel_m2)
    writers: dict[str, tuple[str, Callable[[Path], Any]]] = {
        "polygons": ("polygons.parquet", lambda path: patches.to_parquet(path, index=False)),
        "geopackage": ("polygons.gpkg", lambda path: patches.to_file(path, driver="GPKG")),
        "quicklook": ("quicklook.png", lambda path: _draw(path, map_uri, info, storage)),
        "area_table": ("area.md", lambda path: path.write_text(area_table(areas), "utf-8")),
        "area": ("area.json", lambda path: path.write_text(json.dumps(areas, indent=2), "utf-8")),
    }
    uris = {}
    with storage.scratch() as folder:
        for key, (name, write) in writers.items():
            write(folder / name)
            uris[key] = storage.write(f"{map_uri.removesuffix('.tif')}_{name}", folder / name)
    return {**uris, "assumption": ASSUMPTION, "areas": areas}


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


def polygons(numbers: Numbers, info: MapInfo, pixel_m2: float) -> gpd.GeoDataFrame:
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
            numbers, mask=numbers > 0, connectivity=4, transform=info.transform
        )
    ]
    numbers_found = [number for number, _ in found]
    frame = gpd.GeoDataFrame(
        {
            "class_number": np.array(numbers_found, dtype="int32"),
            "class_name": [info.classes[number - 1] for number in numbers_found],
        },
        geometry=[geometry for _, geometry in found],
        crs=info.crs.to_wkt(),
    )
    pixel_area = abs(info.transform.determinant)
    frame["area_m2"] = np.rint(frame.area / pixel_area) * pixel_m2
    return frame[["class_number", "class_name", "area_m2", "geometry"]]


def read_predictions(run_id: str, storage: Storage) -> pd.DataFrame:
    """Read the held-out predictions of a run's cross-validation.

    Raises
    ------
    ConfigError, ServiceError
        There is no such run, or MLflow does not answer.
    DataError
        The run has none.
    """
    settings: Settings = storage.settings
    tracking.find_run(settings, run_id)
    with storage.scratch() as folder:
        try:
            path = mlflow.artifacts.download_artifacts(
                run_id=run_id, artifact_path="predictions.parquet", dst_path=str(folder)
            )
        except (MlflowException, OSError) as error:
            raise DataError(
                f"Run {run_id} has no predictions.parquet: {str(error).splitlines()[0]}; map with "
                "a model that `invoke train` made."
            ) from error
        return pd.read_parquet(path)


def area_table(areas: dict[str, Any]) -> str:
    """Write areas and accuracies as Markdown, areas in hectares."""
    lines = [
        "# Area of each class",
        "",
        f"Map: {areas['map']['model']}, run {areas['map'].get('run_id', 'unknown')}. "
        f"{areas['nodata_px']} of {areas['total_px']} pixels have no class.",
        "",
    ]
    if note := areas["map"].get("note"):
        lines += [f"**{note}**", ""]
    lines += [
        "| class | mapped (ha) | error-adjusted (ha) | user's accuracy | producer's accuracy |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for name, row in areas["classes"].items():
        cells = [f"{row['mapped_m2'] / M2_PER_HA:,.1f}"]
        area = row.get("area_m2")
        cells.append(_plus_minus(area, 1 / M2_PER_HA, ",.1f"))
        cells += [
            _plus_minus(row.get(key), 1, ".2f") for key in ("users_accuracy", "producers_accuracy")
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    overall = _plus_minus(areas.get("overall_accuracy"), 1, ".2f")
    lines += ["", f"Overall accuracy: {overall}.", "", areas["remark"]]
    if areas["adjusted"]:
        lines += ["", f"Intervals are 95 %; estimator: Olofsson et al. 2014, <{DOI}>."]
    return "\n".join(lines) + "\n"


def _areas(
    numbers: Numbers, info: MapInfo, pixel_m2: float, predictions: pd.DataFrame
) -> dict[str, Any]:
    counts = np.bincount(numbers.ravel(), minlength=len(info.classes) + 1)
    areas: dict[str, Any] = {
        "map": info.metadata,
        "pixel_m2": pixel_m2,
        "total_px": int(counts.sum()),
        "nodata_px": int(counts[0]),
    }
    mapped = counts[1:].astype("int64")
    matrix = error_matrix(predictions["class_name"], predictions["predicted"], info.classes)
    try:
        estimate = estimate_areas(matrix, mapped, info.classes, pixel_m2)
    except DataError as error:  # the mapped areas are worth telling all the same
        plain = {
            name: {"mapped_m2": float(count * pixel_m2)}
            for name, count in zip(info.classes, mapped, strict=True)
        }
        return areas | {"adjusted": False, "remark": str(error), "classes": plain}
    return areas | {
        "adjusted": True,
        "remark": ASSUMPTION,
        "samples": int(matrix.sum()),
        "error_matrix": {"rows": "mapped", "columns": "reference", "samples": matrix.tolist()},
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


def _plus_minus(interval: dict[str, float] | None, factor: float, form: str) -> str:
    if interval is None:
        return "not known"
    return f"{interval['value'] * factor:{form}} ± {interval['margin'] * factor:{form}}"


def _pixel_m2(map_uri: str, info: MapInfo) -> float:
    if not info.crs or not info.crs.is_projected:
        crs = info.crs.to_string()[:40] if info.crs else "no CRS"
        raise DataError(
            f"{map_uri} lies in {crs}, whose pixels have no area in square metres; map again with "
            "a projected [grid] crs, best an equal-area one."
        )
    metres = float(info.crs.linear_units_factor[1])
    return abs(float(info.transform.determinant)) * metres**2


def _draw(path: Path, map_uri: str, info: MapInfo, storage: Storage) -> None:
    rows, columns = info.shape
    step = max(1.0, max(rows, columns) / QUICKLOOK_PX)
    size = (math.ceil(rows / step), math.ceil(columns / step))
    with open_map(map_uri, storage) as file:  # from an overview, where there is one
        numbers = file.read(1, out_shape=size, resampling=Resampling.nearest)
    note = info.metadata.get("note") or info.metadata["model"]
    map_figure(numbers, info.classes, note, info.colours).savefig(path, dpi=150)
