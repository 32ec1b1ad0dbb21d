"""The data report: what the images and labels hold, and whether that is enough to train on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xarray as xr
from pydantic import model_validator

from terraflow.eo.config.labels import Checks
from terraflow.eo.config.record import Record
from terraflow.eo.config.sections import Features
from terraflow.eo.features.indices import add_indices, index_range
from terraflow.eo.features.time.periods import period_labels
from terraflow.eo.targets.vectors.account import LabelAccount
from terraflow.errors import ConfigError, DataError

__all__ = ["DataReport", "Tally", "check_data", "count"]


@dataclass
class Tally:
    """Sums over windows that a report is made of; adding windows in any order gives the same.

    Attributes
    ----------
    clear, seen : dict
        Period to number of clear and of all observations, of pixels that images cover.
    low, high : dict
        Band or index to its least and greatest clear value.
    values, outside : dict
        Band or index to number of clear values, and of those outside the range of [checks], or
        of those that an index lacks, since they lie outside its own range.
    """

    clear: dict[str, int] = field(default_factory=dict)
    seen: dict[str, int] = field(default_factory=dict)
    low: dict[str, float] = field(default_factory=dict)
    high: dict[str, float] = field(default_factory=dict)
    values: dict[str, int] = field(default_factory=dict)
    outside: dict[str, int] = field(default_factory=dict)

    def clear_share(self, period: str) -> float:
        """Share (0-1) of clear observations; 0 where there is none."""
        return self.clear[period] / max(self.seen[period], 1)

    def add(self, other: Tally) -> None:
        """Take in another window."""
        for mine, more in (
            (self.clear, other.clear),
            (self.seen, other.seen),
            (self.values, other.values),
            (self.outside, other.outside),
        ):
            for key, number in more.items():
                mine[key] = mine.get(key, 0) + number
        for key, value in other.low.items():
            self.low[key] = min(self.low.get(key, value), value)
        for key, value in other.high.items():
            self.high[key] = max(self.high.get(key, value), value)


class DataReport(Record):
    """What was found in the data.

    Attributes
    ----------
    features, periods : list of str
    dates : dict
        Period to the number of days with an image.
    clear_share : dict
        Period to share (0-1) of clear observations.
    value_range : dict
        Band or index to least and greatest clear value.
    outside_range : dict
        Band or index to share (0-1) of clear values outside [checks] value_range.
    label_counts : dict
        Stratum to the number of labelled pixels that have all features; 0 for one
        whose labels lie in the images, but on no such pixel.
    incomplete : int
        Labelled pixels that lack a feature, and are left out.
    in_no_polygon : int
        Labelled pixels that have all features and lie in no polygon, nor in a patch of a raster
        that is kept whole: points, and patches that are too large.
    gaps : int
        Pixels of the whole area that are clear in one period, and in another farther from a clear
        one than [features] max_gap_days; they have no features.
    grid : dict
        crs, transform (six numbers, GDAL's pixel-to-world in rasterio's order) and shape (y, x).
    labels : LabelAccount
        What became of the reference data.
    data_digest : str
        Of the samples.
    simulated : bool
    """

    features: list[str]
    periods: list[str]
    clear_share: dict[str, float]
    value_range: dict[str, tuple[float, float]]
    outside_range: dict[str, float]
    label_counts: dict[str, int]
    incomplete: int = 0
    in_no_polygon: int = 0
    gaps: int = 0
    dates: dict[str, int] = {}
    grid: dict[str, Any]
    labels: LabelAccount = LabelAccount()
    data_digest: str
    simulated: bool

    @model_validator(mode="before")
    @classmethod
    def _from_older(cls, values: Any) -> Any:
        renamed = {"class_sizes": "label_counts"}  # of version 0
        found = {renamed.get(key, key): value for key, value in dict(values).items()}
        return found | ({"record_version": 0} if set(renamed) & set(values) else {})


def count(cube: xr.Dataset, features: Features, checks: Checks) -> Tally:
    """Count one window.

    Parameters
    ----------
    cube : Dataset
        Bands, dims (time, y, x), float32, NaN where not clear; coordinate `observed`, as
        `cube.load_clear` gives it.
    """
    tally = Tally()
    labels = period_labels(cube.time.values, features.composites)
    observed = cube["observed"].values
    series = add_indices(cube.drop_vars("observed"), features.indices, features.constants)
    ranges = index_ranges(features) | checks.value_range
    if unknown := sorted(set(ranges) - set(series)):
        raise ConfigError(
            f"[checks] value_range names {unknown[0]}, which is none of {', '.join(series)}; "
            "correct it."
        )
    first = next(iter(series.values())).values
    for label, image, seen in zip(labels, first, observed, strict=True):
        tally.clear[label] = tally.clear.get(label, 0) + int(np.isfinite(image).sum())
        tally.seen[label] = tally.seen.get(label, 0) + int(seen.sum())
    bands = [series[str(name)].values for name in cube.data_vars]
    possible = int(np.isfinite(np.stack(bands)).all(axis=0).sum())
    for name, values in series.items():
        clear = values.values[np.isfinite(values.values)]
        lacking = max(possible - clear.size, 0) if name not in cube else 0
        if clear.size:
            tally.low[name], tally.high[name] = float(clear.min()), float(clear.max())
        if clear.size + lacking:
            tally.values[name] = clear.size + lacking
        if clear.size + lacking and name in ranges:
            low, high = ranges[name]
            tally.outside[name] = lacking + int(((clear < low) | (clear > high)).sum())
    return tally


def index_ranges(features: Features) -> dict[str, tuple[float, float]]:
    """Give the range of each index, by its feature's name."""
    return {name.lower(): index_range(name, features.constants) for name in features.indices}


def check_data(
    tally: Tally, label_counts: Mapping[str, int], limits: Checks, features: Features
) -> None:
    """Hold the data against the thresholds of [checks].

    Raises
    ------
    DataError
        Some are not met; all are named with their numbers.
    """
    found = [
        f"{name} has labels in the images, but no pixel with all features (leave it out in "
        "[labels], or see whether clouds, [labels] shrink, small polygons or others over them are "
        "the cause)"
        for name, size in sorted(label_counts.items())
        if not size
    ]
    if (least := limits.min_clear_share) is not None:
        found += [
            f"period {period} has {tally.clear_share(period):.3f} of its "
            f"observations clear, below min_clear_share {least:g}"
            for period in sorted(tally.seen)
            if tally.clear[period] < least * tally.seen[period]
        ]
    if (few := limits.min_samples) is not None:
        found += [
            f"{name} has {size} labelled pixels, below min_samples_per_class {few}"
            for name, size in sorted(label_counts.items())
            if 0 < size < few
        ]
    found += [
        f"{name} has {number / tally.values[name]:.3f} of its clear values outside "
        f"{_range(name, limits, features)} ({_span(name, tally)}), above max_outside_range "
        f"{limits.max_outside_range:g}"
        for name, number in sorted(tally.outside.items())
        if number / tally.values[name] > limits.max_outside_range
    ]
    if found:
        raise DataError(
            f"The data do not pass [checks]: {'; '.join(found)}; correct the data, or the "
            "thresholds if this is right."
        )


def _range(name: str, limits: Checks, features: Features) -> str:
    low, high = (index_ranges(features) | limits.value_range)[name]
    return f"{low:.4g} to {high:.4g}"


def _span(name: str, tally: Tally) -> str:
    if name not in tally.low:
        return "none lies within"
    return f"those that count span {tally.low[name]:.4g} to {tally.high[name]:.4g}"
