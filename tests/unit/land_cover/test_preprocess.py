from __future__ import annotations

from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from area import TRANSFORM, Area, make_project, write_labels
from land_cover.ingest import ingest
from land_cover.preprocess import compute_features, fill_gaps, preprocess, read_features
from terraflow.errors import DataError
from terraflow.storage import Storage

ONES = np.ones((16, 16), "uint8")


def cube(values: list[float], days: list[str]) -> xr.Dataset:
    """Give every pixel the same time series."""
    from odc.geo.geobox import GeoBox
    from odc.geo.xr import xr_coords

    geobox = GeoBox((2, 3), TRANSFORM, "EPSG:32633")
    data = np.broadcast_to(np.array(values, "float32")[:, None, None], (len(values), 2, 3))
    coords = xr_coords(geobox) | {"time": pd.to_datetime(days)}
    return xr.Dataset({"red": xr.DataArray(data, dims=("time", "y", "x"), coords=coords)})


@given(
    hnp.arrays(
        "float32",
        st.tuples(st.integers(1, 8), st.just(3)),
        elements=st.one_of(st.just(np.nan), st.floats(-1, 1, width=32)),
    )
)
def test_fill_gaps_is_linear_interpolation_with_the_nearest_at_the_ends(
    values: np.ndarray,
) -> None:
    filled = fill_gaps(xr.DataArray(values, dims=("period", "pixel"))).values
    for pixel in range(3):
        known = np.flatnonzero(np.isfinite(values[:, pixel]))
        if len(known):
            expected = np.interp(np.arange(len(values)), known, values[known, pixel])
            np.testing.assert_allclose(filled[:, pixel], expected, atol=1e-5)
        else:
            assert np.isnan(filled[:, pixel]).all()


def test_compute_features_by_hand() -> None:
    data = cube([0.1, 0.3, 0.2, 0.6], ["2024-04-01", "2024-04-11", "2024-04-21", "2024-06-01"])
    features = compute_features(data, make_project())
    assert list(features.feature.values) == [
        "red_2024-04", "red_2024-05", "red_2024-06", "red_max", "red_std",
    ]  # fmt: skip
    pixel = features.values[:, 1, 2]
    np.testing.assert_allclose(pixel, [0.2, 0.4, 0.6, 0.6, np.std([0.1, 0.3, 0.2, 0.6])], rtol=1e-5)
    assert features.dtype == "float32"
    assert features.odc.geobox == data.odc.geobox


def test_compute_features_month_of_year_joins_the_years() -> None:
    data = cube([0.1, 0.3], ["2023-04-01", "2024-04-01"])
    project = make_project(features={"composites": "month_of_year"})
    features = compute_features(data, project)
    assert list(features.feature.values) == ["red_04", "red_max", "red_std"]
    np.testing.assert_allclose(features.values[0], 0.2, rtol=1e-5)


def test_compute_features_month_of_year_keeps_the_distance_of_missing_months() -> None:
    data = cube([0.0, 0.8], ["2024-04-01", "2024-08-01"])
    project = make_project(features={"composites": "month_of_year"})
    features = compute_features(data, project)
    assert list(features.feature.values)[:5] == [f"red_0{month}" for month in range(4, 9)]
    np.testing.assert_allclose(features.values[:5, 0, 0], [0, 0.2, 0.4, 0.6, 0.8], atol=1e-6)


def test_compute_features_all_cloudy_is_refused() -> None:
    with pytest.raises(DataError, match="None of the 2 x 3 pixels is clear on any of the 1 dates"):
        compute_features(cube([np.nan], ["2024-04-01"]), make_project())


def test_compute_features_index_without_its_band_is_refused() -> None:
    project = make_project(features={"indices": ["ndvi"]})
    with pytest.raises(DataError, match="ndvi needs the bands nir and red"):
        compute_features(cube([0.1], ["2024-04-01"]), project)


