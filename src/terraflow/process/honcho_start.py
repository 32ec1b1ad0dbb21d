"""Start lines of the Procfile with honcho, as `honcho start` does, and stop them at any moment.

honcho sends a signal to every process it manages, also to one that has no process id yet: that
ends it with a traceback, and what it has started goes on. So signals are held until all have one.
"""

from __future__ import annotations

import os
import select
import sys
import time
from pathlib import Path
from typing import Any

from honcho.environ import parse_procfile
from honcho.manager import Manager
from honcho.printer import Printer
from honcho.process import Process

from terraflow.config import host_environment
from terraflow.process.child_processes import die_with_parent
from terraflow.process.output import bound_output
from terraflow.process.signals import let_pass

__all__ = ["main"]

KILL_AGAIN_S = 5.0
#: How long a reader may take that had kept up, unlike a terminal at Ctrl+S: logs have all of it.
PATIENCE_S = 1.0


class _Terminal:
    """Standard output, which neither fails nor holds honcho up when nobody reads it any more.

    An error in honcho's own signal handler would leave its helpers, for which Python then waits for
    ever; and it prints there, where a buffered stream may be in the midst of writing.
    """

    _patience_s = PATIENCE_S

    def isatty(self) -> bool:
        """Tell whether colours are of use."""
        return os.isatty(1)

    def write(self, text: str) -> None:
        """Print, or leave it."""
        data = text.encode(errors="replace")
        try:
            while data and select.select([], [1], [], self._patience_s)[1]:
                data = data[os.write(1, data[: select.PIPE_BUF]) :]
        except OSError:  # a closed pipe or terminal, a full disk
            return
        self._patience_s = 0.0 if data else PATIENCE_S  # once, not for each of many lines

    def flush(self) -> None:
        """Do nothing: nothing is kept back."""


class _Helper(Process):  # type: ignore[misc]  # honcho has no types
    """honcho's, between itself and one line, which has the lock of the stack from it."""

    def run(self, *arguments: Any, **more: Any) -> None:
        """Run the line, and end with honcho: also where this process is suspended by then."""
        die_with_parent()
        super().run(*arguments, **more)


class _Manager(Manager):  # type: ignore[misc]  # honcho has no types
    """honcho's, which waits for ever for a helper that was killed, and tells so at each turn."""

    _killed_at = 0.0
    log: Path

    def __init__(self, printer: Printer) -> None:
        super().__init__(printer)
        self._process_ctor = _Helper

    def _all_started(self) -> bool:
        self._note_killed_helpers()
        bound_output(self.log)
        started: bool = super()._all_started()
        if started:
            let_pass()
        return started

    def _note_killed_helpers(self) -> None:
        """Take a helper that says nothing any more for ended: its line ends without it."""
        for process in self._processes.values():
            helper = process.get("process")
            if helper and helper.exitcode is not None and "returncode" not in process:
                process["returncode"] = helper.exitcode
                process.setdefault("pid", helper.pid)

    def kill(self) -> None:
        if time.monotonic() > self._killed_at + KILL_AGAIN_S:
            self._killed_at = time.monotonic()
            super().kill()


def main(procfile: Path, names: list[str]) -> int:
    """Run these lines of the Procfile until one of them ends, or a signal says to stop.

    The program that becomes this one has held the signals, see `signals.held`.
    """
    commands = parse_procfile(procfile.read_text(encoding="utf-8")).processes
    manager = _Manager(Printer(_Terminal()))
    manager.log = Path(host_environment().get("TERRAFLOW_VAR", "var")) / "log" / "honcho.log"
    for name in names:
        manager.add_process(name, commands[name])
    manager.loop()
    return int(manager.returncode or 0)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
