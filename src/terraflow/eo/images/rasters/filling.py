"""One nodata value for all pixels of a raster that are none, whatever tells so."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from rasterio.io import DatasetReader
from rasterio.windows import Window

from terraflow.eo.images.rasters.validity import Validity

__all__ = ["Filling"]

#: Type that holds what another does, and a value more: of 64 bits, integers up to 2**53.
WIDER = {
    "uint8": "int16",
    "int8": "int16",
    "uint16": "int32",
    "int16": "int32",
    "uint32": "float64",
    "int32": "float64",
    "uint64": "float64",
    "int64": "float64",
}


@dataclass(frozen=True)
class Filling:
    """How a copy of a band tells which of its pixels are no values.

    Attributes
    ----------
    validity : Validity
        What tells so in the source.
    codes : bool
        Whether values that are nodata stay what they are, and only what a mask or an alpha band
        hides is filled: codes of a cloud mask, whose rule may count them.
    dtype : numpy.dtype
        Type of the copy.
    nodata : float or None
        Of the copy, where it needs one: NaN of floats; of integers the first value that is told,
        or else one of a wider type, the least integer or NaN.
    """

    validity: Validity
    codes: bool
    dtype: np.dtype[Any]
    nodata: float | None

    @classmethod
    def of(cls, file: DatasetReader, validity: Validity, *, codes: bool) -> Self:
        """Choose type and nodata of a copy."""
        dtype = np.dtype(file.dtypes[validity.band - 1])
        if dtype.kind == "f" or dtype.itemsize == 8:  # what reads copies takes no int64 with nodata
            return cls(validity, codes, np.dtype(WIDER.get(dtype.name, dtype)), math.nan)
        if validity.nodata and not codes:
            return cls(validity, codes, dtype, validity.nodata[0])
        if not validity.beside:
            return cls(validity, codes, dtype, None)
        wider = np.dtype(WIDER[dtype.name])
        least = math.nan if wider.kind == "f" else int(np.iinfo(wider).min)
        return cls(validity, codes, wider, least)

    def read(self, file: DatasetReader, window: Window) -> npt.NDArray[np.generic]:
        """Read the band's pixels as a copy holds them: shape (y, x) of the window."""
        data: npt.NDArray[Any] = file.read(self.validity.band, window=window)
        if self.codes:
            missing = self.validity.hidden(file, window)
        else:
            missing = self.validity.missing(file, data, window)
        filled = data.astype(self.dtype)
        if self.nodata is not None:
            filled[missing] = self.nodata
        return filled
