"""Task new: a project of its own from the template."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from invoke.context import Context

from terraflow.config import project_root, user_path
from terraflow.console import say
from terraflow.errors import ConfigError, TerraFlowError, did_you_mean, first_line
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
    template, target = project_root(), user_path(path)
    if not (template / "copier.yml").exists():
        raise ConfigError(
            f"{template} has no copier.yml, from which projects are made; run `new` in a checkout "
            "of TerraFlow."
        )
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ConfigError(f"{target} is there already, and is not empty; name another folder.")
    if not defaults and not sys.stdin.isatty():
        raise ConfigError("There is no terminal to ask in; add --defaults, and --data for answers.")
    _copy(template, target, _answers(template, data), defaults=defaults)
    say(f"\nMade {target}. Go on there with `make up`, or `pixi run up`; its README tells more.")


def _answers(template: Path, words: list[str]) -> dict[str, str]:
    """Read answers that are written as key=value.

    Raises
    ------
    ConfigError
        A word is no key=value, or there is no such question.
    """
    import yaml

    questions = yaml.safe_load((template / "copier.yml").read_text())
    known = [k for k, v in questions.items() if k[0] != "_" and v.get("when", True)]
    answers = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            raise ConfigError(f"--data {word} is no key=value; write it as --data store=local.")
        if key not in known:
            raise ConfigError(
                f"--data {word}: there is no question {key}{did_you_mean(key, known)}; there are "
                f"{', '.join(known)}."
            )
        answers[key] = value
    return answers


def _copy(template: Path, target: Path, answers: dict[str, Any], *, defaults: bool) -> None:
    import copier
    from copier.errors import CopierError

    try:
        copier.run_copy(
            str(template),
            target,
            data=answers,
            defaults=defaults,
            vcs_ref="HEAD" if (template / ".git").exists() else None,
            unsafe=True,  # its one task builds the wheel and makes the first commit
            quiet=True,
        )
    except (CopierError, ValueError) as error:
        raise TerraFlowError(
            f"The project was not made: {first_line(error).rstrip('.')}."
        ) from error
