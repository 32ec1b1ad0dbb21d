"""Spectral indices by name."""

from __future__ import annotations

from collections.abc import Sequence

import spyndex
import xarray as xr

from terraflow.errors import ConfigError, nearest

__all__ = ["add_indices", "check_indices"]

#: STAC's common name of a band to its letter in spyndex's formulas.
LETTERS = {band.common_name: letter for letter, band in spyndex.bands.items()}
#: Letter to the band that takes its place where its own is not there: Landsat 8 and 9 have their
#: only near infrared under nir08, Sentinel-2 has both.
STAND_INS = {"N": "nir08"}


def check_indices(names: Sequence[str], bands: Sequence[str], constants: dict[str, float]) -> None:
    """See that every index is known and has its bands.

    Parameters
    ----------
    names : sequence of str
        As in spyndex.
    bands : sequence of str
        By STAC's common names: blue, green, red, nir, swir16, ...

    Raises
    ------
    ConfigError
        An index is unknown, or needs a band or constant that is not there.
    """
    for name in names:
        if name not in spyndex.indices:
            raise ConfigError(f"Index {name} is not known; {_nearest(name)}")
        needed = _needs(name)
        have = _letters(bands).keys() | _constants(constants).keys()
        lacking = [letter for letter in needed if letter not in have]
        if lacking:
            common = {letter: band for band, letter in LETTERS.items()}
            missing = ", ".join(common.get(letter, letter) for letter in lacking)
            raise ConfigError(
                f"Index {name} needs {missing}; [data.bands] has {', '.join(bands)}; add the band "
                "under that common name, or a constant to [features.constants]."
            )


def add_indices(
    cube: xr.Dataset, names: Sequence[str], constants: dict[str, float]
) -> dict[str, xr.DataArray]:
    """Compute indices from a cube's bands.

    Parameters
    ----------
    cube : Dataset
        Bands by common names, dims (time, y, x), float32 reflectance 0-1, NaN where not clear.

    Returns
    -------
    dict of str to DataArray
        The bands, then the indices under their names in lower case, float32; NaN where a formula
        divides by zero.

    Raises
    ------
    ConfigError
        An index is unknown, or a band is missing.

    References
    ----------
    Montero et al. 2023, doi:10.1038/s41597-023-02096-0; each formula's own source is in
    `spyndex.indices[name].reference`.
    """
    bands = {str(name): cube[name] for name in cube.data_vars}
    check_indices(names, list(bands), constants)
    values = {letter: bands[name] for letter, name in _letters(list(bands)).items()}
    for name in names:
        params = {k: (values | _constants(constants))[k] for k in _needs(name)}
        index = spyndex.computeIndex(name, params).astype("float32")
        bands[name.lower()] = index.where(abs(index) != float("inf"))
    return bands


def _letters(bands: Sequence[str]) -> dict[str, str]:
    """Name the band of each letter in spyndex's formulas."""
    stand_ins = {letter: name for letter, name in STAND_INS.items() if name in bands}
    return stand_ins | {LETTERS[name]: name for name in bands if name in LETTERS}


def _needs(name: str) -> list[str]:
    return list(spyndex.indices[name].bands)


def _constants(over: dict[str, float]) -> dict[str, float]:
    known = {key: c.default for key, c in spyndex.constants.items() if c.default is not None}
    return known | over


def _nearest(name: str) -> str:
    near = nearest(name, spyndex.indices)
    return f"did you mean {', '.join(near)}?" if near else "spyndex lists what there is."
