"""What a probability sample told of a map: a record beside the map, found by the map's URI."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from terraflow.eo.config.record import Record
from terraflow.eo.maps.map_file import BLOCK_PX, open_map, read_info
from terraflow.errors import DataError
from terraflow.storage import Storage

__all__ = ["Validation", "find_validation", "map_digest", "validation_uri", "write_validation"]


class Validation(Record):
    """What a probability sample told of a map.

    Attributes
    ----------
    map, map_digest : str
        URI of the map, and digest of its pixels.
    sample_id : str
        Of the draw.
    seed : int
        Of the draw.
    points, left_out : int
        With a reference value, and without one.
    interpreters : list of str
    kappa : dict
        "A, B" of two interpreters to Cohen's kappa; None where it is not defined.
    mean_absolute_difference : dict
        The same of interpreters of numbers, in the map's unit; None where there is none.
    disagreements : int
        Points on which interpreters differ.
    strata : dict
        Name to pixels, area_m2 and points.
    estimates : dict
        As `Target.estimate` gives them.
    """

    map: str
    map_digest: str
    sample_id: str
    seed: int
    points: int
    left_out: int = 0
    interpreters: list[str] = []
    kappa: dict[str, float | None] = {}
    mean_absolute_difference: dict[str, float | None] = {}
    disagreements: int = 0
    strata: dict[str, dict[str, Any]] = {}
    estimates: dict[str, Any]


def map_digest(uri: str, storage: Storage) -> str:
    """Digest a map's pixels, their names, its grid and its CRS: the same for a copy of the map.

    Raises
    ------
    DataError
        It is no map that TerraFlow made, or can't be read.
    """
    info = read_info(uri, storage)
    names = sorted(info.bands[0].names.items())
    told = [info.crs.to_wkt() if info.crs else "", list(info.transform)[:6], info.shape, names]
    digest = hashlib.sha256(json.dumps(told).encode())
    with open_map(uri, storage) as file:
        for top in range(0, file.height, BLOCK_PX):
            rows = min(BLOCK_PX, file.height - top)
            digest.update(file.read(1, window=((top, top + rows), (0, file.width))).tobytes())
    return digest.hexdigest()[:16]


def validation_uri(map_uri: str, ending: str = "json") -> str:
    """Give the URI beside a map at which what was told of it lies."""
    return f"{map_uri.removesuffix('.tif')}_validation.{ending}"


def write_validation(validation: Validation, storage: Storage) -> str:
    """Write it beside its map; give the URI."""
    document = json.dumps(validation.to_dict(), indent=2).encode()
    return storage.write(validation_uri(validation.map), document)


def find_validation(map_uri: str, storage: Storage) -> tuple[Validation | None, str]:
    """Find what a probability sample told of this very map.

    Returns
    -------
    Validation or None
    str
        Why what lies beside the map is not taken, or "".

    Raises
    ------
    DataError
        What lies there is none.
    """
    uri = validation_uri(map_uri)
    if not storage.exists(uri):
        return None, ""
    try:
        found = Validation.model_validate_json(storage.read(uri))
    except ValueError as error:
        raise DataError(
            f"{uri} is no validation of a map: {str(error).splitlines()[0]}; remove it, and read "
            "the points again."
        ) from error
    if (digest := map_digest(map_uri, storage)) != found.map_digest:
        return None, (
            f"The sample of {uri} was drawn from a map with the digest {found.map_digest}, and "
            f"this one has {digest}: its points tell nothing of this map."
        )
    return found, ""
