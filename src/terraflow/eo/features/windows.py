"""Features of a whole area, window by window: memory does not grow with the area."""

from __future__ import annotations

import math
import os
import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import dask
import numpy as np
import numpy.typing as npt
import pystac
import rasterio
import shapely
import xarray as xr
from odc.geo.geobox import GeoBox
from rasterio.windows import Window

from terraflow.console import command, progress
from terraflow.eo.features import grid
from terraflow.eo.features.cube import find_unreadable, load_clear, observation_times
from terraflow.eo.features.indices import check_indices
from terraflow.eo.features.layers import describe_layers, read_layer
from terraflow.eo.features.native import check_nodata
from terraflow.eo.features.own import function_name, own_names
from terraflow.eo.features.pixel import (
    compute_features,
    count_gaps,
    feature_names,
    halo_px,
    series_names,
)
from terraflow.eo.features.recipe import FeatureRecipe
from terraflow.eo.features.time.composites import clear_observations
from terraflow.eo.features.time.periods import (
    check_dates,
    far_periods,
    observed_periods,
    period_labels,
)
from terraflow.eo.features.warp import pixel_size_m
from terraflow.eo.images.assets import find_images
from terraflow.eo.images.sources.selection import item_area
from terraflow.eo.images.sources.solar_days import item_time
from terraflow.errors import ConfigError, DataError, NothingToDoError
from terraflow.storage import Storage

__all__ = ["FeatureSource"]

T = TypeVar("T")
#: Side of a window, and twice as much in areas of so many windows: each costs some milliseconds.
WINDOW_PX = 512
LARGE_AREA = 16
#: A window's cube and features are held in memory; with more of them windows get smaller.
WINDOW_BYTES = 200 * 1024**2
#: Of an image's own pixels, beside its bands: the mask, and what comes of it and of the warp.
OWN_LAYERS = 4
WORKERS = min(4, os.cpu_count() or 1)


