"""Make a project from the template of a checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import copier
import yaml
from copier.errors import CopierError

from terraflow.checkout.git import git
from terraflow.console import say
from terraflow.errors import ConfigError, TerraFlowError, did_you_mean, first_line

__all__ = ["make", "read_answers"]


def read_answers(template: Path, words: list[str]) -> dict[str, str]:
    """Read answers that are written as key=value.

    Raises
    ------
    ConfigError
        There is no template, a word is no key=value, or there is no such question.
    """
    if not (template / "copier.yml").exists():
        raise ConfigError(
            f"{template} has no copier.yml, from which projects are made; run `new` in a checkout "
            "of TerraFlow."
        )
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


def make(template: Path, target: Path, answers: dict[str, str], *, defaults: bool) -> None:
    """Render the template into a folder, and do its last steps.

    Parameters
    ----------
    template : Path
        A checkout of TerraFlow.
    answers : dict
        To its questions.
    defaults : bool
        Ask for none of the others.

    Raises
    ------
    ConfigError
        The folder is not empty.
    TerraFlowError
        An answer is wrong, or a step failed.
    """
    there = os.path.lexists(target)
    if there and (not target.is_dir() or any(target.iterdir())):
        raise ConfigError(f"{target} is there already, and is not empty; name another folder.")
    try:
        copier.run_copy(
            str(template),
            target,
            data=answers,
            defaults=defaults,
            vcs_ref=_commit(template),
            unsafe=True,  # its one task builds the wheel and makes the first commit
            quiet=True,
        )
    except BaseException as error:
        _clear(target, keep=there)
        if isinstance(error, KeyboardInterrupt):  # copier has one with all answers in its text
            raise KeyboardInterrupt from None
        if not isinstance(error, (CopierError, ValueError, OSError)):
            raise
        why = first_line(error).rstrip(".")
        remedy = "answer otherwise" if type(error) is ValueError else "correct that"
        raise TerraFlowError(
            f"The project was not made: {why}; {remedy}, and make it again."
        ) from error


def _clear(target: Path, *, keep: bool) -> None:
    """Leave nothing of a project that was not made."""
    if not os.path.lexists(target) or not target.is_dir():
        return
    for path in target.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()
    if not keep:
        target.rmdir()


def _commit(template: Path) -> str | None:
    """Name the commit of a checkout: from one that git knows, the project can be updated later."""
    if not (template / ".git").exists():
        return None
    try:
        if git(template, "status", "--porcelain"):
            say(f"What is not committed in {template} is left out.")
        return git(template, "rev-parse", "HEAD").strip()
    except (subprocess.CalledProcessError, OSError):  # no commit, or no git
        return None
