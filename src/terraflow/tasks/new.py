"""Task new: a project of its own from the template."""

from __future__ import annotations

import sys

from invoke.context import Context

from terraflow.config import project_root, user_path
from terraflow.console import say
from terraflow.errors import ConfigError
from terraflow.tasks.task import task

__all__ = ["new"]


@task(
    positional=["path"],
    iterable=["data"],
    help={
        "path": "a folder that does not exist yet, or is empty",
        "data": "an answer, as --data package_name=flood; may be repeated",
        "defaults": "ask nothing: take the default of each question that has no answer",
    },
)
def new(c: Context, path: str, data: list[str], defaults: bool = False) -> None:
    """Make a new project from the template."""
    from terraflow.projects.new import make, read_answers

    template, target = project_root(), user_path(path)
    if not defaults and not sys.stdin.isatty():
        raise ConfigError("There is no terminal to ask in; add --defaults, and --data for answers.")
    make(template, target, read_answers(template, data), defaults=defaults)
    say(f"\nMade {target}. Go on there with `make up`, or `pixi run up`; its README tells more.")
