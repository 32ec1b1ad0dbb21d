"""Keep one service running: restart it, log it, leave nothing behind.

Each line of the Procfile runs its command through this module, under `invoke up` and under plain
`honcho start` alike. It imports little, since one such process runs beside every service.
"""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import sys
import time
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import IO, Literal, NoReturn

import psutil

from terraflow.lifeline import adopt_orphans, die_with_parent
from terraflow.lock import Lock
from terraflow.probes import answers
from terraflow.state import Phase, ServiceState

__all__ = ["Supervisor", "main", "pause_before_restart"]

MAX_RESTARTS = 5
WINDOW_S = 600.0
GRACE_S = 4.0  # honcho kills after 5 s what has not stopped
TICK_S = 1.0
MAX_LOG_BYTES = 10_000_000
LAST_LINES = 5

#: Who counts as the starter: honcho runs each service below a helper process of its own.
Starter = Literal["honcho", "parent", "nobody"]


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
    starter : {"honcho", "parent", "nobody"}
        Whose end ends the service too.
    """

    def __init__(
        self, name: str, command: list[str], var: Path, *, after: list[str], starter: Starter
    ) -> None:
        self.name, self.command, self.after = name, command, after
        self.run_dir, self.log_path = var / "run", var / "log" / f"{name}.log"
        self.echo = os.environ.get("TERRAFLOW_ECHO") != "0"
        self.starter = starter
        self.lineage = lineage(starter)
        self.stopping = False
        self.restarts = 0
        self.ends: deque[float] = deque()
        self.last_lines: deque[str] = deque(maxlen=LAST_LINES)
        self.child: subprocess.Popen[bytes] | None = None
        self.log: IO[bytes] | None = None
        self.selector = selectors.DefaultSelector()
        self.manager_pid = self.lineage[-1] if self.lineage else os.getpid()

    def run(self) -> int:
        """Run until told to stop; return the exit code."""
        os.umask(0o077)  # services write secrets of their own, JupyterLab's page with its token
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        self._catch_signals()
        adopt_orphans()
        self._say("waiting", "waits for " + " and ".join(self.after) if self.after else "")
        while not self.stopping and not all(answers(url) for url in self.after):
            self._tick(0.3)
        while not self.stopping:
            self._start()
            code = self._wait()
            self._end_leftovers()
            if self.stopping:
                break
            self._after_end(code)
        self._say("stopped")
        return 0

    def _start(self) -> None:
        self._open_log()
        try:
            self.child = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=die_with_parent,
            )
        except OSError as error:
            self.child = None
            self._write(f"{self.command[0]} can't be run: {error.strerror}\n".encode())
            return
        self._say("running")
        assert self.child.stdout  # noqa: S101 - for the type checker
        os.set_blocking(self.child.stdout.fileno(), False)
        self.selector.register(self.child.stdout, selectors.EVENT_READ)

    def _open_log(self) -> None:
        """Open the log; a long one becomes NAME.log.1 in place of the one before."""
        if self.log:
            self.log.close()
        if self.log_path.exists() and self.log_path.stat().st_size > MAX_LOG_BYTES:
            self.log_path.replace(self.log_path.with_suffix(".log.1"))
        self.log = self.log_path.open("ab", buffering=0)

    def _wait(self) -> int:
        """Pass output on until the service ends, or end it; return its exit code."""
        if not self.child:
            return 127
        while self.child.poll() is None and not self.stopping:
            self._tick(TICK_S)
        if self.stopping:
            self._terminate()
        self._drain()
        assert self.child.stdout  # noqa: S101 - for the type checker
        self.selector.unregister(self.child.stdout)
        self.child.stdout.close()
        return self.child.wait()

    def _terminate(self) -> None:
        assert self.child  # noqa: S101 - for the type checker
        self.child.terminate()
        deadline = time.monotonic() + GRACE_S
        while self.child.poll() is None and time.monotonic() < deadline:
            self._tick(0.1)
        if self.child.poll() is None:
            self.child.kill()

    def _end_leftovers(self) -> None:
        """Kill what the service left behind: a new one would find its port or files taken."""
        if self.child:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.child.pid, signal.SIGKILL)
        for process in psutil.Process().children(recursive=True):
            with suppress(psutil.Error):
                process.kill()
                process.wait(timeout=1)
        if self.log:
            self.log.close()
            self.log = None

    def _after_end(self, code: int) -> None:
        self.ends.append(time.monotonic())
        how = f"was killed by signal {-code}" if code < 0 else f"exited with code {code}"
        last = " | ".join(self.last_lines)
        pause = pause_before_restart(self.ends, self.ends[-1])
        if pause is None:
            reason = (
                f"{how} after {MAX_RESTARTS} restarts in {WINDOW_S / 60:.0f} minutes; "
                f"last lines: {last}; log: {self.log_path}"
            )
            self._say("failed", reason)
            while not self.stopping:
                self._tick(TICK_S)
            return
        self._say("restarting", f"{how}, restarts in {pause:.0f} s; last lines: {last}")
        until = time.monotonic() + pause
        while not self.stopping and time.monotonic() < until:
            self._tick(min(TICK_S, max(0.0, until - time.monotonic())))
        self.restarts += 1

    def _tick(self, timeout_s: float) -> None:
        """Pass output on for a while; notice signals and the end of whoever started this."""
        for key, _ in self.selector.select(timeout_s):
            if key.data == "wake":
                os.read(key.fd, 4096)
            else:
                self._drain()
        if self.lineage != lineage(self.starter) or 1 in self.lineage:
            self.stopping = True

    def _drain(self) -> None:
        assert self.child and self.child.stdout  # noqa: S101, PT018 - for the type checker
        while True:
            try:
                chunk = os.read(self.child.stdout.fileno(), 65536)
            except (BlockingIOError, ValueError):
                return
            if not chunk:
                if self.stopping or self.child.poll() is not None:
                    return
                time.sleep(0.05)  # it closed its output but lives: do not spin
                return
            self._write(chunk)

    def _write(self, chunk: bytes) -> None:
        self.last_lines.extend(
            line for line in chunk.decode(errors="replace").splitlines() if line.strip()
        )
        try:
            if self.log:
                self.log.write(chunk)
                if self.log.tell() > MAX_LOG_BYTES:
                    self._open_log()
        except OSError:  # a full disk must not end a service that could go on
            pass
        if self.echo:
            self._print(chunk)

    def _print(self, chunk: bytes) -> None:
        try:
            sys.stdout.buffer.write(chunk)
            sys.stdout.buffer.flush()
        except OSError:  # whoever read it is gone; _tick notices
            pass

    def _say(self, phase: Phase, reason: str = "") -> None:
        """Write the state file, and tell the reader of the terminal if the service is not well."""
        pid = self.child.pid if self.child and phase == "running" else None
        state = ServiceState(
            self.name, phase, pid, os.getpid(), self.manager_pid, self.restarts, time.time(), reason
        )
        try:
            state.write(self.run_dir)
        except Exception as error:
            self._print(f"{error}\n".encode())
        if phase in ("restarting", "failed"):
            self._print(f"{self.name} {reason}\n".encode())

    def _catch_signals(self) -> None:
        def stop(_signum: int, _frame: object) -> None:
            self.stopping = True

        read, write = os.pipe()
        os.set_blocking(read, False)
        os.set_blocking(write, False)
        signal.set_wakeup_fd(write)
        self.selector.register(read, selectors.EVENT_READ, "wake")
        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGINT, stop)
        signal.signal(signal.SIGCHLD, lambda _signum, _frame: None)


def lineage(starter: Starter) -> tuple[int, ...]:
    """Process ids from the parent up to the starter; they change when one of them ends."""
    parent = os.getppid()
    if starter == "honcho":
        try:
            return parent, psutil.Process(parent).ppid()
        except psutil.Error:
            return parent, 1
    return (parent,) if starter == "parent" else ()


def main(arguments: list[str]) -> int:
    """Run `[--starter WHO] NAME COMMAND...`; {names} in the command are filled from TERRAFLOW_*."""
    if os.environ.get("TERRAFLOW_RESOLVED") != "1":
        _resolve_first(arguments)
    starter: Starter = "honcho"
    if arguments[0] == "--starter":
        starter, arguments = arguments[1], arguments[2:]  # type: ignore[assignment]
    name, *command = arguments
    values = {
        key.removeprefix("TERRAFLOW_").lower(): value
        for key, value in os.environ.items()
        if key.startswith("TERRAFLOW_")
    }
    var = Path(values["var"])
    lock = Lock(var / "run" / f"{name}.lock")
    for _ in range(10):  # whoever looks whether it is held holds it for that moment
        if lock.acquire():
            break
        time.sleep(0.1)
    else:
        print(  # noqa: T201 - this is what the terminal shows
            f"{name} already runs in {var} (pid {lock.holder()}); stop it with `invoke down`.",
            flush=True,
        )
        return 1
    after = values.get("after_" + name.replace("-", "_"), "").split()
    words = [word.format_map(values) for word in command]
    return Supervisor(name, words, var, after=after, starter=starter).run()


def _resolve_first(arguments: list[str]) -> NoReturn:
    """Get ports and paths from the settings: plain `honcho start` has not done so."""
    os.execv(sys.executable, [sys.executable, "-m", "terraflow.services", *arguments])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
