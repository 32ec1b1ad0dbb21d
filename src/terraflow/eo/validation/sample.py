"""A probability sample of a map: what was drawn, kept apart from what an interpreter sees."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from terraflow.eo.config.digests import value_digest
from terraflow.eo.config.record import Record
from terraflow.eo.maps.map_file import MapInfo, open_map, read_info
from terraflow.eo.maps.validated import map_digest
from terraflow.eo.targets.area.design import Stratum
from terraflow.eo.targets.area.pixel_areas import PixelAreas
from terraflow.eo.targets.area.strata import draw_pixels, part_map
from terraflow.eo.targets.target import Target
from terraflow.eo.validation.size import allocate, points_needed
from terraflow.errors import DataError
from terraflow.storage import Storage

__all__ = ["Drawn", "Sample", "draw_sample", "read_sample"]

TARGET_SE = 0.01


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
    mapped : str
        What the map says there.
    """

    id: int
    row: int
    column: int
    x: float
    y: float
    stratum: str
    mapped: str


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
        What a reference value may be.
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
        By default so many that the overall accuracy has the standard error `target_se`.
    target_se : float, optional
        0.01 by default.
    allocation, strata_by : str
        As in `size.allocate` and `strata.part_map`; "" takes their defaults.

    Raises
    ------
    DataError
        The file is no map, or its values have no names.
    ConfigError
        An option is wrong.
    """
    info = read_info(map_uri, storage)
    names = dict(info.bands[0].names)
    if not names:
        raise DataError(
            f"{map_uri} holds numbers, and areas by a sample are of maps whose values have names; "
            "take another map."
        )
    with open_map(map_uri, storage) as file:
        values = file.read(1)
        confidence = file.read(2) if file.count > 1 else None
    rows, columns = info.shape
    areas = PixelAreas(info.crs, info.transform, (rows, columns))
    numbers, strata = part_map(values, confidence, names, areas, by=strata_by)
    levels = list(names.values())
    spread = target.spreads(scores, levels)
    sizes = np.array([each.pixels for each in strata.values()])
    shares = np.array([each.area_m2 for each in strata.values()])
    shares /= shares.sum()
    spreads = np.array([spread[each.level] for each in strata.values()])
    least = int(np.minimum(2, sizes).sum())
    if points is None:
        needed = points_needed(shares, spreads, target_se or TARGET_SE, int(sizes.sum()))
        points = max(least, needed)
    counts = allocate(points, sizes, shares, spreads, allocation or "proportional")
    places = draw_pixels(numbers, counts.tolist(), areas, seed)
    drawn = _points(info, strata, places, seed)
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
        levels=levels,
        strata=strata,
        points=drawn,
    )


def _points(
    info: MapInfo, strata: Mapping[str, Stratum], places: Sequence[npt.NDArray[np.int64]], seed: int
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
        told = {"stratum": name, "mapped": strata[name].level}
        points.append(Drawn(id=number, row=row, column=column, x=x, y=y, **told))
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
