"""The tasks of this project: `invoke --list`."""

from terraflow.tasks import namespace

__all__ = ["namespace"]
