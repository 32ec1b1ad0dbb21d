"""The process that keeps the services of one line of the Procfile running.

Each line runs its commands through this module, under the task `up` and under plain `honcho start`
alike. It imports little, since such a process runs beside every service.
"""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sized
from itertools import groupby
from pathlib import Path
from typing import NoReturn

import psutil

from terraflow.files import keep_private
from terraflow.lock import Lock
from terraflow.process.child_processes import (
    BecomeService,
    Child,
    Start,
    adopt_orphans,
    die_with_parent,
)
from terraflow.process.output import OldFiles
from terraflow.process.signals import let_pass
from terraflow.process.supervisor import Supervisor
from terraflow.state import MARK, end_leftovers, started_at

__all__ = ["STARTERS", "lineage", "main", "split"]

#: How far above is the starter, whose end ends the services too: honcho runs each line of the
#: Procfile below a helper process of its own.
STARTERS = {"nobody": 0, "parent": 1, "honcho": 2}
#: Program that sets up first; by its name, since processes know nothing of the stack.
PLAIN_HONCHO = "terraflow.stack.lifecycle.plain_honcho"
#: Between services of one line, which are forked from one process.
AND = "+"


def main(arguments: list[str]) -> int:
    """Run `[--starter WHO] NAME COMMAND...`, or several of NAME COMMAND... with + between them.

    {names} in commands are filled from TERRAFLOW_*. Several are one Python console script with
    different words; they are forked from one process that has imported it.
    """
    keep_private()  # services write secrets of their own, JupyterLab's page with its token
    let_pass()  # until handlers are set, a signal ends this process: nothing runs yet
    if os.environ.get("TERRAFLOW_RESOLVED") != "1":
        _resolve_first(arguments)
    if _forks(split(arguments)) and not _is_marked():
        # what is forked shows the environment that this program was started with
        _mark_children()
        os.execv(sys.executable, [sys.executable, "-m", __spec__.name, *arguments])
    above = STARTERS["honcho"]
    if arguments[0] == "--starter":
        above, arguments = STARTERS[arguments[1]], arguments[2:]
    values = {
        key.removeprefix("TERRAFLOW_").lower(): value
        for key, value in os.environ.items()
        if key.startswith("TERRAFLOW_")
    }
    services = {
        name: [word.format_map(values) for word in command] for name, *command in split(arguments)
    }
    try:
        return _supervise(services, values, above)
    except BecomeService as service:
        command = service.command
    from terraflow.process import forked  # noqa: PLC0415 - loaded where there was a fork

    forked.become(command)  # not in the except clause: that would keep the supervisor's files open


def lineage(above: int) -> tuple[int, ...]:
    """Process ids from the parent upwards, so many; they change when one of them ends."""
    pids: list[int] = []
    while len(pids) < above:
        try:
            pids.append(psutil.Process(pids[-1]).ppid() if pids else os.getppid())
        except psutil.Error:
            pids.append(1)
    return tuple(pids)


def spawn(command: list[str]) -> Child:
    """Start a command as a new program."""
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        preexec_fn=die_with_parent,
    )


def _supervise(services: dict[str, list[str]], values: dict[str, str], above: int) -> int:
    """Take the services' locks, and run them until a signal or the end of the starter."""
    var = Path(values["var"])
    locks = [Lock(var / "run" / f"{name}.lock") for name in services]
    for name, lock in zip(services, locks, strict=True):
        if not _acquire(lock):
            _say_it_runs(name, var, lock.holder())
            return 1
    adopt_orphans()
    _mark_children()
    end_leftovers(var)  # of a supervisor that was killed: they hold its ports and its tasks
    starters = lineage(above)
    selector = selectors.DefaultSelector()
    supervisors = []
    for name, command in services.items():
        supervisors.append(
            Supervisor(
                name,
                command,
                var,
                after=values.get("after_" + name.replace("-", "_"), "").split(),
                stop=values.get("stop_" + name.replace("-", "_"), "SIGTERM").split(),
                probe=values.get("probe_" + name.replace("-", "_"), ""),
                hung_s=float(values.get("services_hung_s", 0)),
                manager_pid=starters[-1] if starters else os.getpid(),
                selector=selector,
                echo=values.get("echo") != "0",
                label=f"{name}: " if len(services) > 1 else "",
            )
        )
        supervisors[-1].announce()
    start = _choose_start(supervisors)
    # of tasks and of DAG files, which Airflow keeps for ever
    old = OldFiles(var / "airflow" / "logs", float(values.get("airflow_keep_logs_days", 0)))
    _run(
        supervisors,
        start,
        selector,
        orphaned=lambda: starters != lineage(above) or 1 in starters,
        deleted=lambda: not locks[0].is_there(),
        daily=old.step if "airflow-scheduler" in services else lambda: None,
    )
    end_leftovers(var)
    return 0


