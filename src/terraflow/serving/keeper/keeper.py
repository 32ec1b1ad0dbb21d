"""Hold the model server's socket, and keep one version of a model answering on it.

A version of the same environment is loaded by the process that answers, beside the one it serves.
Another one gets a process of its own, which answers on the same socket before the old one is told
to take no more. While a process that died is started again, requests wait in the socket. When this
process is killed, its children end with it.
"""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections import deque
from dataclasses import replace

from terraflow.console import say
from terraflow.credentials import token_file
from terraflow.errors import StorageError
from terraflow.process.supervisor import pause_before_restart
from terraflow.serving.keeper.alias import RETRY_S, Alias, Preparation
from terraflow.serving.keeper.server_process import Loading, ServerProcess
from terraflow.serving.models import remove_copies
from terraflow.settings import Settings, load
from terraflow.stack.model_server import ServedModel

__all__ = ["Keeper", "main"]

TICK_S = 0.1
BACKLOG = 2048


class Keeper:
    """The versions of a model that answer, are about to, or do no more.

    Parameters
    ----------
    listener : socket
        It listens.
    model : ServedModel
        The first to be served.

    Attributes
    ----------
    stopping : bool
        Set it to end.
    """

    def __init__(self, settings: Settings, listener: socket.socket, model: ServedModel) -> None:
        self.settings, self.listener = settings, listener
        self.stopping = False
        self.model = model
        self.alias = Alias(settings, model.way.follows) if model.way.follows else None
        self.current: Loading | None = None
        self.next: Preparation | Loading | None = None
        self.drained: list[Loading] = []
        self._tags: list[subprocess.Popen[bytes]] = []
        self._ends: deque[float] = deque()
        self._start_at = 0.0
        self._retry: dict[str, float] = {}

    def run(self) -> int:
        """Serve until `stopping`.

        Returns
        -------
        int
            1 where the model can't be served.
        """
        try:
            while not self.stopping:
                if not self._tend_current():
                    return 1
                if self.alias:
                    self._follow(self.alias)
                self._tend_drained()
                time.sleep(TICK_S)
        finally:
            self._end()
        return 0

    def _tend_current(self) -> bool:
        """Start what is to answer; return whether there is hope."""
        if not self.current:
            if time.monotonic() >= self._start_at:
                self.current = self._start(self.model)
            return True
        was_ready = self.current.is_ready
        self.current.look()
        if self.current.problem:
            say(f"{self.model.title} can't be served: {self.current.problem}")
            return False
        if self.current.is_ready and not was_ready:
            say(f"{self.model.title} is served")
        how = self.current.process.how_it_ended()
        return not how or self._has_died(self.current, how)

    def _has_died(self, current: Loading, how: str) -> bool:
        self._ends.append(time.monotonic())
        pause = pause_before_restart(self._ends, self._ends[-1])
        if pause is None:
            say(f"The process of {self.model.title} {how}, too often")
            return False
        say(f"The process of {self.model.title} {how}; it is started again in {pause:.0f} s")
        current.process.end()
        self.current, self._start_at = None, time.monotonic() + pause
        return True

    def _follow(self, alias: Alias) -> None:
        """Take over what the alias points at, once it answers."""
        if isinstance(self.next, Preparation):
            if self.next.look():
                self._prepared(alias, self.next)
        elif self.next:
            self.next.look()
            if self.next.is_ready:
                self._take_over(alias, self.next)
            elif self.next.problem:
                failed, self.next = self.next, None
                if not self.current or failed.process is not self.current.process:
                    failed.process.end()
                self._refuse(alias, failed.model.version, failed.problem)
        elif self.current and self.current.is_ready and (version := alias.look()):
            self._moved(alias, version)

    def _moved(self, alias: Alias, version: str) -> None:
        waits = time.monotonic() < self._retry.get(version, 0.0)
        known = version in self.model.refused and version not in self._retry
        if version == self.model.version:
            if self.model.refused:  # the alias has come back: what it left may be tried anew
                self._serve(replace(self.model, refused={}))
        elif not waits and not known:
            say(f"{self.model.way.follows} points at version {version}, which is copied")
            self.next = Preparation(self.settings, alias, version)

    def _prepared(self, alias: Alias, prepared: Preparation) -> None:
        self.next = None
        if prepared.model:
            model = replace(prepared.model, shown=self.model.shown)
            if self.current and model.shares_process_with(self.model):
                self.next = self.current.process.load(model)
            else:
                self.next = self._start(model)
            return
        if prepared.passing:
            self._retry[prepared.version] = time.monotonic() + RETRY_S
        self._refuse(alias, prepared.version, prepared.problem)

    def _take_over(self, alias: Alias, new: Loading) -> None:
        old, self.current, self.next = self.current, new, None
        self._retry.clear()
        self._ends.clear()
        self._serve(new.model)
        if old and old.process is not new.process:
            old.process.drain()
            self.drained.append(old)
        self._remove_copies()
        say(f"{new.model.title} is served")
        self._tags.append(alias.tag(new.model.version, f"served since {_now()}"))

    def _refuse(self, alias: Alias, version: str, problem: str) -> None:
        told = self.model.refused.get(version)
        self._serve(replace(self.model, refused={version: problem}))
        self._remove_copies()
        if told != problem:
            say(f"Version {version} is not taken, {self.model.title} goes on: {problem}")
            self._tags.append(alias.tag(version, f"refused at {_now()}: {problem}"))

    def _serve(self, model: ServedModel) -> None:
        self.model = model
        try:
            model.save(self.settings)
        except StorageError as error:  # as of a full disk: requests are answered all the same
            say(str(error))

    def _start(self, model: ServedModel) -> Loading:
        serving = self.settings.serving
        options: dict[str, object] = {
            "body_bytes": serving.max_body_mb * 2**20,
            "rows": serving.max_rows,
            "queue": serving.max_queue,
            "body_s": serving.body_s,
            "maps": model.way.maps,
            "log_share": serving.log_share,
        }
        if serving.token:
            options["token_file"] = str(token_file(self.settings))
        return ServerProcess(model.python, self.listener, options).load(model)

    def _tend_drained(self) -> None:
        self._tags = [tag for tag in self._tags if tag.poll() is None]
        if ended := [old for old in self.drained if old.process.has_drained()]:
            for old in ended:
                old.process.end()
                self.drained.remove(old)
            self._remove_copies()

    def _remove_copies(self) -> None:
        if not isinstance(self.next, Preparation):  # which is writing one
            used = [loading.model for loading in (self.next, *self.drained) if loading]
            remove_copies(self.settings, [model.folder for model in (self.model, *used)])

    def _end(self) -> None:
        if isinstance(self.next, Preparation):
            self.next.end()
        loaded = [p for p in (self.current, self.next, *self.drained) if isinstance(p, Loading)]
        processes = list(dict.fromkeys(loading.process for loading in loaded))
        for process in processes:
            process.terminate()
        for process in processes:
            process.end()


def _now() -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S")


def main() -> int:
    """Serve what `serve` wrote down, on the port of the settings."""
    settings = load(running=False)
    model = ServedModel.read(settings)
    if not model:
        say("There is no model to serve.")
        return 1
    with socket.create_server((settings.host, settings.serving.port), backlog=BACKLOG) as listener:
        keeper = Keeper(settings, listener, model)

        def stop(_number: int, _frame: object) -> None:
            keeper.stopping = True

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, stop)
        return keeper.run()


if __name__ == "__main__":
    sys.exit(main())
