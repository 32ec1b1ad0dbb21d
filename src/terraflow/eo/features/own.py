"""A project's own features: called, and held to what was agreed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import xarray as xr

from terraflow.eo.features.recipe import FeatureFunction
from terraflow.errors import ConfigError, TerraFlowError, error_place, first_line

__all__ = ["compute_own", "function_name", "own_names"]

Image = npt.NDArray[np.float32]
#: Pixels of the small cube on which functions are tried before long work: not square, so that
#: swapped axes are seen.
TRIAL_SHAPE = (3, 4)


def function_name(function: object) -> str:
    """Name a function as module:name."""
    module = getattr(function, "__module__", "")
    name = getattr(function, "__qualname__", type(function).__qualname__)
    return f"{module}:{name}"


def compute_own(functions: Sequence[FeatureFunction], cube: xr.Dataset) -> dict[str, Image]:
    """Call a project's feature functions.

    Parameters
    ----------
    functions : sequence of callable
        Each gets the cube, which it can't write to, and returns a dict of name to array of shape
        (y, x), numbers, NaN where nothing can be told.
    cube : Dataset
        Bands, and indices by their names in lower case; dims (time, y, x), float32, NaN where not
        clear.

    Returns
    -------
    dict
        Name to ndarray, shape (y, x), float32, in the order in which they were returned.

    Raises
    ------
    ConfigError
        A function failed, or returned something else; the message names it and what it returned.
    """
    shape = (cube.sizes["y"], cube.sizes["x"])
    found: dict[str, Image] = {}
    for function in functions:
        told = f"Feature function {function_name(function)}"
        try:
            returned = function(_read_only(cube))
        except TerraFlowError:
            raise
        except Exception as error:
            raise ConfigError(
                f"{told} failed with {type(error).__name__}: {first_line(error)}"
                f"{error_place(error)}; it got a cube of {', '.join(map(str, cube.data_vars))} "
                f"with dims {_dims(cube)}; correct it."
            ) from error
        if not hasattr(returned, "items"):
            raise ConfigError(
                f"{told} returned {_describe(returned)}; a dict of name to array of shape (y, x) "
                "is expected; correct it."
            )
        for name, values in returned.items():
            if not isinstance(name, str) or not name:
                raise ConfigError(f"{told} returned the name {name!r}; write a text that names it.")
            if name in found:
                raise ConfigError(
                    f"{told} returned {name}, which another function returned, too; "
                    "give each feature a name of its own."
                )
            found[name] = _checked(values, shape, f"{told} returned {name} as")
    return found


def own_names(
    functions: Sequence[FeatureFunction],
    times: npt.ArrayLike,
    series: Sequence[str],
    taken: Sequence[str],
) -> list[str]:
    """Name the features of functions, by trying them on a few made-up pixels.

    Parameters
    ----------
    times : array-like of datetime64
        Dates of the items.
    series : sequence of str
        Bands and indices.
    taken : sequence of str
        Names of all other features.

    Raises
    ------
    ConfigError
        As `compute_own`; or a name is that of another feature.
    """
    if not functions:
        return []
    dates = np.asarray(times, "datetime64[ns]")
    ramp = np.linspace(0.1, 0.5, len(dates) * int(np.prod(TRIAL_SHAPE)), dtype="float32")
    values = ramp.reshape(len(dates), *TRIAL_SHAPE)
    cube = xr.Dataset(dict.fromkeys(series, (("time", "y", "x"), values)), {"time": dates})
    names = list(compute_own(functions, cube))
    if twice := [name for name in names if name in taken]:
        owner = next(f for f in functions if twice[0] in compute_own([f], cube))
        raise ConfigError(
            f"Feature function {function_name(owner)} returned {twice[0]}, which is the name of "
            "another feature; give it a name of its own."
        )
    return names


def _checked(values: object, shape: tuple[int, int], told: str) -> Image:
    if isinstance(values, xr.DataArray) and set(values.dims) == {"y", "x"}:
        values = values.transpose("y", "x").values
    if isinstance(values, np.ma.MaskedArray):
        values = np.ma.filled(values.astype("float32"), np.nan)
    try:
        array = np.asarray(values)
    except ValueError:
        raise ConfigError(
            f"{told} rows of unequal length; {shape}, the cube's (y, x), is expected; correct it."
        ) from None
    if array.shape != shape:
        raise ConfigError(
            f"{told} an array of shape {array.shape}; {shape}, the cube's (y, x), is expected; "
            "correct it."
        )
    if array.dtype.kind not in "fiub":
        raise ConfigError(
            f"{told} an array of type {array.dtype}; numbers are expected; correct it."
        )
    with np.errstate(over="ignore"):
        found = array.astype("float32")
    found[~np.isfinite(found)] = np.nan
    return found


def _read_only(cube: xr.Dataset) -> xr.Dataset:
    """Give the cube without a copy, so that no function changes what the next one gets."""
    views = {name: values.values.view() for name, values in cube.data_vars.items()}
    for view in views.values():
        view.flags.writeable = False
    return cube.copy(data=views)


def _describe(value: object) -> str:
    shape = getattr(value, "shape", None)
    return f"{type(value).__name__} of shape {tuple(shape)}" if shape else type(value).__name__


def _dims(cube: xr.Dataset) -> str:
    return ", ".join(f"{name} {size}" for name, size in cube.sizes.items())
