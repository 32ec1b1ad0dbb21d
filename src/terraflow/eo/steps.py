"""Run steps: the project's own, or those of the table."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

from terraflow.console import say
from terraflow.eo.step_table import STEPS
from terraflow.errors import ConfigError, TerraFlowError, error_place, first_line, nearest

if TYPE_CHECKING:
    from terraflow.eo.project import Inputs, OpenProject

__all__ = ["check", "check_steps", "find_step", "run_step", "run_up_to", "show"]


def find_step(name: str, project: OpenProject) -> Callable[[OpenProject, Inputs], Any]:
    """Find the function of a step: the project's own first.

    Raises
    ------
    ConfigError
        There is no step of that name; the nearest are told.
    """
    own = project.project.steps
    if name in own:
        return own[name]
    if name not in STEPS:
        known = [*STEPS, *own]
        near = nearest(name, known) or sorted(known)
        raise ConfigError(f"Step {name!r} is not known; write one of {', '.join(near)}.")
    function: Callable[[OpenProject, Inputs], Any] = import_module(STEPS[name].module).step
    return function


def run_step(name: str, project: OpenProject, inputs: Inputs) -> dict[str, Any]:
    """Run one step on what the step before it returned, as a task of a DAG does.

    Returns
    -------
    dict
        What it returned, a record as plain values.

    Raises
    ------
    ConfigError
        There is no such step, or a step of the project failed or returned something else.
    """
    function = find_step(name, project)
    own = name in project.project.steps
    told_name = getattr(function, "__qualname__", type(function).__qualname__)
    told = f"Step {name} ({function.__module__}:{told_name})"
    try:
        outputs = function(project, inputs)
    except TerraFlowError:
        raise
    except Exception as error:
        if not own:
            raise
        raise ConfigError(
            f"{told} failed with {type(error).__name__}: {first_line(error)}{error_place(error)}; "
            "correct it."
        ) from error
    if hasattr(outputs, "to_dict"):
        outputs = outputs.to_dict()
    if not isinstance(outputs, Mapping):
        raise ConfigError(
            f"{told} returned {type(outputs).__name__}; a dict of names to URIs and plain values "
            "is expected; correct it."
        )
    return dict(outputs)


def check(name: str, project: OpenProject, options: Inputs) -> None:
    """See before long work what can be seen of a step and those before it.

    Raises
    ------
    TerraFlowError
        Something is wrong.
    """
    find_step(name, project)
    check_steps(_chain(name, options), project, options)


def check_steps(names: Iterable[str], project: OpenProject, options: Inputs) -> None:
    """See before long work what can be seen of each of these steps.

    Raises
    ------
    TerraFlowError
        Something is wrong.
    """
    for step in names:
        find_step(step, project)
        if step in STEPS and step not in project.project.steps:
            look = getattr(import_module(STEPS[step].module), "check", None)
            if look:
                look(project, options)


def run_up_to(name: str, project: OpenProject, options: Inputs | None = None) -> dict[str, Any]:
    """Bring the steps before one up to date, run it and what follows it, and tell their times.

    Parameters
    ----------
    options : mapping, optional
        Of the step, by the names in its row: items, model, tune, ...

    Raises
    ------
    ConfigError
        There is no such step, or an option is wrong: told before any work.
    """
    options = options or {}
    check(name, project, options)
    chain = _chain(name, options)
    value: dict[str, Any] = dict(options)
    for step in chain:
        began = time.monotonic()
        if len(chain) > 1:
            say(f"{step} ...")
        outputs = run_step(step, project, value)
        follows = name in STEPS and step in STEPS[name].then
        value = {**(value if follows else options), **outputs}
        if len(chain) > 1:
            say(f"{step}: {time.monotonic() - began:.1f} s")
    return value


def show(name: str, project: OpenProject, outputs: Inputs) -> int:
    """Tell the user what a step returned, and what those that follow it did.

    Returns
    -------
    int
        The exit code: the first that is not 0.
    """
    shown = [name, *(STEPS[name].then if name in STEPS else ())]
    codes = [_show(step, project, outputs) for step in shown]
    return next((code for code in codes if code), 0)


def _show(name: str, project: OpenProject, outputs: Inputs) -> int:
    own = name in project.project.steps
    module = None if own else import_module(STEPS[name].module)
    if module and hasattr(module, "show"):
        return int(module.show(project, outputs) or 0)
    for key, value in outputs.items():
        if value not in (None, "") and key != "record_version":
            say(f"{key}: {value}")
    return 0


def _chain(name: str, options: Inputs) -> list[str]:
    """List a step with those before it and those that follow it, the first one first."""
    chain = [name]
    while (row := STEPS.get(chain[0])) and row.after and not options.get(row.unless):
        chain.insert(0, row.after)
    return [*chain, *STEPS[name].then] if name in STEPS else chain
