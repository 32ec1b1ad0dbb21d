from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from affine import Affine
from rasterio.crs import CRS

from terraflow.eo.targets.parts import Band, MapView, Score, markdown_table, measure_name


def view(**changes: Any) -> MapView:
    given: dict[str, Any] = {
        "values": np.zeros((3, 4)),
        "bands": [Band("yield")],
        "crs": CRS.from_epsg(32633),
        "transform": Affine(10, 0, 500_000, 0, -10, 5_100_000),
        "uri": "map.tif",
        "origin": {"model": "models:/crop-yield/1", "model_name": "crop-yield"},
        "thumbnail": lambda most_px: np.zeros((3, 4))[:most_px, :most_px],
    }
    return MapView(**given | changes)


def test_view_of_a_map_tells_what_a_picture_needs() -> None:
    assert view().bounds == (500_000, 5_099_970, 500_040, 5_100_000)
    assert view().title == "Crop yield"
    assert view().note == "models:/crop-yield/1"
    assert view(origin={"model": "m", "note": "Simulated."}).note == "Simulated."
    assert view(origin={"model": "m"}).title == "Map"
    assert view().areas() is None


@pytest.mark.parametrize(("nodata", "expected"), [(0, [False, True]), (np.nan, [True, True])])
def test_band_tells_nodata(nodata: float, expected: list[bool]) -> None:
    band = Band("yield", nodata=nodata)
    assert band.is_valid(np.array([0.0, 1.0])).tolist() == expected
    assert not band.is_valid(np.array([np.nan]))[0]


def test_text_of_names_scores_and_tables() -> None:
    assert [measure_name(name) for name in ("macro_f1", "rmse", "r2", "bias")] == [
        "macro F1",
        "RMSE",
        "R2",
        "bias",
    ]
    assert Score(0.5, 0.4, 0.6).text() == "0.500 (0.400 to 0.600)"
    assert markdown_table(("a", "b"), [("1|2", "3")]) == "| a | b |\n| --- | --- |\n| 1\\|2 | 3 |"
