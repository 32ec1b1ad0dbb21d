"""Tasks new and update: a project of its own from the template, and what the template has since."""

from __future__ import annotations

import sys

from invoke.context import Context

from terraflow.config import project_root, user_path
from terraflow.console import say
from terraflow.errors import ConfigError
from terraflow.tasks.task import task

__all__ = ["new", "update"]


@task(
    private=False,
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


@task(
    private=False,
    help={
        "ref": "a tag, branch or commit of the template; its newest tag otherwise",
        "keep": "leave the update in place although the tests fail",
    },
)
def update(c: Context, ref: str = "", keep: bool = False) -> int:
    """Take over what the template and the platform have newly, in a project made from them."""
    from terraflow.projects.update import update as take_over

    return 0 if take_over(project_root(), ref=ref, keep=keep) else 1
