"""How large a grid and its pixels may be, and how long a map of it takes."""

from __future__ import annotations

import math

from psutil import virtual_memory

from terraflow.disks.space import size_text
from terraflow.errors import ConfigError, DataError

__all__ = [
    "MOST_COVERED_PX",
    "MOST_PX",
    "check_covered",
    "check_memory",
    "check_size",
    "duration_text",
]

#: Most pixels of a grid: nearly all land of the Earth at 10 m.
MOST_PX = 10**12
#: GDAL counts rows and columns in 32 bits.
MOST_PX_SIDE = 2**31 - 1
#: Most pixels of an image in one of a grid, which are read together: 5000 x 5000.
MOST_COVERED_PX = 25_000_000
#: Of a map by the fastest model, the small network, on two cores (benchmarks/results.json).
PX_PER_S = 5e6


def check_size(shape: tuple[int, int], step: float, of: str, *, configured: bool) -> None:
    """See before any work that a grid is not too large for it.

    Parameters
    ----------
    shape : tuple of int
        Rows, columns.
    step : float
        Side of a pixel.
    of : str
        Its unit, and the CRS.
    configured : bool
        Whether the side is that of [grid], and not the images' own.

    Raises
    ------
    ConfigError
        It is.
    """
    pixels = math.prod(shape)
    if pixels <= MOST_PX and max(shape) <= MOST_PX_SIDE:
        return
    least = step * max(math.sqrt(pixels / MOST_PX), max(shape) / MOST_PX_SIDE)
    digits = 10 ** (math.floor(math.log10(least)) - 1)
    what = "configured in [grid]" if configured else "of the images' own resolution"
    raise ConfigError(
        f"Pixels of {step:g} {of}, {what}, would make a grid of {shape[0]:.4g} x {shape[1]:.4g}: "
        f"{pixels:.2g} pixels, {size_text(4 * pixels)} for each band, and at least "
        f"{duration_text(pixels)} of work for each map; at most {MOST_PX:.0e} pixels fit: set "
        f"[grid] resolution to {math.ceil(least / digits) * digits:g} or more, or take images of a "
        "smaller area."
    )


def check_covered(step: float, of: str, area: float, image_area: float) -> None:
    """See that a pixel of a grid does not cover more of an image than is read at once.

    Parameters
    ----------
    step : float
        Side of the pixel.
    of : str
        Its unit, and the CRS.
    area, image_area : float
        Of a pixel of the grid and of the image, in one unit; NaN beyond the Earth.

    Raises
    ------
    ConfigError
        It does, or reaches beyond the Earth.
    """
    if not area <= MOST_COVERED_PX * image_area:
        raise ConfigError(
            f"[grid] resolution {step:g} is {step:g} {of}: such a pixel covers more than "
            f"{MOST_COVERED_PX:.2g} pixels of an image, and is too large to be worked on; set a "
            "smaller one."
        )


def check_memory(size: int, what: str, remedy: str) -> None:
    """See that this machine's memory holds so many bytes.

    Raises
    ------
    DataError
        It does not.
    """
    memory = virtual_memory().total
    if size > memory:
        raise DataError(
            f"{what} needs {size_text(size)} of memory, and this machine has {size_text(memory)}; "
            f"{remedy}."
        )


def duration_text(pixels: float) -> str:
    """Tell for people how long the fastest map of so many pixels takes, such as "3 days"."""
    seconds = pixels / PX_PER_S
    for unit, length in (("years", 365 * 86400), ("days", 86400), ("hours", 3600)):
        if seconds >= length:
            return f"{seconds / length:.2g} {unit}"
    return f"{seconds / 60:.2g} minutes" if seconds >= 120 else "some seconds"
