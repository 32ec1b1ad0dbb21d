"""The tasks of the platform, for a project's tasks.py: each parses, calls and prints."""

from __future__ import annotations

from types import ModuleType

from invoke.collection import Collection

from terraflow.tasks import develop, serving, stack, steps

__all__ = ["namespace"]


def _collect(*modules: ModuleType) -> Collection:
    return Collection(*(getattr(module, name) for module in modules for name in module.__all__))


#: All of them, by their names.
namespace = _collect(stack, steps, serving, develop)
