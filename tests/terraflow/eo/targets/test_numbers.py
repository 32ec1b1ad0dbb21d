"""Numbers as what is learnt: their labels."""

from __future__ import annotations

from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
from affine import Affine
from odc.geo.geobox import GeoBox
from shapely.geometry import box

from terraflow.eo.config.labels import Labels
from terraflow.eo.targets.numbers import Numbers
from terraflow.errors import DataError
from terraflow.settings import Settings
from terraflow.storage import Storage

GRID = GeoBox((4, 6), Affine(10, 0, 500_000, 0, -10, 5_100_000), "EPSG:32633")


class Biomass(Numbers):
    name, column, unit = "dry_biomass", "biomass", "t/ha"


def write(path: Path, values: list[object]) -> str:
    west, north = 500_000, 5_100_000
    shapes = [box(west, north - 20, west + 20, north), box(west + 30, north - 40, west + 60, north)]
    gpd.GeoDataFrame({"value": values}, geometry=shapes, crs="EPSG:32633").to_file(path)
    return str(path)


def test_labels_give_each_pixel_the_number_of_its_polygon(
    settings: Settings, tmp_path: Path
) -> None:
    uri = write(tmp_path / "labels.gpkg", [1.5, 7])
    labels = Biomass().read_labels(uri, Labels(field="value"), GRID, Storage(settings))
    values, polygons = labels.burn(GRID)
    assert values.mask.sum() == 24 - 4 - 12
    assert (values[:2, :2] == 1.5).all()
    assert (values[:, 3:] == 7).all()
    assert (polygons[:2, :2] == 0).all()
    assert (labels.decode(values) == values).all()


def test_labels_that_are_text_are_a_sentence(settings: Settings, tmp_path: Path) -> None:
    uri = write(tmp_path / "labels.gpkg", ["much", "little"])
    with pytest.raises(DataError, match=r"value of .* holds 'much', which is no number; correct"):
        Biomass().read_labels(uri, Labels(field="value"), GRID, Storage(settings))


def test_quantity_is_told_with_its_unit() -> None:
    assert Biomass().quantity == "dry biomass (t/ha)"
    assert Numbers().quantity == "numbers"
    [band] = Biomass().bands([], None)  # type: ignore[arg-type]
    assert (band.unit, np.isnan(band.nodata)) == ("t/ha", True)
