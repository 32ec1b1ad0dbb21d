"""A probability sample of a map: what was drawn, kept apart from what an interpreter sees."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from terraflow.eo.config.digests import value_digest
from terraflow.eo.config.record import Record
from terraflow.eo.maps.map_file import MapInfo, open_map, read_info
from terraflow.eo.maps.validated import map_digest
from terraflow.eo.targets.area.design import Stratum
from terraflow.eo.targets.area.means import overall_spread
from terraflow.eo.targets.area.pixel_areas import PixelAreas
from terraflow.eo.targets.area.strata import draw_pixels, part_map, part_numbers
from terraflow.eo.targets.target import Target
from terraflow.eo.validation.size import allocate, points_needed
from terraflow.errors import ConfigError, DataError
from terraflow.storage import Storage

__all__ = ["Drawn", "Sample", "draw_sample", "read_sample"]

TARGET_SE = 0.01
#: Of a mean of numbers: in standard deviations of the reference over the whole map.
TARGET_SE_OF_SPREAD = 0.05


class Drawn(Record):
    """A point of a sample.

    Attributes
    ----------
    id : int
        From 1, in random order, so that it tells nothing of the stratum.
    row, column : int
        In the map.
    x, y : float
        Centre of the pixel in the map's CRS.
    stratum : str
    mapped : str or float
        What the map says there: a name, or a number in the map's unit.
    """

    id: int
    row: int
    column: int
    x: float
    y: float
    stratum: str
    mapped: str | float


class Sample(Record):
    """A probability sample of a map.

    Attributes
    ----------
    id : str
        Digest of what was drawn.
    map, map_digest, run_id : str
        URI of the map, digest of its pixels and run of its model.
    crs : str
        Of the map, as WKT.
    pixel_size : float
        Side of a pixel in units of the CRS.
    seed : int
    allocation, strata_by : str
    levels : list of str
        What a reference value may be; none where it is a number.
    strata : dict
        All strata of the map by name.
    points : list of Drawn
    """

    id: str
    map: str
    map_digest: str
    run_id: str
    crs: str
    pixel_size: float
    seed: int
    allocation: str
    strata_by: str
    levels: list[str]
    strata: dict[str, Stratum]
    points: list[Drawn]


def draw_sample(
    map_uri: str,
    target: Target,
    storage: Storage,
    *,
    scores: dict[str, float],
    points: int | None = None,
    target_se: float | None = None,
    allocation: str = "",
    strata_by: str = "",
    seed: int = 0,
) -> Sample:
    """Draw a stratified random sample of a map's pixels: the same for the same map and seed.

    Parameters
    ----------
    scores : dict
        Measures of the map's run, from which the spread of each stratum is expected.
    points : int, optional
        By default so many that the overall accuracy, or the mean of the reference where the map
        holds numbers, has the standard error `target_se`.
    target_se : float, optional
        0.01 by default; of numbers, in the map's unit, 0.05 of the standard deviation that the
        target expects of the reference over the whole map.
    allocation, strata_by : str
        As in `size.allocate`, and `strata.part_map` or `part_numbers`; "" takes their defaults.

    Raises
    ------
    DataError
        The file is no map, or has no pixel with a value.
    ConfigError
        An option is wrong, or nothing tells how many points are needed.
    """
    info = read_info(map_uri, storage)
    names = dict(info.bands[0].names)
    rows, columns = info.shape
    areas = PixelAreas(info.crs, info.transform, (rows, columns))
    with open_map(map_uri, storage) as file:
        values = file.read(1)
        confidence = file.read(2) if names and file.count > 1 else None
        scale = file.scales[0]
    if names:
        numbers, strata = part_map(values, confidence, names, areas, by=strata_by)
    else:
        known = info.bands[0].is_valid(values)
        values = np.where(known, scale * values.astype("float64"), np.nan)
        numbers, strata = part_numbers(values, areas, by=strata_by)
    spread = target.spreads(scores, strata)
    sizes = np.array([each.pixels for each in strata.values()])
    shares = np.array([each.area_m2 for each in strata.values()])
    shares /= shares.sum()
    spreads = np.array([spread[name] for name in strata])
    least = int(np.minimum(2, sizes).sum())
    if points is None:
        most = 1 if names else math.inf
        if target_se is None:
            target_se = TARGET_SE if names else _target_se(strata, spread)
        needed = points_needed(shares, spreads, target_se, int(sizes.sum()), most=most)
        points = max(least, needed)
    counts = allocate(points, sizes, shares, spreads, allocation or "proportional")
    places = draw_pixels(numbers, counts.tolist(), areas, seed)
    drawn = _points(info, values, strata, places, seed)
    digest = map_digest(map_uri, storage)
    return Sample(
        id=value_digest([digest, [[p.row, p.column, p.stratum] for p in drawn], seed])[:12],
        map=map_uri,
        map_digest=digest,
        run_id=info.origin.run_id,
        crs=info.crs.to_wkt(),
        pixel_size=float(np.sqrt(abs(info.transform.determinant))),
        seed=seed,
        allocation=allocation or "proportional",
        strata_by=strata_by,
        levels=list(names.values()),
        strata=strata,
        points=drawn,
    )


def _target_se(strata: Mapping[str, Stratum], spread: Mapping[str, float]) -> float:
    """Give the standard error that the mean of numbers is to have, in the map's unit."""
    expected = {
        name: each.model_copy(update={"spread": spread[name]}) for name, each in strata.items()
    }
    overall = overall_spread(expected)
    if not overall:
        raise ConfigError(
            "The map holds one number alone and the RMSE of its run is not known, so that nothing "
            "tells how many points are needed; give their number by --points."
        )
    return TARGET_SE_OF_SPREAD * overall


def _points(
    info: MapInfo,
    values: npt.NDArray[Any],
    strata: Mapping[str, Stratum],
    places: Sequence[npt.NDArray[np.int64]],
    seed: int,
) -> list[Drawn]:
    """Give the drawn pixels numbers in random order."""
    found = [
        (int(row), int(column), name)
        for name, drawn in zip(strata, places, strict=True)
        for row, column in drawn
    ]
    points = []
    order = np.random.default_rng([seed, 1]).permutation(len(found))
    for number, (row, column, name) in enumerate((found[i] for i in order), 1):
        x, y = info.transform * (column + 0.5, row + 0.5)
        mapped = strata[name].level or float(values[row, column])
        place = {"row": row, "column": column, "x": x, "y": y}
        points.append(Drawn(id=number, **place, stratum=name, mapped=mapped))
    return points


def read_sample(points: Path) -> Sample:
    """Read what was drawn with points: of the same name, or points.json in their folder.

    Raises
    ------
    DataError
        It is not there, or is none.
    """
    beside = [points.with_suffix(".json"), points.with_name("points.json")]
    path = next((path for path in beside if path.exists()), None)
    if path is None:
        raise DataError(
            f"{points} has no {beside[0].name} beside it, which tells how its points were drawn; "
            "put the file there that `validate draw` wrote."
        )
    try:
        return Sample.model_validate(json.loads(path.read_text("utf-8")))
    except ValueError as error:
        raise DataError(
            f"{path} does not tell how points were drawn: {str(error).splitlines()[0]}; take the "
            "file that `validate draw` wrote."
        ) from error
