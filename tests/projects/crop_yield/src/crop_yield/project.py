"""Yield of fields: what this project brings of its own."""

from __future__ import annotations

from typing import Any

from sklearn.ensemble import RandomForestRegressor

from crop_yield.target import CropYield
from terraflow.eo import Project

__all__ = ["PROJECT"]


def forest(*, min_samples_leaf: int = 3, **parameters: Any) -> RandomForestRegressor:
    """Make a forest that predicts numbers."""
    return RandomForestRegressor(min_samples_leaf=min_samples_leaf, **parameters)


def search(trial: Any) -> dict[str, Any]:
    """Draw parameters from a trial of Optuna's."""
    return {"n_estimators": 20, "min_samples_leaf": trial.suggest_int("min_samples_leaf", 1, 16)}


forest.search = search

PROJECT = Project(name="crop_yield", models={"forest": forest}, target=CropYield())
