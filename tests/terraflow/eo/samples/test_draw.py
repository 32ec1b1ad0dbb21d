from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from odc.geo.xr import xr_coords
from rasterio.windows import Window

from area import TRANSFORM, write_labels
from terraflow.eo.config.labels import Labels
from terraflow.eo.samples.draw import Draw, block_numbers, pixel_numbers, pixel_table
from terraflow.eo.targets.classes.labels.polygons import VectorLabels
from terraflow.eo.targets.classes.labels.read import read_labels
from terraflow.errors import DataError
from terraflow.storage import Storage

GRID = GeoBox((16, 16), TRANSFORM, "EPSG:32633")


def rows(n: int, kind: str) -> pd.DataFrame:
    return pd.DataFrame({"x": np.arange(n, dtype=float), "y": 0.0, "kind": kind})


@given(st.lists(st.integers(0, 200), min_size=1, max_size=6), st.integers(1, 50))
def test_draw_keeps_at_most_the_limit_of_each_stratum(sizes: list[int], limit: int) -> None:
    draw = Draw(limit)
    random = np.random.default_rng(0)
    for size in sizes:
        table = pd.concat([rows(size, "a"), rows(size // 2, "b")])
        draw.add(table, random.random(len(table)), table["kind"].to_numpy(dtype=object))
    found = draw.result()["kind"].value_counts().to_dict()
    assert found.get("a", 0) == min(limit, sum(sizes))
    assert found.get("b", 0) == min(limit, sum(size // 2 for size in sizes))


def test_draw_gives_every_row_the_same_chance() -> None:
    counts = np.zeros(40)
    for seed in range(400):
        draw = Draw(10)
        random = np.random.default_rng(seed)
        for start in range(4):
            draw.add(rows(40, "a")[start::4], random.random(10))
        counts[draw.result()["x"].astype(int)] += 1
    # 400 draws of 10 in 40: 100 expected, standard deviation 8.7
    assert counts.min() > 60
    assert counts.max() < 140


@given(st.integers(0, 40), st.integers(0, 40), st.integers(1, 9), st.integers(1, 9))
def test_pixel_numbers_follow_from_the_place_alone(x: int, y: int, w: int, h: int) -> None:
    whole = pixel_numbers(Window(0, 0, 50, 50), seed=7, purpose=0)
    part = pixel_numbers(Window(x, y, w, h), seed=7, purpose=0)
    assert (part == whole[y : y + h, x : x + w]).all()


def test_pixel_numbers_are_uniform_and_differ_by_seed_and_purpose() -> None:
    window = Window(0, 0, 100, 100)
    found = [
        pixel_numbers(window, seed=seed, purpose=purpose).ravel()
        for seed, purpose in ((0, 0), (0, 1), (1, 0))
    ]
    for numbers in found:
        shares = np.histogram(numbers, bins=10, range=(0, 1))[0] / 10_000
        assert np.abs(shares - 0.1).max() < 0.015  # standard deviation 0.003
    assert np.abs(np.corrcoef(found) - np.eye(3)).max() < 0.05  # standard deviation 0.01


def test_draw_of_other_complete_pixels_has_most_pixels_in_common() -> None:
    numbers = pixel_numbers(Window(0, 0, 100, 1), seed=3, purpose=0).ravel()
    drawn = []
    for complete in (np.arange(100) % 10 != 0, np.arange(100) % 10 != 1):  # 80 of 100 in both
        draw = Draw(20)
        draw.add(rows(100, "a")[complete], numbers[complete])
        drawn.append(set(draw.result()["x"]))
    assert len(drawn[0] & drawn[1]) >= 14


def test_draw_of_all_that_memory_does_not_hold_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = SimpleNamespace(total=100 * 3 * 12)
    monkeypatch.setattr("terraflow.eo.features.limits.size.virtual_memory", lambda: memory)
    some, numbers = rows(60, "a"), np.zeros(60)
    draw = Draw(None)
    draw.add(some, numbers)
    with pytest.raises(
        DataError, match=r"120 labelled pixels .* 4.32 kB .* has 3.6 kB; set .labels"
    ):
        draw.add(some, numbers)
    limited = Draw(10)
    for _ in range(9):
        limited.add(some, numbers)
    assert len(limited.result()) == 10


def test_draw_without_a_row_is_empty() -> None:
    assert len(Draw(5).result()) == 0


def test_pixel_table_takes_complete_pixels_at_their_centres() -> None:
    values = np.arange(2 * 16 * 16, dtype="float32").reshape(2, 16, 16)
    values[1, 0, 1] = np.nan
    values[0, 0, 2] = np.inf
    coords = xr_coords(GRID) | {"feature": ["a", "b"]}
    features = xr.DataArray(values, dims=("feature", "y", "x"), coords=coords)
    chosen = np.zeros((16, 16), bool)
    chosen[0, :4] = True
    table = pixel_table(features, chosen)
    assert table[["x", "y", "a", "b"]].to_numpy().tolist() == [
        [500_005, 5_099_995, 0, 256],
        [500_035, 5_099_995, 3, 259],
    ]
    assert table.index.tolist() == [0, 3]


def blocks(storage: Storage, tmp_path: Path, *, whole: bool) -> tuple[np.ndarray, np.ndarray]:
    path = str(write_labels(tmp_path / "l.gpkg"))  # two polygons of 8 x 16 pixels
    labels = read_labels(path, Labels(field="kind"), GRID, storage)
    assert isinstance(labels, VectorLabels)
    y, x = np.mgrid[:16, :16]
    polygon = labels.burn(GRID)[1].ravel()
    table = pd.DataFrame(
        {"x": 500_005 + 10.0 * x.ravel(), "y": 5_099_995 - 10.0 * y.ravel(), "polygon": polygon}
    )
    return block_numbers(table, labels, GRID, size_px=4, whole_polygons=whole), polygon


def test_block_numbers_are_squares_row_by_row(storage: Storage, tmp_path: Path) -> None:
    found, _ = blocks(storage, tmp_path, whole=False)
    y, x = np.mgrid[:16, :16]
    assert (found.reshape(16, 16) == y // 4 * 4 + x // 4).all()


def test_block_numbers_keep_polygons_whole(storage: Storage, tmp_path: Path) -> None:
    found, polygon = blocks(storage, tmp_path, whole=True)
    west, east = set(found[polygon == polygon[0]]), set(found[polygon != polygon[0]])
    assert len(west) == len(east) == 1
    assert west != east
