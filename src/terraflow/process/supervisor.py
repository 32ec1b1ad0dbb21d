"""Keep one service running: restart it, and leave nothing of it behind."""

from __future__ import annotations

import os
import selectors
import signal
import time
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from terraflow.disks.space import Disk
from terraflow.errors import StorageError
from terraflow.files import make_dir
from terraflow.probes import Health, answers
from terraflow.process.child_processes import Child, Start
from terraflow.process.output import Output
from terraflow.state import SILENT, Phase, ServiceState, end_adopted, started_at

__all__ = ["Supervisor", "pause_before_restart"]

MAX_RESTARTS = 5
WINDOW_S = 600.0
GRACE_S = 4.0  # honcho kills after 5 s what has not stopped
TICK_S = 1.0
#: Of 64 kB, which are read in one turn: a service that prints without pause leaves others theirs.
CHUNKS = 16


def pause_before_restart(ends: deque[float], now: float) -> float | None:
    """Decide how long to wait before the next restart.

    Parameters
    ----------
    ends : deque of float
        Times of the service's ends in seconds, `now` included; those before the window are removed.
    now : float
        Seconds, same clock.

    Returns
    -------
    float or None
        Seconds: 1, 2, 4, 8, 16; None when it ended more than 5 times in 10 minutes.
    """
    while ends and ends[0] <= now - WINDOW_S:
        ends.popleft()
    return None if len(ends) > MAX_RESTARTS else float(2 ** (len(ends) - 1))