def _say_it_runs(name: str, var: Path, pid: int | None) -> None:
    from terraflow.console import command, say  # noqa: PLC0415 - the supervisor stays small

    say(f"{name} already runs in {var} (pid {pid}); stop it with `{command('down')}`.")


def _forks(services: Sized) -> bool:
    return len(services) > 1 and sys.platform != "darwin"  # whose frameworks do not bear a fork


def _choose_start(supervisors: list[Supervisor]) -> Start:
    """Choose how to start services: several are forked, once what they share is imported."""
    if not _forks(supervisors):
        return spawn
    from terraflow.process import forked  # noqa: PLC0415 - the supervisor of one service stays small

    try:
        forked.import_shared(supervisors[0].command[0], supervisors[0].output.path)
    except Exception:  # then each of them has it too: in its own log, with restarts
        return spawn
    return forked.Forked


def _run(
    supervisors: list[Supervisor],
    start: Start,
    selector: selectors.BaseSelector,
    *,
    orphaned: Callable[[], bool],
    deleted: Callable[[], bool],
    daily: Callable[[], None],
) -> None:
    """Let the supervisors take turns until all have ended.

    Parameters
    ----------
    orphaned : callable
        Tells whether the starter has ended.
    deleted : callable
        Tells whether the state folder was deleted, as by `git clean`: nobody could find the
        services any more, and a new stack may stand there by now, whose state is not theirs.
    daily : callable
        Called often; does something once a day.
    """
    signalled = _catch_signals(selector)
    turns = {supervisor: supervisor.run(start) for supervisor in supervisors}
    pause = 0.0
    while turns:
        for key, _ in selector.select(pause):
            if isinstance(key.data, Supervisor):
                key.data.drain()
            else:
                os.read(key.fd, 4096)
        gone = deleted()
        if signalled() or orphaned() or gone:
            for supervisor in turns:
                supervisor.stopping, supervisor.deleted = True, gone
        daily()
        for supervisor in turns:
            supervisor.write_state()
        pauses = {supervisor: next(turn, None) for supervisor, turn in turns.items()}
        turns = {s: turn for s, turn in turns.items() if pauses[s] is not None}
        pause = max(0.0, min((p for p in pauses.values() if p is not None), default=0.0))


def _catch_signals(selector: selectors.BaseSelector) -> Callable[[], bool]:
    """Wake the selector at signals; return what tells whether one said to stop."""
    said: list[int] = []
    read, write = os.pipe()
    os.set_blocking(read, False)
    os.set_blocking(write, False)
    signal.set_wakeup_fd(write)
    selector.register(read, selectors.EVENT_READ)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _frame: said.append(number))
    signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
    return lambda: bool(said)


def _acquire(lock: Lock) -> bool:
    for _ in range(10):  # whoever looks whether it is held holds it for that moment
        if lock.acquire():
            return True
        time.sleep(0.1)
    return False


def _mark_children() -> None:
    """Let whatever this process starts carry its process id and its start."""
    os.environ[MARK] = f"{os.getpid()}:{started_at(os.getpid())}"


def _is_marked() -> bool:
    """Tell whether this process was started with its own mark, as one is that marked itself."""
    return os.environ.get(MARK, "").partition(":")[0] == str(os.getpid())


def split(words: list[str]) -> list[list[str]]:
    """Split the words of a line of the Procfile into those of each of its services."""
    return [list(part) for is_and, part in groupby(words, AND.__eq__) if not is_and]


def _resolve_first(arguments: list[str]) -> NoReturn:
    """Get ports and paths from the settings: plain `honcho start` has not done so."""
    os.execv(sys.executable, [sys.executable, "-m", PLAIN_HONCHO, *arguments])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
