"""A flood mask from radar backscatter: all of it is configuration."""

from terraflow.eo import Project

__all__ = ["PROJECT"]

PROJECT = Project(name="flood")
