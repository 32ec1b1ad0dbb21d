"""What all sections of a project file have in common."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

__all__ = ["Section"]


class Section(BaseModel):
    """Values that don't change and keys that are known."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)