class Supervisor:
    """One service, its log file and its state file.

    Several may live in one process: `run` gives way wherever it would wait.

    Parameters
    ----------
    name : str
        Service, as in the Procfile.
    command : list of str
        Words of the command.
    var : Path
        Folder of all state.
    after : list of str
        URLs that must answer before the service starts.
    stop : list of str
        Names of the signals that end it, one after the other.
    probe : str
        As `Health` takes it; "" for a service that can't be asked.
    hung_s : float
        A service that has not answered for so long is started again; 0 for never.
    manager_pid : int
        Process that started all services.
    selector : BaseSelector
        Where the child's output is registered, with this object as its data.
    echo : bool
        Whether to print the service's output too.
    label : str
        Before each line of that, where services share a terminal.

    Attributes
    ----------
    stopping : bool
        Set it to end the service.
    """

    def __init__(
        self,
        name: str,
        command: list[str],
        var: Path,
        *,
        after: list[str],
        stop: Sequence[str] = ("SIGTERM",),
        probe: str = "",
        hung_s: float = 0.0,
        manager_pid: int,
        selector: selectors.BaseSelector,
        echo: bool,
        label: str = "",
    ) -> None:
        self.name, self.command, self.after = name, command, after
        self.stop = [signal.Signals[word] for word in stop]
        self.health, self.hung_s = Health(probe), hung_s
        self.run_dir = var / "run"
        self.output = Output(var / "log" / f"{name}.log", echo=echo, label=label)
        self.manager_pid, self.selector = manager_pid, selector
        self._started = started_at(os.getpid()), started_at(manager_pid)
        self._phase: tuple[Phase, float] | None = None
        self._unwritten: ServiceState | None = None
        self.stopping = self.deleted = False
        self.restarts = 0
        self.ends: deque[float] = deque()
        self.child: Child | None = None

    def announce(self) -> None:
        """Tell that the service is going to be started."""
        make_dir(self.output.path.parent)
        self._say("waiting", "waits for " + " and ".join(self.after) if self.after else "")

    def run(self, start: Start) -> Iterator[float]:
        """Keep the service running until `stopping`.

        Parameters
        ----------
        start : callable
            Starts the command as a child of this process, its output on a pipe.

        Yields
        ------
        float
            Seconds after which to go on, or earlier.
        """
        while not self.stopping and not self._may_start():
            yield 0.3
        while not self.stopping:
            self._start(start)
            code = yield from self._wait()
            self._end_leftovers()
            if not self.stopping:
                yield from self._after_end(code)
        self._say("stopped")

    def _may_start(self) -> bool:
        if not self.after:
            return True
        return all(answers(url) for url in self.after)

    def _start(self, start: Start) -> None:
        self.output.open()
        try:
            self.child = start(self.command)
        except OSError as error:
            self.child = None
            self.output.write(f"{self.command[0]} can't be run: {error.strerror}\n".encode())
            return
        self.health.restart()
        self._say("running")
        assert self.child.stdout  # noqa: S101 - for the type checker
        os.set_blocking(self.child.stdout.fileno(), False)
        self.selector.register(self.child.stdout, selectors.EVENT_READ, self)

    def _wait(self) -> Generator[float, None, int]:
        """Wait until the service ends, or end it; return its exit code."""
        if not self.child:
            return 127
        hung = False
        while self.child.poll() is None and not self.stopping and not hung:
            yield TICK_S
            hung = self._is_hung()
        if self.stopping or hung:
            yield from self._terminate(self.child)
        code = self.child.wait()
        self.drain()
        self.output.end_line()
        assert self.child.stdout  # noqa: S101 - for the type checker
        self.selector.unregister(self.child.stdout)
        self.child.stdout.close()
        return code

    def _is_hung(self) -> bool:
        """Ask the service, tell if it falls silent or answers again, and if it is so for long."""
        before = self.health.silent_since
        self.health.step()
        since = self.health.silent_since
        silent_s = time.monotonic() - since if since else 0.0
        if since != before:
            told = time.strftime("%H:%M:%S", time.localtime(time.time() - silent_s))
            self._say("running", f"{SILENT} since {told}" if since else "")
        return bool(self.hung_s and silent_s > self.hung_s)

    def _terminate(self, child: Child) -> Iterator[float]:
        for number in self.stop:
            child.send_signal(number)
            deadline = time.monotonic() + GRACE_S / len(self.stop)
            while child.poll() is None and time.monotonic() < deadline:
                yield 0.1
        child.send_signal(signal.SIGKILL)
        while child.poll() is None:  # which the system may delay, as while a disk hangs
            yield 0.1

    def _end_leftovers(self) -> None:
        """Kill what the service left behind: a new one would find its port or files taken."""
        if self.child:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.child.pid, signal.SIGKILL)
        end_adopted(
            key.data.child.pid
            for key in self.selector.get_map().values()
            if isinstance(key.data, Supervisor) and key.data.child
        )
        self.output.close()

    def _after_end(self, code: int) -> Iterator[float]:
        how = f"was killed by signal {-code}" if code < 0 else f"exited with code {code}"
        if since := self.health.silent_since:
            how = f"did not answer for {time.monotonic() - since:.0f} s, and was ended"
        last = " | ".join(self.output.last_lines)
        if (disk := Disk.of(self.run_dir)).is_full:  # each start would end so, until it is given up
            room = f"the file system at {disk.mount} has only {disk.room_text}: make room"
            self._say("restarting", f"{how}; {room}, and it starts again; last lines: {last}")
            while not self.stopping and Disk.of(self.run_dir).is_full:
                yield TICK_S
            self.restarts += 1
            return
        self.ends.append(time.monotonic())
        pause = pause_before_restart(self.ends, self.ends[-1])
        if pause is None:
            reason = (
                f"{how} after {MAX_RESTARTS} restarts in {WINDOW_S / 60:.0f} minutes; "
                f"last lines: {last}; log: {self.output.path}"
            )
            self._say("failed", reason)
            while not self.stopping:
                yield TICK_S
            return
        self._say("restarting", f"{how}, restarts in {pause:.0f} s; last lines: {last}")
        until = time.monotonic() + pause
        while not self.stopping and time.monotonic() < until:
            yield until - time.monotonic()
        self.restarts += 1

    def drain(self) -> None:
        """Write what the service has printed to its log, and to whoever reads the terminal."""
        assert self.child and self.child.stdout  # noqa: S101, PT018 - for the type checker
        for _ in range(CHUNKS):
            try:
                chunk = os.read(self.child.stdout.fileno(), 65536)
            except (BlockingIOError, ValueError):
                return
            if not chunk:
                if self.stopping or self.child.poll() is not None:
                    return
                time.sleep(0.05)  # it closed its output but lives: do not spin
                return
            self.output.write(chunk)

    def _say(self, phase: Phase, reason: str = "") -> None:
        """Write the state file, and tell the reader of the terminal if the service is not well."""
        pid = self.child.pid if self.child and phase == "running" else None
        if not self._phase or self._phase[0] != phase:
            self._phase = phase, time.time()
        self._unwritten = ServiceState(
            self.name,
            phase,
            pid,
            os.getpid(),
            self.manager_pid,
            self.restarts,
            self._phase[1],
            reason,
            *self._started,
        )
        if error := self.write_state():
            self.output.print(f"{error}\n".encode())
        if phase in ("restarting", "failed"):
            self.output.print(f"{self.name} {reason}\n".encode())

    def write_state(self) -> StorageError | None:
        """Write the state file, unless it is written; return why that fails, as on a full disk."""
        if self._unwritten and not self.deleted:
            try:
                self._unwritten.write(self.run_dir)
            except StorageError as error:
                return error
            self._unwritten = None
        return None