def prepare(area: Area, storage: Storage, tmp_path: Path, **changes: object) -> dict[str, str]:
    labels = write_labels(tmp_path / "labels.gpkg")
    values = {"start": "2024-01-01", "end": "2024-12-31", "bands": {"red": "B04"}}
    project = make_project(
        data=values | {"catalogue": str(area.save())},
        labels={"source": str(labels), "class_field": "kind"},
        **changes,
    )
    return preprocess(project, ingest(project, storage), storage)


def test_preprocess_samples_know_their_place_class_and_block(
    area: Area, storage: Storage, tmp_path: Path
) -> None:
    rows, columns = np.mgrid[:16, :16]
    red = (1000 + 100 * rows + columns).astype("uint16")
    area.add("2024-04-01", red, ONES)
    prepared = prepare(area, storage, tmp_path)
    samples = gpd.read_parquet(prepared["samples"])
    assert len(samples) == 256
    assert samples.crs == "EPSG:32633"
    row = ((5_100_000 - samples["y"]) / 10 - 0.5).round().astype(int)
    column = ((samples["x"] - 500_000) / 10 - 0.5).round().astype(int)
    np.testing.assert_allclose(
        samples["red_2024-04"], (1000 + 100 * row + column) * 0.0001 - 0.1, atol=1e-7
    )
    assert (samples["class_name"] == np.where(column < 8, "water", "forest")).all()
    assert (samples["block"] == row // 4 * 4 + column // 4).all()


def test_preprocess_features_keep_grid_names_and_nodata(
    area: Area, storage: Storage, tmp_path: Path
) -> None:
    mask = ONES.copy()
    mask[0, 0] = 9
    area.add("2024-04-01", np.full((16, 16), 2000, "uint16"), mask)
    features = read_features(prepare(area, storage, tmp_path)["features"], storage)
    assert list(features.feature.values) == ["red_2024-04", "red_max", "red_std"]
    assert features.shape == (3, 16, 16)
    assert np.isnan(features.values[:, 0, 0]).all()
    assert tuple(features.odc.geobox.boundingbox) == (500_000, 5_099_840, 500_160, 5_100_000)


def test_preprocess_twice_gives_the_same_bytes(
    area: Area, storage: Storage, tmp_path: Path
) -> None:
    area.add("2024-04-01", np.full((16, 16), 2000, "uint16"), ONES)
    first, again = (prepare(area, storage, tmp_path) for _ in range(2))
    assert first == again


def test_preprocess_draws_at_most_so_many_samples_of_a_class(
    area: Area, storage: Storage, tmp_path: Path
) -> None:
    area.add("2024-04-01", np.full((16, 16), 2000, "uint16"), ONES)
    write_labels(tmp_path / "labels.gpkg")
    project = make_project(
        data={"start": "2024-01-01", "end": "2024-12-31", "bands": {"red": "B04"},
              "catalogue": str(area.save())},
        labels={"source": str(tmp_path / "labels.gpkg"), "class_field": "kind",
                "samples_per_class": 30},
    )  # fmt: skip
    samples = gpd.read_parquet(preprocess(project, ingest(project, storage), storage)["samples"])
    assert samples["class_name"].value_counts().to_dict() == {"forest": 30, "water": 30}


def test_preprocess_fewer_blocks_than_folds_is_refused(
    area: Area, storage: Storage, tmp_path: Path
) -> None:
    area.add("2024-04-01", np.full((16, 16), 2000, "uint16"), ONES)
    with pytest.raises(DataError, match=r"1 blocks of 16 x 16 pixels, fewer than the 5 folds"):
        prepare(area, storage, tmp_path, validation={"block_size_px": 16, "folds": 5})


def test_preprocess_truncated_image_is_a_sentence(
    area: Area, storage: Storage, tmp_path: Path
) -> None:
    area.add("2024-04-01", np.full((16, 16), 2000, "uint16"), ONES)
    path = area.folder / "2024-04-01" / "red.tif"
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(DataError, match=r"red\.tif can't be read"):
        prepare(area, storage, tmp_path)
