"""Records that outlive the code that wrote them: frozen, typed, versioned."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

__all__ = ["Record"]


class Record(BaseModel):
    """What one step leaves for another, for a later version or for another machine.

    A subclass reads what older versions wrote: keys that it does not know are left aside, keys
    that are missing take their defaults, and what was renamed it brings up to date in a
    `model_validator(mode="before")`.

    Attributes
    ----------
    record_version : int
        Raised when a key changes its meaning; 0 is of before version 0.2, which wrote none.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", arbitrary_types_allowed=True)

    record_version: int = 1

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values of JSON."""
        return self.model_dump(mode="json")
