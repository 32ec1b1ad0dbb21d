"""Spectral indices by name."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from itertools import product

import numpy as np
import spyndex
import xarray as xr

from terraflow.errors import ConfigError, nearest

__all__ = ["add_indices", "check_indices", "index_range"]

Range = tuple[float, float]

#: STAC's common name of a band to its letter in spyndex's formulas.
LETTERS = {band.common_name: letter for letter, band in spyndex.bands.items()}
#: Least reflectance an index sees. An offset makes dark surfaces zero or negative, where quotients
#: have poles; Sentinel-2's uncertainty, 0.005 plus 5 %, is well above it.
DARKEST = 0.001
#: Of temperature; other bands are reflectances.
THERMAL = frozenset({"T", "T1", "T2"})
NORMALISED: Range = (-1.0, 1.0)
#: Indices that are meant to lie between -1 and 1, as normalised differences do, though mixed terms
#: give their denominators a zero.
MEANT_NORMALISED = frozenset(
    {
        *("EVI", "EVIv", "GARI", "GEMI", "GRARI", "IAVI", "IBI", "NDDI", "NMDI", "VARI", "VARI700"),
        *("VIBI", "mND705"),
    }
)
#: A formula has a pole where its extremes are so many times the tails of what surfaces give.
POLE = 3
TAILS = (0.005, 0.995)
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
        An index is unknown, needs a band or constant that is not there, or has the name of a band
        or of another index in lower case.
    """
    features: dict[str, str] = {}
    for name in names:
        if (feature := name.lower()) in map(str.lower, bands):
            raise ConfigError(
                f"Index {name} would have the name of the band {feature}; rename the band in "
                "[data.bands]."
            )
        if feature in features:
            raise ConfigError(
                f"Indices {features[feature]} and {name} would both be the feature {feature}; take "
                "one of them."
            )
        features[feature] = name
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
        The bands as they are, then the indices under their names in lower case, float32, of
        reflectances of at least 0.001; NaN where one lies outside its `index_range`.

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
    values = _constants(constants) | {
        letter: bands[name] if letter in THERMAL else bands[name].clip(min=DARKEST)
        for letter, name in _letters(list(bands)).items()
    }
    for name in names:
        with np.errstate(all="ignore"):  # a quotient has poles, whose values are none
            found = spyndex.computeIndex(name, {k: values[k] for k in _needs(name)})
            index = found.astype("float32")
        low, high = index_range(name, constants)
        bands[name.lower()] = index.where((index >= low) & (index <= high) & np.isfinite(index))
    return bands


def index_range(name: str, constants: dict[str, float]) -> Range:
    """Give the least and the greatest value of an index that a surface can have.

    An index that reflectances of 0.001 to 1 can't lead out of -1 to 1, as a normalised difference,
    has this range, and so have those that are meant to, as EVI. Any other has what reflectances
    lead to; where its formula has a pole, as a ratio has, that is between the 0.5th and 99.5th
    percentile over reflectances of 0.01 to 1, as many of each magnitude.

    Parameters
    ----------
    name : str
        As in spyndex.
    constants : dict
        That override spyndex's.

    Returns
    -------
    tuple of float
        Unbounded for an index of temperatures.

    References
    ----------
    Huete et al. 2002, doi:10.1016/S0034-4257(02)00096-2 (EVI); Gitelson et al. 2002,
    doi:10.1016/S0034-4257(01)00289-9 (VARI); Pinty & Verstraete 1992, doi:10.1007/BF00031911
    (GEMI); Xu 2008, doi:10.1080/01431160802039957 (IBI).
    """
    return _range(name, tuple(sorted(constants.items())))


@cache
def _range(name: str, constants: tuple[tuple[str, float], ...]) -> Range:
    needed, known = _needs(name), _constants(dict(constants))
    bands = [letter for letter in needed if letter in spyndex.bands]
    if THERMAL & set(needed):
        return -math.inf, math.inf
    if name in MEANT_NORMALISED:
        return NORMALISED
    usual = np.exp(np.random.default_rng(0).uniform(math.log(0.01), 0, (20_000, len(bands))))
    corners = np.array(list(product((DARKEST, 1.0), repeat=len(bands))))
    params = {k: known[k] for k in needed if k in known}
    with np.errstate(all="ignore"):
        inner, outer = (
            np.asarray(
                spyndex.computeIndex(name, params | dict(zip(bands, values.T, strict=True))), float
            )
            for values in (usual, np.concatenate([usual, corners]))
        )
    outer = outer[np.isfinite(outer)]
    low, high = (float(q) for q in np.nanquantile(inner, TAILS))
    least, greatest = float(outer.min()), float(outer.max())
    if least >= NORMALISED[0] and greatest <= NORMALISED[1]:
        return NORMALISED
    if max(-least, greatest) > POLE * max(-low, high):
        return low, high
    return least, greatest


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
