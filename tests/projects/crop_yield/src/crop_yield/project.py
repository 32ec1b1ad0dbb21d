"""Crop yield from optical images: a number for each pixel, by a target of this project's own."""

from sklearn.ensemble import RandomForestRegressor

from crop_yield.target import Yield
from terraflow.eo import Project

__all__ = ["PROJECT"]

PROJECT = Project(name="crop_yield", models={"forest": RandomForestRegressor}, target=Yield())
