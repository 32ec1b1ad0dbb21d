"""What steps get of a project, for rooms below the one where a project is put together."""

from __future__ import annotations

from typing import Protocol

from terraflow.eo.config.project_file import ProjectConfig
from terraflow.storage import Storage

__all__ = ["Configured"]


class Configured(Protocol):
    """A project's configuration and its store."""

    @property
    def config(self) -> ProjectConfig:
        """All of the project file."""

    @property
    def storage(self) -> Storage:
        """The store."""
