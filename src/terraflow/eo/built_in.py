"""The targets that are part of TerraFlow, by the names that records give them."""

from __future__ import annotations

from terraflow.eo.targets.classes.classification import Classification
from terraflow.eo.targets.target import Target

__all__ = ["BUILT_IN", "DEFAULT", "Classification"]

BUILT_IN: dict[str, type[Target]] = {Classification.name: Classification}
#: Target of a project that names none, and of records from before targets had names.
DEFAULT = Classification
