"""How a task is made: it parses, calls the platform and prints; its errors become sentences."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection
from functools import cache, wraps
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeVar

from invoke.exceptions import ParseError
from invoke.tasks import task as invoke_task

from terraflow.checkout.packages import check_source
from terraflow.config import project_root
from terraflow.console import report_errors
from terraflow.disks.problems import disk_errors
from terraflow.errors import TerraFlowError
from terraflow.files import keep_private

if TYPE_CHECKING:
    from terraflow.settings import Settings

__all__ = ["Number", "optional_argument", "task"]

Body = TypeVar("Body", bound=Callable[..., Any])


class Number(int):
    """Default of an option that takes a whole number: invoke reads values by a default's type.

    Raises
    ------
    ParseError
        The value is none, or below 0; invoke prints it, where it shows a traceback of int's.
    """

    def __new__(cls, value: str | int) -> Number:
        """Read it."""
        try:
            number = super().__new__(cls, value)
        except ValueError:
            number = super().__new__(cls, -1)
        if number < 0:
            raise ParseError(f"{value!r} is no whole number; write one of 0 or more, as 5.")
        return number


def task(*, private: bool = True, **options: Any) -> Callable[[Body], Any]:
    """Make a task of invoke whose errors become a sentence and an exit code.

    Parameters
    ----------
    private : bool
        What it makes is its owner's alone, which holds for all state; not for what it writes into
        the project or a folder of the user's.
    options
        As those of `invoke.task`: help, iterable, positional.

    Returns
    -------
    callable
        Decorates a function whose first parameter is invoke's context, and which may return an
        exit code.
    """

    def decorate(body: Body) -> Any:
        @wraps(body)
        def run(*args: Any, **kwargs: Any) -> None:
            with report_errors():
                check_source(project_root())
            if private:
                keep_private()
            settings = cache(lambda: _settings(kwargs.get("set_") or []))
            with (
                report_errors(lambda: settings().log_dir),
                disk_errors(lambda: settings().folders),
            ):
                if code := body(*args, **kwargs):
                    sys.exit(code)

        return invoke_task(**options)(run)

    return decorate


def _settings(assignments: list[str]) -> Settings:
    """Tell the folders for an error: those of the checkout where the settings are wrong."""
    from terraflow.settings import Settings, load

    try:
        return load(assignments, running=False, strict=False)
    except (TerraFlowError, OSError):
        return Settings()


def optional_argument(task_name: str, *parameters: str, valued: Collection[str] = ()) -> list[str]:
    """Make parameters positional as far as words are given: invoke has no optional ones.

    Parameters
    ----------
    task_name : str
        A task, as in `invoke logs mlflow`.
    parameters : str
        Its parameters that may be given without their names, in this order.
    valued : collection of str
        Its options that are followed by a value, as "--run".

    Returns
    -------
    list of str
        For the task's option `positional`.
    """
    after = sys.argv[sys.argv.index(task_name) :] if task_name in sys.argv else []
    words = [
        word
        for before, word in pairwise(after)
        if not word.startswith("-") and before not in valued
    ]
    return list(parameters[: len(words)])
