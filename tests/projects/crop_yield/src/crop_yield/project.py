"""Crop yield from optical images: a number for each pixel, by a target of this project's own."""

from typing import Any

from sklearn.ensemble import RandomForestRegressor

from crop_yield.target import Yield
from terraflow.eo import Project

__all__ = ["PROJECT", "Forest"]


class Forest(RandomForestRegressor):
    """A forest of numbers, with a search of its parameters."""

    @staticmethod
    def search(trial: Any) -> dict[str, Any]:
        """Draw parameters from a trial of Optuna's."""
        return {"min_samples_leaf": trial.suggest_int("min_samples_leaf", 1, 16)}


PROJECT = Project(name="crop_yield", models={"forest": Forest}, target=Yield())
