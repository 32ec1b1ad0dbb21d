"""Samples as `preprocess` leaves them, of classes that depend on two of their features."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd

from terraflow.eo.config.project_file import ProjectConfig
from terraflow.eo.samples.data_report import DataReport
from terraflow.eo.samples.preprocess import Prepared
from terraflow.storage import Storage, join

FEATURES = ["ndvi_2024-04", "ndvi_2024-05", "ndvi_max", "noise"]
CLASSES = ["forest", "grassland", "water"]


def make_samples(*, seed: int = 0, blocks: int = 12, per_block: int = 20) -> pd.DataFrame:
    """Blocks of 4 x 5 pixels in a row, each with its own shift; two polygons a block."""
    random = np.random.default_rng(seed)
    block = np.repeat(np.arange(blocks), per_block)
    place = np.tile(np.arange(per_block), blocks)
    values = random.normal(size=(len(block), len(FEATURES)))
    values += random.normal(scale=0.7, size=(blocks, len(FEATURES)))[block]
    table = pd.DataFrame(values.astype("float32"), columns=FEATURES)
    names = np.select([values[:, 0] > 0.5, values[:, 1] > 0.3], ["forest", "water"], "grassland")
    table.insert(0, "class_name", names)
    table.insert(0, "polygon", 2 * block + place % 2)
    table.insert(0, "block", block)
    table.insert(0, "y", 5_100_000.0 - 10 * (place // 5))
    table.insert(0, "x", 500_000.0 + 50 * block + 10 * (place % 5))
    return table


def make_report(samples: pd.DataFrame, **changes: Any) -> DataReport:
    names = [n for n in samples if n not in ("x", "y", "block", "polygon", "class_name")]
    values = {
        "features": names,
        "periods": ["2024-04", "2024-05"],
        "clear_share": {"2024-04": 0.81, "2024-05": 0.4},
        "value_range": {"red": [0.01, 0.4]},
        "outside_range": {},
        "label_counts": samples["class_name"].value_counts().to_dict(),
        "grid": {"crs": "EPSG:32633", "transform": [10, 0, 5e5, 0, -10, 5.1e6], "shape": [4, 60]},
        "data_digest": "0123456789abcdef",
        "simulated": False,
    }
    return DataReport.model_validate(values | changes)


def write_samples(
    samples: pd.DataFrame, config: ProjectConfig, storage: Storage, **changes: Any
) -> Prepared:
    """Write them into the store; return what `preprocess` returns."""
    root = join(storage.settings.data_uri, config.name)
    names = {
        "items": "collection.json",
        "labels": "labels.gpkg",
        "samples": "samples.parquet",
        "population": "population.parquet",
        "report": "report.json",
    }
    prepared = Prepared(**{key: join(root, name) for key, name in names.items()})
    storage.write(prepared.items, b'{"type": "Collection", "terraflow:digest": "feed"}')
    points = gpd.points_from_xy(samples["x"], samples["y"])
    with storage.scratch() as folder:
        path = folder / "samples.parquet"
        gpd.GeoDataFrame(samples, geometry=points, crs="EPSG:32633").to_parquet(path, index=False)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
        storage.write(prepared.samples, path)
    report = make_report(samples, data_digest=digest, **changes)
    storage.write(prepared.report, json.dumps(report.to_dict()).encode())
    return prepared
