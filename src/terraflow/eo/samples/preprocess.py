"""From items and labels to samples."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import odc.geo.xr  # noqa: F401 - the accessor .odc
import pandas as pd
import pystac
from odc.geo.geobox import GeoBox
from rasterio.windows import Window

from terraflow import config
from terraflow.eo.config.project_file import ProjectConfig
from terraflow.eo.config.sections import SIMULATED
from terraflow.eo.features.pixel import halo_px
from terraflow.eo.features.windows import FeatureSource
from terraflow.eo.images.ingest import Selection, read_items
from terraflow.eo.samples.data_report import DataReport, Tally, check, count
from terraflow.eo.samples.draw import (
    POPULATION,
    Draw,
    block_numbers,
    pixel_table,
    random_pixels,
    to_geo,
)
from terraflow.eo.targets.labels import RasterLabels, VectorLabels, read_labels
from terraflow.errors import DataError
from terraflow.storage import Storage, join

__all__ = ["preprocess", "read_report"]


def preprocess(project: ProjectConfig, selection: Selection, storage: Storage) -> Selection:
    """Write samples, and a report of the data, into the store, unless they are there.

    Parameters
    ----------
    selection : dict
        What `ingest` returned.

    Returns
    -------
    dict
        What `selection` held, and "samples": URI of a GeoParquet with columns x, y (in the grid's
        CRS), block, polygon (-1 is none), class_name and the features (float32); "population": URI
        of a GeoParquet with x, y and features of random pixels of the whole area; "report": URI of
        a `DataReport` as JSON.

    Raises
    ------
    DataError
        Assets or labels do not fit the configuration, no pixel is clear, or the data do not pass
        the checks.
    ConfigError
        An index is unknown or lacks its bands.
    StorageError
        The store can't be read or written.
    """
    items = read_items(selection["items"], storage)
    key = _key(project, items, selection["labels"], storage)
    root = join(storage.settings.data_uri, project.name, "samples", key)
    result = dict(selection) | {
        "samples": join(root, "samples.parquet"),
        "population": join(root, "population.parquet"),
        "report": join(root, "report.json"),
    }
    if storage.exists(result["report"]):  # it is written last
        return result
    source = FeatureSource(items, project, storage)
    labels = read_labels(selection["labels"], project.labels, source.geobox, storage)
    sampled = _Sampled(project, class_sizes=dict.fromkeys(labels.expected, 0))
    for _, seen in source.over_windows(lambda w: _see(w, source, labels), "preprocess"):
        sampled.add(seen)
    samples, population = sampled.samples(labels, source.geobox), sampled.population.result()
    _check_samples(samples, source, sampled.tally)
    check(sampled.tally, sampled.class_sizes, project)
    with storage.scratch() as folder:
        paths = {name: folder / Path(result[name]).name for name in ("samples", "population")}
        to_geo(samples, source.geobox).to_parquet(paths["samples"], index=False)
        to_geo(population, source.geobox).to_parquet(paths["population"], index=False)
        digest = hashlib.sha256(paths["samples"].read_bytes()).hexdigest()[:16]
        for name, path in paths.items():
            storage.write(result[name], path)
    report = _report(source, sampled, digest)
    storage.write(result["report"], json.dumps(report.to_dict(), indent=1).encode())
    return result


def read_report(uri: str, storage: Storage) -> DataReport:
    """Read the report that `preprocess` wrote."""
    return DataReport(**json.loads(storage.read(uri)))


@dataclass(frozen=True)
class _Seen:
    """Of one window: rows with their random numbers, pixels a class, counts."""

    labelled: tuple[pd.DataFrame, npt.NDArray[np.float64]]
    anywhere: tuple[pd.DataFrame, npt.NDArray[np.float64]]
    class_sizes: dict[str, int]
    tally: Tally


@dataclass
class _Sampled:
    """What has been drawn and counted so far."""

    project: ProjectConfig
    tally: Tally = field(default_factory=Tally)
    class_sizes: dict[str, int] = field(default_factory=dict)
    drawn: Draw = field(init=False)
    population: Draw = field(init=False)

    def __post_init__(self) -> None:
        self.drawn = Draw(self.project.labels.samples_per_class, by="class_name")
        self.population = Draw(POPULATION)

    def add(self, seen: _Seen) -> None:
        """Take in a window."""
        self.tally.add(seen.tally)
        for name, size in seen.class_sizes.items():
            self.class_sizes[name] = self.class_sizes.get(name, 0) + size
        self.drawn.add(*seen.labelled)
        self.population.add(*seen.anywhere)

    def samples(self, labels: VectorLabels | RasterLabels, geobox: GeoBox) -> pd.DataFrame:
        """Give the drawn samples with their blocks."""
        table, validation = self.drawn.result(), self.project.validation
        if "polygon" not in table:
            return table.assign(block=[], polygon=[], class_name=[])
        blocks = block_numbers(
            table, labels, geobox,
            size_px=validation.block_size_px, whole_polygons=validation.whole_polygons,
        )  # fmt: skip
        table.insert(2, "block", blocks)
        return table


def _see(window: Window, source: FeatureSource, labels: VectorLabels | RasterLabels) -> _Seen:
    """Take what is wanted of one window; the same window of the same data gives the same."""
    project, halo = source.project, halo_px(source.project.features)
    (top, bottom), (left, right) = window.toranges()
    with source.storage.gdal():
        cube = source.cube(window)
        features = source.features(cube, window)
        numbers, polygons = labels.burn(source.geobox[top:bottom, left:right])
    random = np.random.default_rng((project.seed, window.row_off, window.col_off))
    labelled = pixel_table(features, numbers > 0)
    names = np.array(["", *labels.names], dtype=object)
    labelled.insert(2, "class_name", names[numbers.ravel()[labelled.index]])
    labelled.insert(2, "polygon", polygons.ravel()[labelled.index])
    burnt = {str(name): 0 for name in names[np.unique(numbers[numbers > 0])]}
    inner = cube.isel(y=slice(halo, halo + window.height), x=slice(halo, halo + window.width))
    return _Seen(
        labelled=(labelled, random.random(len(labelled))),
        anywhere=random_pixels(features, POPULATION, random),
        class_sizes=burnt | labelled["class_name"].value_counts().to_dict(),
        tally=count(inner, project),
    )


def _check_samples(samples: pd.DataFrame, source: FeatureSource, tally: Tally) -> None:
    geobox, validation = source.geobox, source.project.validation
    if not sum(tally.clear.values()):
        raise DataError(
            f"None of the {geobox.height} x {geobox.width} pixels is clear on any of the "
            f"{len(source.items)} dates; check [cloud_mask], or widen the dates."
        )
    counts = samples["class_name"].value_counts()
    if len(counts) < 2:
        raise DataError(
            f"Labels give {len(samples)} clear pixels of {len(counts)} class(es) "
            f"({', '.join(counts.index) or 'none'}); at least 2 classes are needed; check "
            "[labels] class_field and classes, and that labels and [features.layers] overlap the "
            "images."
        )
    if (blocks := samples["block"].nunique()) < validation.folds:
        size = validation.block_size_px
        raise DataError(
            f"Labels lie in {blocks} blocks of {size} x {size} pixels, fewer than the "
            f"{validation.folds} folds; lower [validation] folds or block_size_px."
        )


def _report(source: FeatureSource, sampled: _Sampled, digest: str) -> DataReport:
    tally, geobox = sampled.tally, source.geobox
    return DataReport(
        features=source.names,
        periods=source.periods,
        clear_share={p: tally.clear_share(p) for p in source.periods if p in tally.seen},
        value_range={name: (tally.low[name], tally.high[name]) for name in tally.low},
        outside_range={name: n / tally.values[name] for name, n in tally.outside.items()},
        class_sizes=dict(sorted(sampled.class_sizes.items())),
        grid={"crs": str(geobox.crs), "transform": list(geobox.affine)[:6],
              "shape": list(geobox.shape)},
        data_digest=digest,
        simulated=any(item.properties.get(SIMULATED) for item in source.items),
    )  # fmt: skip


def _key(
    project: ProjectConfig, items: Sequence[pystac.Item], labels: str, storage: Storage
) -> str:
    """Digest of all that the samples depend on: items, labels, layers, configuration, code."""
    digest = hashlib.sha256()
    for item in items:
        digest.update(json.dumps(item.to_dict(include_self_link=False), sort_keys=True).encode())
    for uri in (labels, *project.features.layers.values()):
        digest.update(_file_digest(uri, storage).encode())
    wanted = {
        "seed": True, "data": {"bands", "scaling"}, "grid": True, "cloud_mask": True,
        "labels": True, "features": True, "checks": True,
        "validation": {"block_size_px", "folds", "whole_polygons"},
    }  # fmt: skip
    digest.update(project.model_dump_json(include=cast("Any", wanted)).encode())
    lock = config.project_root() / "requirements.lock"
    digest.update(lock.read_bytes() if lock.exists() else b"")
    for path in sorted(resources.files(__package__).iterdir(), key=lambda path: path.name):
        if path.name.endswith(".py"):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _file_digest(uri: str, storage: Storage) -> str:
    """Digest of a file with those beside it of the same name, as a Shapefile has, or of a folder.

    What can't be read has its address for a digest: the step that reads it says so in a sentence.
    """
    path = Path(uri)
    if "://" in uri:
        return storage.digest(uri)
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file())
    else:
        files = sorted(file for file in path.parent.glob(f"{path.stem}.*") if file.is_file())
    return " ".join([uri, *(storage.digest(str(file)) for file in files)])
