from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from terraflow.eo.maps.validated import map_digest
from terraflow.eo.targets.classes.classification import Classification
from terraflow.eo.validation.sample import Sample, draw_sample, read_sample
from terraflow.errors import DataError
from terraflow.storage import Storage

TARGET = Classification()


def known() -> np.ndarray:
    values = np.repeat(np.array([[1] * 30 + [2] * 20 + [3] * 10], "uint8"), 40, axis=0)
    values[0] = 0
    return values


def test_sample_is_of_the_maps_pixels_and_strata(sample: Sample) -> None:
    assert sample.levels == ["forest", "grassland", "water"]
    assert {name: each.pixels for name, each in sample.strata.items()} == {
        "forest": 39 * 30,
        "grassland": 39 * 20,
        "water": 39 * 10,
    }
    assert Counter(point.stratum for point in sample.points) == {
        "forest": 30,
        "grassland": 20,
        "water": 10,
    }
    for point in sample.points:
        assert sample.levels[known()[point.row, point.column] - 1] == point.mapped
        assert point.x == 500_000 + 10 * point.column + 5
        assert point.y == 5_100_000 - 10 * point.row - 5


def test_ids_tell_nothing_of_the_stratum(sample: Sample) -> None:
    assert [point.id for point in sample.points] == list(range(1, 61))
    strata = [point.stratum for point in sample.points]
    changes = sum(a != b for a, b in pairwise(strata))
    assert changes > 20  # in the order of the draw 2


def test_sample_is_the_same_by_seed_and_another_by_another(
    make_map: Callable[..., str], storage: Storage
) -> None:
    uri = make_map()

    def draw(seed: int) -> Sample:
        return draw_sample(uri, TARGET, storage, scores={}, points=60, seed=seed)

    assert draw(3) == draw(3)
    assert draw(3).id != draw(4).id
    assert draw(3).points != draw(4).points


def test_number_of_points_follows_from_the_scores_of_the_run(
    make_map: Callable[..., str], storage: Storage
) -> None:
    good = {f"users_accuracy_{name}": 0.95 for name in ("forest", "grassland", "water")}
    by_scores, without = (
        len(draw_sample(make_map(), TARGET, storage, scores=scores, target_se=0.03).points)
        for scores in (good, {})
    )
    # eq. 13 with S = sqrt(0.95 0.05) and 2340 pixels; and with S = 0.5
    assert by_scores == int(np.ceil(0.0475 / (0.03**2 + 0.0475 / 2340)))
    assert without == int(np.ceil(0.25 / (0.03**2 + 0.25 / 2340)))


def test_strata_by_confidence_tell_what_the_map_says(
    make_map: Callable[..., str], storage: Storage
) -> None:
    drawn = draw_sample(
        make_map(), TARGET, storage, scores={}, points=60, strata_by="classes+confidence"
    )
    assert len(drawn.strata) == 6
    for point in drawn.points:
        assert point.stratum.startswith(f"{point.mapped}, confidence")


def test_read_sample_finds_the_draw_beside_the_points(sample: Sample, tmp_path: Path) -> None:
    points = tmp_path / "anna.gpkg"
    with pytest.raises(DataError, match=r"anna\.gpkg has no anna\.json beside it"):
        read_sample(points)
    (tmp_path / "points.json").write_text(json.dumps(sample.to_dict()))
    assert read_sample(points) == sample
    (tmp_path / "anna.json").write_text("{}")
    with pytest.raises(DataError, match="does not tell how points were drawn"):
        read_sample(points)


def test_digest_is_that_of_the_pixels(make_map: Callable[..., str], storage: Storage) -> None:
    values = known()
    first = map_digest(make_map(values), storage)
    assert first == map_digest(make_map(values, name="copy", version="0.3.0"), storage)
    values[5, 5] = 2
    assert first != map_digest(make_map(values, name="other"), storage)
