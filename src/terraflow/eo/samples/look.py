"""Looks at windows of an area, and draws samples of what is seen there."""

from __future__ import annotations

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

from terraflow.eo.config.project_file import ProjectConfig
from terraflow.eo.features.pixel import halo_px
from terraflow.eo.features.windows import FeatureSource
from terraflow.eo.samples.data_report import Tally, count
from terraflow.eo.samples.draw import (
    ANYWHERE,
    LABELLED,
    POPULATION,
    Draw,
    block_numbers,
    pixel_numbers,
    pixel_table,
    random_pixels,
)
from terraflow.eo.targets.parts import LabelSource
from terraflow.eo.targets.target import Target

__all__ = ["Look", "Sampled", "Seen"]


@dataclass(frozen=True)
class Seen:
    """What was seen in one window: rows, random numbers and strata; counts for the report."""

    labelled: tuple[pd.DataFrame, npt.NDArray[np.float64], npt.NDArray[np.object_]]
    anywhere: tuple[pd.DataFrame, npt.NDArray[np.float64]]
    label_counts: dict[str, int]
    pixels: Counter[str]
    tally: Tally


@dataclass
class Sampled:
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

    def add(self, seen: Seen) -> None:
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
class Look:
    """Takes what is wanted of a window; the same window of the same data gives the same."""

    config: ProjectConfig
    target: Target
    source: FeatureSource
    labels: LabelSource

    def at(self, window: Window) -> Seen:
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
        return Seen(
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
