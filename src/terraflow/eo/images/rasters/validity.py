"""Which pixels of a raster are values: the one place that knows all that tells it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.io import DatasetReader
from rasterio.windows import Window

from terraflow.errors import DataError

__all__ = ["Validity", "can_hold", "is_marked", "parse_nodata"]

Mask = npt.NDArray[np.bool_]
Pixels = npt.NDArray[np.generic]
#: Magnitude of a nodata value that stands for "the least number" or a fill value: so large that
#: writers round it, and nothing measured is near.
LARGE = 1e30
#: By so much, relative to them, writers round such values: -3.4e38 is meant as float32's least.
ROUNDING = 2e-3


@dataclass(frozen=True)
class Validity:
    """What tells of a band's pixels that they are no values.

    A pixel is none where anything tells so: a nodata value of the file's band, one that is told
    beside the file, a mask within the file or beside it (.msk), or an alpha band of 0; and where
    it is not finite as float32, in which all is computed. GDAL alone heeds the first of mask,
    nodata and alpha that it finds.

    Attributes
    ----------
    band : int
        Of the file, from 1.
    nodata : tuple of float
        Values that stand for none, in the order in which they were told; each as the type of the
        pixels can hold it.
    left_aside : tuple of float
        Those told that the type can't hold, and which so are those of no pixel.
    alphas : tuple of int
        Numbers of alpha bands.
    masked : bool
        Whether there is a mask beside the pixels.

    References
    ----------
    https://gdal.org/en/stable/development/rfc/rfc15_nodatabitmask.html
    """

    band: int
    nodata: tuple[float, ...]
    left_aside: tuple[float, ...]
    alphas: tuple[int, ...]
    masked: bool

    @classmethod
    def of(cls, file: DatasetReader, band: int, told: Sequence[float | None] = ()) -> Validity:
        """Collect what tells of a band's pixels, in the file and beside it.

        Parameters
        ----------
        band : int
            From 1.
        told : sequence of float or None
            Nodata values that are told elsewhere, as by an item or the configuration; they are
            listed first.

        Raises
        ------
        DataError
            The band is of complex numbers.
        """
        dtype = np.dtype(file.dtypes[band - 1])
        if dtype.kind == "c":
            raise DataError(
                f"Band {band} of {file.name} is of complex numbers; write what is wanted of them, "
                "as their amplitude, to a file of its own."
            )
        values = dict.fromkeys(
            value for value in (*told, file.nodatavals[band - 1]) if value is not None
        )
        meanings = file.colorinterp
        flags = set(file.mask_flag_enums[band - 1])
        return cls(
            band=band,
            nodata=tuple(value for value in values if can_hold(value, dtype)),
            left_aside=tuple(value for value in values if not can_hold(value, dtype)),
            alphas=tuple(
                number
                for number, meaning in enumerate(meanings, start=1)
                if meaning == ColorInterp.alpha and number != band
            ),
            # a band's own mask in a .msk has no flag at all
            masked=not flags & {MaskFlags.all_valid, MaskFlags.alpha}
            and flags != {MaskFlags.nodata},
        )

    @property
    def beside(self) -> bool:
        """Whether anything but a value tells of pixels that they are none."""
        return self.masked or bool(self.alphas)

    def hidden(self, file: DatasetReader, window: Window) -> Mask:
        """Read what a mask or an alpha band hides: bool, shape (y, x) of a window."""
        found = np.zeros((window.height, window.width), bool)
        if self.masked:
            found |= file.read_masks(self.band, window=window) == 0
        for alpha in self.alphas:
            seen = file.read(alpha, window=window)
            found |= ~(seen > 0)  # of floats it may be NaN
        return found

    def missing(self, file: DatasetReader, data: Pixels, window: Window) -> Mask:
        """Tell the pixels of a window that are no values: bool, shape (y, x).

        Parameters
        ----------
        data : ndarray, shape (y, x)
            The band's pixels there, as they are stored.
        """
        found = self.hidden(file, window) | is_marked(data, self.nodata)
        return found | ~_is_finite(data) if data.dtype.kind == "f" else found


def can_hold(value: float, dtype: npt.DTypeLike) -> bool:
    """Tell whether a type can hold a value: -9999 never stands in an unsigned image.

    A value that is rounded up from the greatest float32 is held by that type.
    """
    kind = np.dtype(dtype)
    if kind.kind == "f":
        return not math.isfinite(value) or abs(value) <= float(np.finfo(kind).max) * (1 + ROUNDING)
    if not math.isfinite(value):
        return False
    limits = np.iinfo(kind)  # as floats, which nodata is told as: 2**64 stands for 2**64 - 1
    return float(value).is_integer() and float(limits.min) <= value <= float(limits.max)


def is_marked(data: Pixels, nodata: Sequence[float]) -> Mask:
    """Tell the pixels whose value is one of those that stand for none: bool, shape of `data`.

    Floats are compared as float32, in which writers round values, and very large ones roughly.

    Parameters
    ----------
    data : ndarray
        Stored values.
    nodata : sequence of float
    """
    found = np.zeros(data.shape, bool)
    for value in nodata:
        if not can_hold(value, data.dtype):
            continue
        if data.dtype.kind != "f":
            found |= (data.astype("float64") if data.dtype.itemsize == 8 else data) == value
        elif math.isnan(value):
            found |= np.isnan(data)
        elif LARGE <= abs(value) < math.inf:
            near = np.abs(data.astype("float64") - value) <= ROUNDING * abs(value)
            found |= near
        else:
            with np.errstate(over="ignore"):
                found |= data.astype("float32") == np.float32(value)
    return found


def parse_nodata(text: object, what: str) -> float | None:
    """Read a nodata value as STAC tells it: a number, or "nan", "inf", "-inf"; None for none.

    Parameters
    ----------
    what : str
        Whose it is, as an error begins.

    Raises
    ------
    DataError
        It is something else.

    References
    ----------
    https://github.com/radiantearth/stac-spec/blob/v1.1.0/commons/common-metadata.md#data-values
    """
    if text is None or (isinstance(text, str) and text.strip().lower() in ("", "none", "null")):
        return None
    try:
        if isinstance(text, (int, float, str)):
            return float(text)
    except (ValueError, OverflowError):
        pass
    raise DataError(
        f'{what} tells nodata {text!r}; expected a number, "nan", "inf" or "-inf"; correct it in '
        "the catalogue."
    )


def _is_finite(data: Pixels) -> Mask:
    """Tell what is a number in float32 too: bool, shape of `data`."""
    with np.errstate(over="ignore"):
        finite: Mask = np.isfinite(data.astype("float32"))
    return finite
