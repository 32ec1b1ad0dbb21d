from __future__ import annotations

from typing import Any

import xarray as xr

from area import make_project
from terraflow.eo.features.recipe import FeatureRecipe


def hook(cube: xr.Dataset) -> dict[str, Any]:
    return {"a": cube["red"].isel(time=0)}


def recipe(mask: str | None, bands: dict[str, str]) -> FeatureRecipe:
    cloud_mask = {"asset": mask, "clear": [1]} if mask else None
    return FeatureRecipe.of(make_project(data={"bands": bands}, cloud_mask=cloud_mask))


def test_feature_recipe_of_takes_the_sections_that_count() -> None:
    config = make_project(
        data={"bands": {"red": "B04"}, "scaling": {"red": {"scale": 2}}},
        grid={"resolution": 20},
        features={"statistics": ["min"]},
    )
    found = FeatureRecipe.of(config, [hook])
    assert found.bands == {"red": "B04"}
    assert found.scaling == config.data.scaling
    assert found.scaling["red"].scale == 2
    assert found.mask == config.cloud_mask
    assert found.grid.resolution == 20
    assert found.features.statistics == ["min"]
    assert found.own == (hook,)


def test_feature_recipe_of_a_project_without_functions_has_none() -> None:
    assert FeatureRecipe.of(make_project()).own == ()


def test_feature_recipe_what_does_not_make_features_gives_an_equal_one() -> None:
    other = make_project(seed=1, model={"name": "mlp"}, validation={"folds": 3}, monitor={})
    assert FeatureRecipe.of(make_project()) == FeatureRecipe.of(other)
    assert FeatureRecipe.of(make_project()) != FeatureRecipe.of(
        make_project(grid={"resolution": 5})
    )


def test_feature_recipe_assets_are_bands_then_mask() -> None:
    assert recipe("SCL", {"red": "B04", "nir": "B08"}).assets == ["B04", "B08", "SCL"]


def test_feature_recipe_assets_name_each_once() -> None:
    assert recipe("B04", {"red": "B04", "again": "B04"}).assets == ["B04"]


def test_feature_recipe_assets_without_a_mask_are_the_bands() -> None:
    assert recipe(None, {"red": "B04.2"}).assets == ["B04.2"]
