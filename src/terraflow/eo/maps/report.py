"""From a map to what is read of it: polygons, a picture, and the area of each class."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import geopandas as gpd
import mlflow
import numpy as np
import numpy.typing as npt
import pandas as pd
import rasterio.features
import rasterio.transform
from mlflow.exceptions import MlflowException
from rasterio.enums import Resampling
from shapely.geometry import shape

from terraflow.eo.config.project_file import ProjectConfig
from terraflow.eo.maps.map_file import MapInfo, open_map, read_info
from terraflow.eo.targets.areas import (
    ASSUMPTION,
    WEIGHTED,
    AreaEstimate,
    Interval,
    area_table,
    error_matrix,
    estimate_areas,
    sampling_weights,
)
from terraflow.eo.training.figures import map_figure
from terraflow.errors import DataError
from terraflow.storage import Storage
from terraflow.tracking import runs as tracking

__all__ = ["polygons", "read_held_out", "report", "sieve"]

QUICKLOOK_PX = 1200
Numbers = npt.NDArray[np.uint8]


def report(
    project: ProjectConfig,
    map_uri: str,
    storage: Storage,
    *,
    predictions: pd.DataFrame | None = None,
    class_sizes: Mapping[str, int] | None = None,
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
    class_sizes : mapping, optional
        Class to the labelled pixels that its predictions were drawn from; by default those of
        the map's run, or with `predictions` that all were used.

    Returns
    -------
    dict
        URIs "polygons" (GeoParquet), "geopackage", "quicklook" (PNG), "area" (JSON) and
        "area_table" (Markdown); "assumption", on what the estimates rest; "areas", what the
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
        predictions, class_sizes = read_held_out(info.metadata.get("run_id", ""), storage)
    with open_map(map_uri, storage) as file:
        numbers = file.read(1)
    sizes = class_sizes or predictions["class_name"].value_counts().to_dict()
    areas = _areas(numbers, info, pixel_m2, predictions, sizes)
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


def read_held_out(run_id: str, storage: Storage) -> tuple[pd.DataFrame, dict[str, int]]:
    """Read the held-out predictions of a run, and the labelled pixels of each class.

    Raises
    ------
    ConfigError, ServiceError
        There is no such run, or MLflow does not answer.
    DataError
        The run has none.
    """
    tracking.find_run(storage.settings, run_id)
    with storage.scratch() as folder:
        predictions, report = (
            _download(run_id, name, folder) for name in ("predictions.parquet", "data_report.json")
        )
        return pd.read_parquet(predictions), dict(json.loads(report.read_bytes())["class_sizes"])


def _download(run_id: str, name: str, folder: Path) -> Path:
    try:
        path = mlflow.artifacts.download_artifacts(
            run_id=run_id, artifact_path=name, dst_path=str(folder)
        )
    except (MlflowException, OSError) as error:
        raise DataError(
            f"Run {run_id} has no {name}: {str(error).splitlines()[0]}; map with a model that "
            "`invoke train` made."
        ) from error
    return Path(path)


def _areas(
    numbers: Numbers,
    info: MapInfo,
    pixel_m2: float,
    predictions: pd.DataFrame,
    class_sizes: Mapping[str, int],
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
    weights = sampling_weights(matrix, class_sizes, info.classes)
    try:
        estimate = estimate_areas(matrix, mapped, info.classes, pixel_m2, weights)
    except DataError as error:  # the mapped areas are worth telling all the same
        plain = {
            name: {"mapped_m2": float(count * pixel_m2)}
            for name, count in zip(info.classes, mapped, strict=True)
        }
        return areas | {"adjusted": False, "remark": str(error), "classes": plain}
    return areas | {
        "adjusted": True,
        "remark": f"{ASSUMPTION} {WEIGHTED}" if (weights != 1).any() else ASSUMPTION,
        "samples": int(matrix.sum()),
        "error_matrix": {"rows": "mapped", "columns": "reference", "samples": matrix.tolist()},
        "weights": dict(zip(info.classes, weights.tolist(), strict=True)),
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
    bounds = rasterio.transform.array_bounds(rows, columns, info.transform)
    map_figure(numbers, info.classes, note, info.colours, bounds).savefig(path, dpi=150)
