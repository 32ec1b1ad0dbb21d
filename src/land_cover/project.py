"""Land cover mapping: what this project brings of its own."""

from __future__ import annotations

from land_cover.models import trees_and_network
from terraflow.eo import Project

__all__ = ["PROJECT"]

PROJECT = Project(name="land_cover", models={"trees_and_network": trees_and_network})
