"""What is computed of each pixel, and from which images: all that features depend on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import xarray as xr

from terraflow.eo.config.imagery import CloudMask, Grid, Scaling
from terraflow.eo.config.project_file import ProjectConfig
from terraflow.eo.config.sections import Features

__all__ = ["FeatureFunction", "FeatureRecipe"]

#: A project's own features: cube of clear observations to named arrays (y, x); see `own`.
FeatureFunction = Callable[[xr.Dataset], Mapping[str, Any]]


@dataclass(frozen=True)
class FeatureRecipe:
    """How features are made of items.

    Attributes
    ----------
    bands : dict
        Name of a band to the key of its asset.
    scaling : dict
        Name of a band to scale, offset and nodata that override the item's own.
    mask : CloudMask or None
    grid : Grid
    features : Features
    own : sequence of callable
        Functions of the project, whose features come last.
    """

    bands: Mapping[str, str]
    scaling: Mapping[str, Scaling]
    mask: CloudMask | None
    grid: Grid
    features: Features
    own: Sequence[FeatureFunction] = ()

    @classmethod
    def of(cls, config: ProjectConfig, own: Sequence[FeatureFunction] = ()) -> FeatureRecipe:
        """Take the sections of a project file that count, and the project's own functions."""
        data = config.data
        return cls(
            data.bands, data.scaling, config.cloud_mask, config.grid, config.features, tuple(own)
        )

    @property
    def assets(self) -> list[str]:
        """Keys of bands and mask, each once."""
        mask = [self.mask.asset] if self.mask else []
        return list(dict.fromkeys([*self.bands.values(), *mask]))
