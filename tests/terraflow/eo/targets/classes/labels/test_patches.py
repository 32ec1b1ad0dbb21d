from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from scipy import ndimage

from area import TRANSFORM, write_raster
from terraflow.eo.config.labels import Labels
from terraflow.eo.features import grid
from terraflow.eo.samples.draw import block_numbers
from terraflow.eo.targets.classes.labels import patches as module
from terraflow.eo.targets.classes.labels.patches import find_patches
from terraflow.eo.targets.classes.labels.raster import RasterLabels
from terraflow.eo.targets.classes.labels.read import read_labels
from terraflow.storage import Storage

GRID = GeoBox((48, 64), TRANSFORM, "EPSG:32633")
#: Side of the tiles that patches are found in, so that most lie across edges.
TILE = 16


def parcels() -> np.ndarray:
    """Fields of 5 x 7 pixels with paths between, and one that is larger than makes sense."""
    random = np.random.default_rng(0)
    values = np.zeros(GRID.shape, "uint8")
    for top in range(1, 42, 6):
        for left in range(1, 56, 8):
            values[top : top + 5, left : left + 7] = random.integers(1, 4)
    values[20:40, 30:60] = 3
    return values


@pytest.fixture
def labels(storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RasterLabels:
    monkeypatch.setattr(module, "PATCH_PX", 10)
    monkeypatch.setattr(module, "TILE_PX", TILE)
    write_raster(tmp_path / "classes.tif", parcels(), 0)
    found = read_labels(str(tmp_path / "classes.tif"), Labels(), GRID, storage)
    assert isinstance(found, RasterLabels)
    return found


def table_of(polygons: np.ndarray, chosen: np.ndarray) -> pd.DataFrame:
    rows, columns = np.nonzero(chosen)
    return pd.DataFrame(
        {
            "x": 500_005 + 10.0 * columns,
            "y": 5_099_995 - 10.0 * rows,
            "polygon": polygons[rows, columns],
        }
    )


def test_patches_of_a_raster_are_kept_in_one_block(labels: RasterLabels) -> None:
    numbers, polygons = labels.burn(GRID)
    chosen = ~np.ma.getmaskarray(numbers)
    table = table_of(polygons, chosen)
    blocks = block_numbers(table, labels, GRID, size_px=4, whole_polygons=True)
    fields = sum(ndimage.label(parcels() == value)[1] for value in (1, 2, 3))
    whole = table["polygon"] >= 0
    assert table.loc[whole, "polygon"].nunique() == fields - 1
    assert (pd.Series(blocks)[whole].groupby(table["polygon"]).nunique() == 1).all()
    assert len(set(blocks[~whole])) > 20  # the large one is cut, as before
    assert (~whole).sum() >= 20 * 30


def test_patches_are_the_same_by_windows_as_at_once(labels: RasterLabels) -> None:
    whole = labels.burn(GRID)[1]
    for side in (5, 16, 33):
        for rows, columns in grid.windows(GRID, side):
            part = labels.burn(GRID[rows, columns])[1]
            assert np.array_equal(part, whole[rows, columns])


def test_anchors_lie_within_their_patches(labels: RasterLabels) -> None:
    polygons = labels.burn(GRID)[1]
    columns, rows = ~GRID.affine * labels.anchors().T
    found = polygons[rows.astype(int), columns.astype(int)]
    assert found.tolist() == list(range(len(labels.anchors())))


@hypothesis_settings(max_examples=40)
@given(
    st.integers(0, 10_000),
    st.sampled_from([0.2, 0.5, 0.6, 0.8]),
    st.integers(1, 12),
    st.integers(3, 20),
)
def test_find_patches_is_labelling_the_whole_raster(
    seed: int, share: float, most: int, tile: int
) -> None:
    values = (np.random.default_rng(seed).random((24, 30)) < share).astype("uint8")
    box = GeoBox(values.shape, TRANSFORM, "EPSG:32633")

    def burn(part: GeoBox) -> np.ndarray:
        columns, rows = ~box.affine * (part.affine.c, part.affine.f)
        top, left = round(rows), round(columns)
        return values[top : top + part.height, left : left + part.width]

    found = find_patches(burn, box, patch_px=most, tile_px=tile)
    expected, number = ndimage.label(values)
    for i, place in enumerate(ndimage.find_objects(expected), 1):
        fits = all(side.stop - side.start <= most for side in place)
        expected[place][expected[place] == i] = i if fits else 0
    assert len(found.anchors) == len(np.unique(expected[expected > 0]))
    numbers = found.burn(burn, box)
    assert np.array_equal(numbers >= 0, expected > 0)
    pairs = set(zip(numbers[numbers >= 0], expected[expected > 0], strict=True))
    assert len(pairs) == len(found.anchors) <= number


def test_raster_labels_without_a_patch_that_fits_have_no_anchor(
    storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATCH_PX", 10)
    write_raster(tmp_path / "classes.tif", np.ones(GRID.shape, "uint8"))
    found = read_labels(str(tmp_path / "classes.tif"), Labels(), GRID, storage)
    assert found.anchors().shape == (0, 2)
    assert (found.burn(GRID)[1] == -1).all()
