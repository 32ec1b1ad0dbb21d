"""A process that serves versions of a model on a socket it was given.

It is told by lines of JSON what to load, and answers each by a line: {} when that version answers
requests, or {"problem": "..."}.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from contextlib import suppress
from typing import Any

from terraflow.process.child_processes import die_with_parent
from terraflow.stack.model_server import ServedModel

__all__ = ["Loading", "ServerProcess"]

START_S = 120.0
#: In which requests in flight must have been answered once another process has taken over.
DRAIN_S = 120.0
END_S = 3.0  # the supervisor kills after 4 s


class ServerProcess:
    """A process of `terraflow.serving.app.server`.

    Parameters
    ----------
    python : str
        Interpreter of its environment.
    listener : socket
        It accepts connections of it, as may others meanwhile.
    options : dict
        For the server; one of another release of TerraFlow leaves aside what it does not know.
    """

    def __init__(self, python: str, listener: socket.socket, options: dict[str, object]) -> None:
        self._answers, theirs = os.pipe()
        os.set_blocking(self._answers, False)
        self._said = b""
        self._ended = False
        self._deadline = 0.0
        words = ["--fd", str(listener.fileno()), "--answer-fd", str(theirs)]
        words += ["--options", json.dumps(options)]
        try:
            self._process = subprocess.Popen(
                [python, "-m", "terraflow.serving.app.server", *words],
                pass_fds=(listener.fileno(), theirs),
                stdin=subprocess.PIPE,
                preexec_fn=die_with_parent,
            )
        finally:
            os.close(theirs)

    def load(self, model: ServedModel) -> Loading:
        """Tell it to serve another version; what it serves goes on until that is loaded."""
        told = {"folder": model.folder, "name": model.name, "version": model.version}
        assert self._process.stdin  # noqa: S101 - for the type checker
        with suppress(BrokenPipeError):  # it has ended, which `Loading.look` finds out
            self._process.stdin.write(json.dumps(told).encode() + b"\n")
            self._process.stdin.flush()
        return Loading(self, model)

    def answer(self) -> dict[str, Any] | None:
        """Give its next answer, or None where there is none yet."""
        with suppress(BlockingIOError):
            while not self._ended and (chunk := os.read(self._answers, 4096)):
                self._said += chunk
        line, end, rest = self._said.partition(b"\n")
        if not end:
            return None
        self._said = rest
        return dict(json.loads(line))

    def how_it_ended(self) -> str:
        """Tell how it ended, or "" while it runs."""
        code = self._process.poll()
        if code is None:
            return ""
        return f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"

    def drain(self) -> None:
        """Let it answer what it has, and take nothing more."""
        self._deadline = time.monotonic() + DRAIN_S
        self._process.send_signal(signal.SIGUSR1)

    def has_drained(self) -> bool:
        """Tell whether it has ended after `drain`; it is killed when that takes too long."""
        if time.monotonic() > self._deadline:
            self._process.kill()
        return bool(self.how_it_ended())

    def terminate(self) -> None:
        """Ask it to end now."""
        self._process.terminate()

    def end(self) -> None:
        """End it, and give back what is left of it; a second time does nothing."""
        if self._ended:
            return
        self._ended = True
        self.terminate()
        try:
            self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._answers)
        assert self._process.stdin  # noqa: S101 - for the type checker
        with suppress(BrokenPipeError):
            self._process.stdin.close()


class Loading:
    """A version that a process was told to load.

    Attributes
    ----------
    process : ServerProcess
    model : ServedModel
    is_ready : bool
        Whether it answers requests.
    problem : str
        Why it never will, or "".
    """

    def __init__(self, process: ServerProcess, model: ServedModel) -> None:
        self.process, self.model = process, model
        self.is_ready, self.problem = False, ""
        self._deadline = time.monotonic() + START_S

    def look(self) -> None:
        """Find out whether it answers by now."""
        if self.is_ready or self.problem:
            return
        how = self.process.how_it_ended()  # before its last answer is read
        if (answer := self.process.answer()) is not None:
            self.problem = answer.get("problem", "")
            self.is_ready = not self.problem
        elif how:
            self.problem = f"its process {how}"
        elif time.monotonic() > self._deadline:
            self.problem = f"it is not loaded after {START_S:.0f} s"
