"""From items and labels to samples."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import odc.geo.xr  # noqa: F401 - the accessor .odc
import pandas as pd
import xarray as xr
from odc.geo.geobox import GeoBox
from rasterio.windows import Window

from terraflow.console import say, table
from terraflow.eo.config.imagery import SIMULATED
from terraflow.eo.config.project_file import ProjectConfig
from terraflow.eo.features.indices import check_indices
from terraflow.eo.features.pixel import halo_px
from terraflow.eo.features.recipe import FeatureRecipe
from terraflow.eo.features.windows import FeatureSource
from terraflow.eo.hooks import Hooks
from terraflow.eo.images.collection import Images, read_items
from terraflow.eo.project import Inputs, OpenProject
from terraflow.eo.samples.data_report import DataReport, Tally, check_data, count
from terraflow.eo.samples.digest import samples_digest
from terraflow.eo.samples.draw import (
    ANYWHERE,
    LABELLED,
    NOT_FEATURES,
    POPULATION,
    Draw,
    block_numbers,
    pixel_numbers,
    pixel_table,
    random_pixels,
    to_geo,
)
from terraflow.eo.targets.parts import LabelSource
from terraflow.eo.targets.target import Target
from terraflow.errors import ConfigError, DataError
from terraflow.storage import Storage, join

__all__ = ["Prepared", "check", "preprocess", "read_report", "show", "step"]


class Prepared(Images):
    """What `preprocess` returns, beside what `ingest` did.

    Attributes
    ----------
    samples : str
        URI of a GeoParquet with columns x, y (in the grid's CRS), block, polygon (-1 is none), the
        target's column and the features (float32).
    population : str
        URI of a GeoParquet with x, y and features of random pixels of the whole area.
    report : str
        URI of a `DataReport` as JSON.
    """

    samples: str
    population: str
    report: str


def preprocess(config: ProjectConfig, hooks: Hooks, images: Images, storage: Storage) -> Prepared:
    """Write samples, and a report of the data, into the store, unless they are there.

    Raises
    ------
    DataError
        Assets or labels do not fit the configuration, no pixel is clear, or the data do not pass
        the checks.
    ConfigError
        An index is unknown or lacks its bands, or a feature function is wrong.
    StorageError
        The store can't be read or written.
    """
    items = read_items(images.items, storage)
    key = samples_digest(config, hooks, items, images.labels, storage)
    root = join(storage.settings.data_uri, config.name, "samples", key)
    result = Prepared(
        items=images.items,
        labels=images.labels,
        samples=join(root, "samples.parquet"),
        population=join(root, "population.parquet"),
        report=join(root, "report.json"),
    )
    if storage.exists(result.report):  # it is written last
        return result
    source = FeatureSource(items, FeatureRecipe.of(config, hooks.features), storage)
    _check_names(source.names, hooks.target)
    labels = hooks.target.read_labels(images.labels, config.labels, source.geobox, storage)
    look = _Look(config, hooks.target, source, labels)
    # labels that reach the grid may all lie beyond the polygons of an area
    expected = labels.expected if source.area is None else []
    sampled = _Sampled(config, label_counts=dict.fromkeys(expected, 0))
    for _, seen in source.over_windows(look.at, "preprocess"):
        sampled.add(seen)
    samples, population = sampled.samples(labels, source.geobox), sampled.population.result()
    _check_samples(samples, look, sampled.tally)
    check_data(sampled.tally, sampled.label_counts, config.checks, config.features)
    with storage.scratch() as folder:
        paths = {name: folder / f"{name}.parquet" for name in ("samples", "population")}
        to_geo(samples, source.geobox).to_parquet(paths["samples"], index=False)
        to_geo(population, source.geobox).to_parquet(paths["population"], index=False)
        digest = hashlib.sha256(paths["samples"].read_bytes()).hexdigest()[:16]
        storage.write(result.samples, paths["samples"])
        storage.write(result.population, paths["population"])
    report = _report(source, sampled, digest)
    storage.write(result.report, json.dumps(report.to_dict(), indent=1).encode())
    return result


def check(project: OpenProject, inputs: Inputs) -> None:
    """See before long work that names in the configuration are known."""
    del inputs
    features, bands = project.config.features, list(project.config.data.bands)
    check_indices(features.indices, bands, features.constants)


def step(project: OpenProject, inputs: Inputs) -> Prepared:
    """Make samples of what `ingest` returned."""
    images = Images.model_validate(inputs)
    return preprocess(project.config, project.hooks, images, project.storage)


def show(project: OpenProject, outputs: Inputs) -> int:
    """Tell what the data report holds, and where the samples are."""
    report = read_report(outputs["report"], project.storage)
    target = project.hooks.target
    say()
    counts = [(name, str(count)) for name, count in report.label_counts.items()]
    table((target.column.removesuffix("_name").replace("_", " "), "labelled pixels"), counts)
    if report.incomplete:
        say(f"\n{report.incomplete} labelled pixels more lack a feature, and are left out.")
    if report.gaps:
        say(f"\n{report.gaps} pixels of the area {project.config.features.gap_text}.")
    say()
    table(("period", "clear"), [(k, f"{v:.0%}") for k, v in report.clear_share.items()])
    say(f"\n{len(report.features)} features. Samples: {outputs['samples']}")
    say(f"Data report: {outputs['report']}")
    return 0


def read_report(uri: str, storage: Storage) -> DataReport:
    """Read the report that `preprocess` wrote."""
    return DataReport.model_validate_json(storage.read(uri))


@dataclass(frozen=True)
class _Seen:
    """What was seen in one window: rows, random numbers and strata; counts for the report."""

    labelled: tuple[pd.DataFrame, npt.NDArray[np.float64], npt.NDArray[np.object_]]
    anywhere: tuple[pd.DataFrame, npt.NDArray[np.float64]]
    label_counts: dict[str, int]
    pixels: Counter[str]
    tally: Tally


@dataclass
class _Sampled:
    """What has been drawn and counted so far."""

    config: ProjectConfig
    tally: Tally = field(default_factory=Tally)
    label_counts: dict[str, int] = field(default_factory=dict)
    pixels: Counter[str] = field(default_factory=Counter)
    drawn: Draw = field(init=False)
    population: Draw = field(init=False)

    def __post_init__(self) -> None:
        self.drawn = Draw(self.config.labels.most_of_each)
        self.population = Draw(POPULATION)

    def add(self, seen: _Seen) -> None:
        """Take in a window."""
        self.tally.add(seen.tally)
        self.pixels.update(seen.pixels)
        for name, size in seen.label_counts.items():
            self.label_counts[name] = self.label_counts.get(name, 0) + size
        self.drawn.add(*seen.labelled)
        self.population.add(*seen.anywhere)

    def samples(self, labels: LabelSource, geobox: GeoBox) -> pd.DataFrame:
        """Give the drawn samples with their blocks."""
        table, validation = self.drawn.result(), self.config.validation
        blocks = block_numbers(
            table,
            labels,
            geobox,
            size_px=validation.block_size_px,
            whole_polygons=validation.whole_polygons,
        )
        table.insert(2, "block", blocks)
        return table


@dataclass(frozen=True)
class _Look:
    """Takes what is wanted of a window; the same window of the same data gives the same."""

    config: ProjectConfig
    target: Target
    source: FeatureSource
    labels: LabelSource

    def at(self, window: Window) -> _Seen:
        """Look at one window."""
        source, config = self.source, self.config
        halo = halo_px(config.features)
        (top, bottom), (left, right) = window.toranges()
        with source.storage.gdal():
            cube = source.cube(window)
            features = source.features(cube, window)
            values, polygons = self.labels.burn(source.geobox[top:bottom, left:right])
        inside = source.inside(window)
        known = ~np.ma.getmaskarray(values) & inside
        labelled = pixel_table(features, known)
        reference = self.labels.decode(np.asarray(values).ravel()[labelled.index])
        labelled.insert(2, self.target.column, reference)
        labelled.insert(2, "polygon", polygons.ravel()[labelled.index])
        burnt = self.labels.decode(np.unique(np.asarray(values)[known]))
        counts = dict.fromkeys(self._strata(burnt), 0)
        strata = self._strata(reference)
        counts |= pd.Series(strata, dtype=object).value_counts().to_dict()
        numbers = pixel_numbers(window, config.seed, LABELLED)
        inner = cube.isel(y=slice(halo, halo + window.height), x=slice(halo, halo + window.width))
        if source.area is not None:
            counted = xr.DataArray(inside, dims=("y", "x"))
            inner = inner.where(counted).assign_coords(observed=inner["observed"] & counted)
        return _Seen(
            labelled=(labelled, numbers.ravel()[labelled.index], strata),
            anywhere=random_pixels(
                features, POPULATION, pixel_numbers(window, config.seed, ANYWHERE)
            ),
            label_counts=counts,
            pixels=Counter(
                incomplete=int(known.sum()) - len(labelled),
                in_no_polygon=int((labelled["polygon"] < 0).sum()),
                gaps=source.count_gaps(features),
            ),
            tally=count(inner, config.features, config.checks),
        )

    def _strata(self, reference: npt.NDArray[Any]) -> npt.NDArray[np.object_]:
        return self.target.strata(pd.Series(reference))


def _check_names(names: list[str], target: Target) -> None:
    if taken := sorted({*NOT_FEATURES, target.column} & set(names)):
        raise ConfigError(
            f"Feature {taken[0]} has the name of another column of the samples; give it a name of "
            "its own in [features.layers] or in the function that returns it."
        )


def _check_samples(samples: pd.DataFrame, look: _Look, tally: Tally) -> None:
    geobox, validation = look.source.geobox, look.config.validation
    if not sum(tally.clear.values()):
        raise DataError(
            f"None of the {geobox.height} x {geobox.width} pixels is clear on any of the "
            f"{len(look.source.items)} dates; check [cloud_mask], or widen the dates."
        )
    look.target.check_samples(samples[look.target.column])
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
        dates=source.dates,
        clear_share={p: tally.clear_share(p) for p in source.periods if p in tally.seen},
        value_range={name: (tally.low[name], tally.high[name]) for name in tally.low},
        outside_range={name: n / tally.values[name] for name, n in tally.outside.items()},
        label_counts=dict(sorted(sampled.label_counts.items())),
        **sampled.pixels,
        grid={
            "crs": str(geobox.crs),
            "transform": list(geobox.affine)[:6],
            "shape": list(geobox.shape),
        },
        data_digest=digest,
        simulated=any(item.properties.get(SIMULATED) for item in source.items),
    )
