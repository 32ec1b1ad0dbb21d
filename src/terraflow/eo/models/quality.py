"""What is known of each pixel beside its value: the bands of a map's quality file."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from terraflow.eo.models.model import LoadedModel
from terraflow.eo.targets.calibration import SHARE
from terraflow.eo.targets.parts import Band

__all__ = ["DTYPE", "NODATA", "Quality", "dissimilarity_values", "quality_bands"]

DTYPE, NODATA = "uint16", 65535
#: Of the dissimilarity index in the file; what is beyond its range is the greatest value.
SCALE = 0.01

Quality = npt.NDArray[np.uint16]


def quality_bands(model: LoadedModel) -> list[Band]:
    """Describe the bands, of which a model without held-out predictions has the first alone."""
    bands = [
        Band("clear_observations", "Clear observations of the pixel", nodata=NODATA),
    ]
    if model.info.calibration.set_probability is not None:
        bands.append(
            Band(
                "set_size",
                f"Values that may be the true one, which is among them with {SHARE:.0%}",
                nodata=NODATA,
            )
        )
    if model.applicability:
        bands += [
            Band(
                "dissimilarity",
                "Distance to the training samples, in mean distances between these",
                nodata=NODATA,
                scale=SCALE,
            ),
            Band(
                "applicable",
                "1 inside the area of applicability, 0 outside",
                nodata=NODATA,
            ),
        ]
    return bands


def dissimilarity_values(model: LoadedModel, pixels: npt.NDArray[np.float32]) -> Quality:
    """Give the bands dissimilarity and applicable of pixels (feature, pixel): (2, pixel)."""
    if model.applicability is None:
        return np.empty((0, pixels.shape[1]), DTYPE)
    index = model.applicability.dissimilarity(pixels)
    inside = index <= model.applicability.threshold
    scaled = np.minimum(np.rint(index / np.float32(SCALE)), NODATA - 1)
    values: Quality = np.stack([scaled, inside]).astype(DTYPE)
    return values