class FeatureSource:
    """The features of items, computed when asked for.

    Parameters
    ----------
    items : sequence of pystac.Item
        In the order of time and id.
    periods : sequence of str, optional
        Of the composites; a model's, so that a map has the features of the training. Without
        them: those in which an item lies.

    Attributes
    ----------
    geobox : GeoBox
        Grid of the whole area.
    area : geometry or None
        Polygons that the items were ingested for, in the CRS of the grid: beyond them all features
        are NaN. None is no limit.
    names : list of str
        Features, in order.
    periods : list of str
    missing_periods : list of str
        Of these, the ones of which there is no item; they are filled from the others.
    far_periods : list of str
        Of these, the ones that are too far from the others to be filled.
    dates : dict
        Period to the number of days with an item; of the periods with any.

    Raises
    ------
    DataError
        Items lack assets or do not tell their grid, or can't be composited by their dates; or a
        layer can't be read.
    ConfigError
        An index is unknown or lacks its bands.
    NothingToDoError
        No item lies in the periods.
    """

    def __init__(
        self,
        items: Sequence[pystac.Item],
        recipe: FeatureRecipe,
        storage: Storage,
        periods: Sequence[str] | None = None,
    ) -> None:
        self.items, self.recipe, self.storage = [_dated(i) for i in items], recipe, storage
        features, bands = recipe.features, list(recipe.bands)
        find_images(self.items, recipe.assets)
        for item in self.items:
            if inner := [key for key in recipe.assets if key not in item.assets]:
                raise DataError(
                    f"Item {item.id} has {', '.join(inner)} as bands of another asset, and not as "
                    f"assets of their own; copy it by `{command('ingest')}`, which parts them."
                )
        check_nodata(self.items, recipe)
        check_indices(features.indices, bands, features.constants)
        check_dates(self.items, features.composites)
        self.geobox = grid.project_grid(self.items, recipe.bands[bands[0]], recipe.grid)
        outline = item_area(self.items, storage)
        self.area = None if outline is None else grid.area_on_grid(outline, self.geobox)
        times = observation_times(self.items)
        self.periods = list(periods or observed_periods(times, features.composites))
        labels = period_labels(times, features.composites)
        days = {(period, day) for period, day in zip(labels, np.array(times, "M8[D]"), strict=True)}
        self.dates = dict(sorted(Counter(p for p, _ in days if p in self.periods).items()))
        present = set(labels)
        self.missing_periods = [period for period in self.periods if period not in present]
        self.far_periods = far_periods(
            sorted(present), self.periods, features.composites, features.max_gap_days
        )
        if len(self.missing_periods) == len(self.periods):
            first, last = str(times.min())[:10], str(times.max())[:10]
            raise NothingToDoError(
                f"None of the {len(self.items)} items, of {first} to {last}, lies in the model's "
                f"periods {self.periods[0]} to {self.periods[-1]}; take items of these, or train "
                "with [features] composites over all years, as month_of_year."
            )
        with storage.gdal():
            self.layers = describe_layers(features.layers, self.geobox)
        plain = feature_names(bands, features, self.periods, self._layer_names)
        series = series_names(bands, features)
        self._configured = len(plain)
        self.names = [*plain, *own_names(recipe.own, times, series, [*series, *plain])]

    def features_of(self, periods: Sequence[str]) -> list[str]:
        """Name the features that follow from the images of these periods alone."""
        plain = self.recipe.features.model_copy(update={"statistics": []})
        told = set(feature_names(list(self.recipe.bands), plain, periods, self._layer_names))
        return [name for name in self.names if name in told]

    def windows(self) -> list[Window]:
        """Cut the grid into tiles, row by row; without those that the area does not reach."""
        series = len(series_names(list(self.recipe.bands), self.recipe.features))
        # each image is read on its own pixels, of which a coarser grid's pixel covers many
        image = grid.native_geobox(self.items[0], next(iter(self.recipe.bands.values())))
        covered = math.prod(pixel_size_m(self.geobox)) / math.prod(pixel_size_m(image))
        own = round((len(self.recipe.bands) + OWN_LAYERS) * covered)
        layers = max(series * len(self.items), 2 * len(self.names), own)
        least = max(1, 64 / max(1, math.sqrt(covered)))
        large = self.geobox.height * self.geobox.width > LARGE_AREA * WINDOW_PX**2
        side = WINDOW_PX * (2 if large else 1)
        while side > least and layers * side**2 * 4 > WINDOW_BYTES:
            side //= 2
        every = grid.windows(self.geobox, side)
        if self.area is not None:
            shapely.prepare(self.area)
            every = [s for s in every if self.area.intersects(self.geobox[s].extent.geom)]
        return [Window.from_slices(*slices) for slices in every]

    def inside(self, window: Window) -> npt.NDArray[np.bool_]:
        """Tell the pixels of a window whose centre lies in the area: bool, shape (y, x)."""
        (top, bottom), (left, right) = window.toranges()
        if self.area is None:
            return np.ones((bottom - top, right - left), bool)
        return grid.centres_inside(self.area, self.geobox[top:bottom, left:right])

    def cube(self, window: Window) -> xr.Dataset:
        """Load a window and what its neighbourhoods need around it: dims (time, y, x), float32."""
        return load_clear(self.items, self.recipe, self._around(window))

    def features(self, cube: xr.Dataset, window: Window) -> xr.DataArray:
        """Compute a window's features from its cube: (feature, y, x), float32, NaN nodata.

        Raises
        ------
        ConfigError
            A function of the project is wrong, or names its features otherwise than before.
        """
        around, features = self._around(window), self.recipe.features
        halo = halo_px(features)
        layers = {n: image for x in self.layers for n, image in read_layer(x, around).items()}
        values = compute_features(cube, features, self.periods, layers, self.recipe.own)
        if (found := [str(name) for name in values.feature.values]) != self.names:
            here, before = (
                ", ".join(names[self._configured :]) or "nothing" for names in (found, self.names)
            )
            raise ConfigError(
                f"Feature functions {', '.join(map(function_name, self.recipe.own))} returned "
                f"{here} of one window and {before} of made-up pixels; the same names in the same "
                "order are expected of every cube."
            )
        inner = {"y": slice(halo, halo + window.height), "x": slice(halo, halo + window.width)}
        return self._limited(values.isel(inner), window)

    def compute(self, window: Window) -> xr.DataArray:
        """Load a window and compute its features: (feature, y, x), float32, NaN nodata."""
        with self.storage.gdal():
            return self.features(self.cube(window), window)

    def count_gaps(self, values: xr.DataArray) -> int:
        """Count pixels of a window's features that [features] max_gap_days costs."""
        return count_gaps(values, self.recipe, self.periods)

    def clear_observations(self, cube: xr.Dataset, window: Window) -> npt.NDArray[np.uint16]:
        """Count the dates on which each pixel of a window's cube is clear: uint16, shape (y, x).

        Dates outside of the periods do not count; beyond the area it is 0.
        """
        halo, composites = halo_px(self.recipe.features), self.recipe.features.composites
        within = np.isin(period_labels(cube.time.values, composites), self.periods)
        count = clear_observations(cube.isel(time=within))
        inner = count[halo : halo + window.height, halo : halo + window.width]
        return np.where(self.inside(window), inner, np.uint16(0))

    def iterate(self, label: str) -> Iterator[tuple[Window, xr.DataArray]]:
        """Give every window with its features, in order, with a progress bar."""
        return self.over_windows(self.compute, label)

    def over_windows(self, work: Callable[[Window], T], label: str) -> Iterator[tuple[Window, T]]:
        """Apply a function to every window, some at a time, and give the results in order.

        Raises
        ------
        DataError
            An image can't be read.
        """
        tiles = self.windows()
        waiting: deque[tuple[Window, Future[T]]] = deque()
        with (
            self.storage.gdal(),  # from the main thread it holds for dask's threads too
            # threads of dask's own beside these would take memory and no less time
            dask.config.set(scheduler=dask.config.get("scheduler", None) or "synchronous"),
            ThreadPoolExecutor(WORKERS) as pool,
            progress(len(tiles), label, "windows") as bar,
            warnings.catch_warnings(),
        ):
            # rasterio says it of the array in memory into which it warps
            warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
            try:
                for tile in tiles:
                    waiting.append((tile, pool.submit(work, tile)))
                    if len(waiting) > WORKERS:
                        yield self._result(*waiting.popleft())
                        bar.update()
                while waiting:
                    yield self._result(*waiting.popleft())
                    bar.update()
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    @property
    def _layer_names(self) -> list[str]:
        return [name for layer in self.layers for name in layer.names]

    def _result(self, window: Window, future: Future[T]) -> tuple[Window, T]:
        try:
            return window, future.result()
        except (rasterio.errors.RasterioError, OSError) as error:
            with self.storage.gdal():
                name, why = find_unreadable(self.items, self.recipe.assets) or (
                    "An image",
                    str(error),
                )
            raise DataError(
                f"{name} can't be read: {why}; check that the file is whole and can be reached."
            ) from error

    def _limited(self, values: xr.DataArray, window: Window) -> xr.DataArray:
        if self.area is None:
            return values
        return values.where(xr.DataArray(self.inside(window), dims=("y", "x")))

    def _around(self, window: Window) -> GeoBox:
        (top, bottom), (left, right) = window.toranges()
        return self.geobox[top:bottom, left:right].pad(halo_px(self.recipe.features))


def _dated(item: pystac.Item) -> pystac.Item:
    """Give an item of a period the time of its middle, by which it is composited."""
    if item.datetime is None:
        item = item.clone()
        item.datetime = item_time(item)
    return item
