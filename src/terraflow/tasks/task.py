"""How a task is made: it parses, calls the platform and prints; its errors become sentences."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection
from functools import cache, wraps
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeVar

from invoke.tasks import task as invoke_task

from terraflow.checkout.packages import check_source
from terraflow.config import project_root
from terraflow.console import report_errors
from terraflow.disks.problems import disk_errors
from terraflow.errors import TerraFlowError

if TYPE_CHECKING:
    from terraflow.settings import Settings

__all__ = ["optional_argument", "task"]

Body = TypeVar("Body", bound=Callable[..., Any])


def task(**options: Any) -> Callable[[Body], Any]:
    """Make a task of invoke whose errors become a sentence and an exit code.

    Parameters
    ----------
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
