"""A model applied to features: what a map holds of each pixel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from terraflow.eo.built_in import DEFAULT
from terraflow.eo.models.model import LoadedModel
from terraflow.eo.models.network import Network
from terraflow.eo.models.quality import (
    DTYPE,
    NODATA,
    Quality,
    dissimilarity_values,
    quality_bands,
)
from terraflow.eo.targets.target import Target
from terraflow.errors import DataError

__all__ = ["apply_model", "apply_with_quality", "check_features"]

#: Pixels that a model is asked for at once: bounds the memory of its tables. Fewer keep a
#: network's values in the processor's cache; a forest would have to fetch its trees more often.
CHUNK_PX, NETWORK_CHUNK_PX = 65536, 16384
Sizes = npt.NDArray[Any]


def apply_model(model: LoadedModel, features: xr.DataArray) -> npt.NDArray[Any]:
    """Predict pixels as `apply_with_quality` does, and return their values alone."""
    return apply_with_quality(model, features, None)[0]


def apply_with_quality(
    model: LoadedModel, features: xr.DataArray, clear: npt.NDArray[np.uint16] | None
) -> tuple[npt.NDArray[Any], Quality | None]:
    """Predict the pixels whose features are all there, as a map has them.

    Parameters
    ----------
    features : DataArray, shape (feature, y, x), float32, NaN nodata
        In the order of the model's features.
    clear : ndarray, shape (y, x), uint16, or None
        Clear observations of each pixel; without them nothing is told of the quality.

    Returns
    -------
    values : ndarray, shape (band, y, x)
        Bands and nodata as `Target.bands` describes them; of the target's dtype.
    quality : ndarray, shape (band, y, x), uint16, or None
        Bands and nodata as `quality_bands` describes them.
    """
    flat = features.values.reshape(features.shape[0], -1)
    valid = np.flatnonzero(np.isfinite(flat).all(axis=0))
    bands = model.target.bands(model.info.levels, model.config.map)
    result = np.empty((len(bands), flat.shape[1]), dtype=model.target.dtype)
    for row, band in zip(result, bands, strict=True):
        row[:] = band.nodata
    quality = None
    if clear is not None:
        quality = np.full((len(quality_bands(model)), flat.shape[1]), NODATA, DTYPE)
        quality[0] = clear.ravel()
    predict, chunk_px = _predictor(model, sets=quality is not None)
    for first in range(0, len(valid), chunk_px):
        pixels = valid[first : first + chunk_px]
        part = flat[:, pixels]
        result[:, pixels], sizes = predict(part)
        if quality is not None:
            further = dissimilarity_values(model, part)
            quality[1:, pixels] = further if sizes is None else np.vstack([sizes[None], further])
    shape = features.shape[1:]
    told = None if quality is None else quality.reshape(len(quality), *shape)
    return result.reshape(len(bands), *shape), told


def check_features(names: Sequence[str], model: LoadedModel) -> None:
    """Check that items give the features of a model, in its order.

    Raises
    ------
    DataError
        They do not; the message names what is missing and what is too much.
    """
    missing = [name for name in model.info.features if name not in names]
    extra = [name for name in names if name not in model.info.features]
    if not missing and not extra and list(names) == model.info.features:
        return
    differences = [
        f"{what} {', '.join(some[:5])}{' ...' if len(some) > 5 else ''} ({len(some)})"
        for what, some in (("missing are", missing), ("too many are", extra))
        if some
    ]
    raise DataError(
        f"The items do not give the {len(model.info.features)} features that model {model.uri} was "
        f"trained with: {'; '.join(differences) or 'their order differs'}; take a model trained "
        "with these bands and [features], or train one."
    )


def _predictor(
    model: LoadedModel, *, sets: bool
) -> tuple[Callable[[npt.NDArray[np.float32]], tuple[npt.NDArray[Any], Sizes | None]], int]:
    """Give what predicts (feature, pixel) as (band, pixel) and sizes of sets, and its chunk."""
    target, levels, known = model.target, model.info.levels, model.info.calibration
    if (
        isinstance(target, DEFAULT)
        and _takes_decisions(target)
        and (network := Network.of(model.estimator))
    ):
        # an estimator has levels in the order of texts, and codes are in that of numbers
        order = pd.Index(levels).get_indexer(model.estimator.classes_)

        def decide(pixels: npt.NDArray[np.float32]) -> tuple[npt.NDArray[Any], Sizes | None]:
            bound = known.set_probability if sets else None
            number, probability, sizes = network.decide_in_sets(pixels, bound)
            return target.encode_decided(order[number], known.apply(probability)), sizes

        return decide, NETWORK_CHUNK_PX

    def predict(pixels: npt.NDArray[np.float32]) -> tuple[npt.NDArray[Any], Sizes | None]:
        table = pd.DataFrame(np.ascontiguousarray(pixels.T), columns=model.info.features)
        predictions = target.predict(model.estimator, table, levels)
        sizes = target.set_sizes(predictions, known) if sets else None
        return target.encode_sure(predictions, known), sizes

    return predict, CHUNK_PX


def _takes_decisions(target: Target) -> bool:
    """Tell whether a map holds no more than a decision and its probability, as the default's."""
    mine, names = (
        type(target),
        ("predict", "encode", "encode_sure", "encode_decided", "set_sizes"),
    )
    return all(getattr(mine, name, None) is getattr(DEFAULT, name) for name in names)
