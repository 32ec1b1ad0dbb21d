"""Flooded or dry: what this project brings of its own."""

import xarray as xr

from terraflow.eo import Project, percentile, statistic

__all__ = ["PROJECT"]


def fall(cube: xr.Dataset) -> dict:
    """Tell how far VV and VH fall below their median, in dB: water mirrors the pulse away."""
    bands = {name: cube[name].values for name in ("vv", "vh")}
    return {f"{n}_fall": percentile(v, 50) - statistic(v, "min") for n, v in bands.items()}


PROJECT = Project(name="flood", features=(fall,))
