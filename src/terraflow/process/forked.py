"""Services forked from one process that has imported what they share: Airflow's components.

Importing Airflow takes seconds and a hundred megabytes. Here it is done once, the components share
the memory, and one that ends is forked again without importing anything.
"""

from __future__ import annotations

import gc
import importlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import IO, NoReturn

from setproctitle import setproctitle

from terraflow.process.child_processes import BecomeService, die_with_parent

__all__ = ["Forked", "become", "import_shared"]

#: Objects, and rounds of the younger generations: by Python's own, a third of a component's start
#: goes into looking for garbage among what it imports.
COLLECT_AFTER = (50_000, 20, 20)
#: Files that may be open at a fork: few, with small numbers.
MAX_FILES = 1024


class Forked:
    """A service in a forked process, with what a supervisor needs of `subprocess.Popen`.

    Parameters
    ----------
    command : list of str
        Name of a Python console script, and its words.

    Raises
    ------
    BecomeService
        In the child, where its command is to be run by `become`.
    """

    def __init__(self, command: list[str]) -> None:
        read, write = os.pipe()
        self.pid = os.fork()
        if not self.pid:
            _detach(write)
            raise BecomeService(command)
        os.close(write)
        self.returncode: int | None = None
        self.stdout: IO[bytes] | None = os.fdopen(read, "rb", buffering=0)

    def poll(self) -> int | None:
        """Return the exit code, negative for a signal; None while it runs."""
        return self._reap(os.WNOHANG)

    def wait(self) -> int:
        """Wait for the end, and return the exit code."""
        code = self._reap(0)
        assert code is not None  # noqa: S101 - for the type checker
        return code

    def _reap(self, options: int) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, options)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def send_signal(self, sig: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, sig)


def _detach(output: int) -> None:
    """Give a forked child what Popen would: own session, its end with the parent's, its output."""
    os.setsid()
    die_with_parent()
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(source, target)


def import_shared(script: str, log: Path) -> None:
    """Import what the services of one console script share.

    Kept out of garbage collection, which would write to every object, and so copy all the memory.

    Parameters
    ----------
    log : Path
        Takes what is printed meanwhile.
    """
    gc.disable()
    load: Callable[[], object] = _find(script).load
    with _output_to(log):
        SHARED.get(script, load)()
    gc.freeze()
    gc.enable()


@contextmanager
def _output_to(path: Path) -> Iterator[None]:
    """Send both output streams to a file, that of code which holds on to them too."""
    kept = [os.dup(number) for number in (1, 2)]
    try:
        with path.open("ab") as file:
            for number in (1, 2):
                os.dup2(file.fileno(), number)
        yield
    finally:
        for number, descriptor in zip((1, 2), kept, strict=True):
            os.dup2(descriptor, number)
            os.close(descriptor)


def _import_airflow() -> None:
    """Do what Airflow's components would each do: chosen by what was found in all of them."""
    for module in (
        "airflow.__main__",
        "airflow.api_fastapi.execution_api.app",
        "airflow.cli.commands.api_server_command",
        "airflow.cli.commands.dag_processor_command",
        "airflow.cli.commands.scheduler_command",
        "airflow.cli.commands.triggerer_command",
        "airflow.executors.local_executor",
        # what DAG files import: else each reading of each file would, in a process of its own
        "dagfactory",
        "terraflow.orchestration.operators",
    ):
        importlib.import_module(module)
    from airflow.plugins_manager import ensure_plugins_loaded  # noqa: PLC0415

    ensure_plugins_loaded()
    from sqlalchemy.orm import configure_mappers  # noqa: PLC0415

    configure_mappers()


#: By console script; of others the script's own module is imported.
SHARED: dict[str, Callable[[], object]] = {"airflow": _import_airflow}


def become(command: list[str]) -> NoReturn:
    """Run a console script in this forked process, and end with it."""
    gc.collect()
    gc.set_threshold(*COLLECT_AFTER)
    os.closerange(3, MAX_FILES)  # what the supervisor itself had inherited
    setproctitle(" ".join(command))
    sys.argv = list(command)
    sys.exit(_find(command[0]).load()())


def _find(script: str) -> EntryPoint:
    (found,) = entry_points(group="console_scripts", name=script)
    return found
