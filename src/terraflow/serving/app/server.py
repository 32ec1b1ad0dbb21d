"""The model server's process: it loads what it is told, and serves it on a socket it was given."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvicorn
from fastapi.concurrency import run_in_threadpool
from threadpoolctl import threadpool_limits

from terraflow.serving.app.application import create_app
from terraflow.serving.app.guard import Limits
from terraflow.serving.app.model.served import Current, load
from terraflow.serving.app.protocol import PatientProtocol

if TYPE_CHECKING:
    from terraflow.serving.app.model.log import RequestLog
    from terraflow.serving.app.model.maps import Mapper

__all__ = ["main"]

LOG = logging.getLogger("uvicorn.error")


def limits_of(options: Mapping[str, Any]) -> Limits:
    """Take limits from options as the parent writes them; of others it knows, none is here."""
    known = {field.name for field in fields(Limits)} - {"hosts", "token"}
    token_file = options.get("token_file")
    token = Path(token_file).read_text().split()[-1] if token_file else ""
    return Limits(token=token, **{key: options[key] for key in known & options.keys()})


def _mapper(options: Mapping[str, Any]) -> Mapper | None:
    if not options.get("maps"):
        return None
    from terraflow.serving.app.model.maps import Mapper  # noqa: PLC0415 - slow, and few want maps

    return Mapper()


def _log(options: Mapping[str, Any]) -> RequestLog | None:
    if not options.get("log_share"):
        return None
    from terraflow.serving.app.model.log import RequestLog  # noqa: PLC0415 - few want it

    return RequestLog(options["log_share"])


class _Server(uvicorn.Server):
    """Loads what its parent names, and ends without cutting off a client when SIGUSR1 says so.

    Parameters
    ----------
    load : callable
        Takes the folder, name and version of a model, and serves it.
    answer_fd : int
        Where to write what became of it.
    log : RequestLog
        Is closed at the end.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        load: Callable[..., None],
        answer_fd: int | None,
        log: RequestLog | None,
    ) -> None:
        super().__init__(config)
        self._load, self._answer_fd, self._log = load, answer_fd, log
        self._commands: asyncio.Task[None]

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self._answer_fd is not None:
            asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, self._drain)
            self._commands = asyncio.create_task(self._obey())
            answer(self._answer_fd)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await super().shutdown(sockets)
        if self._log:
            self._log.close()

    async def _obey(self) -> None:
        """Load what each line of the input names; its end is the parent's."""
        lines = asyncio.StreamReader()
        loop = asyncio.get_running_loop()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
        while line := await lines.readline():
            try:
                await run_in_threadpool(self._load, **json.loads(line))
            except Exception as error:
                LOG.exception("The model can't be served.")
                answer(self._answer_fd, error)
            else:
                answer(self._answer_fd)
        self.should_exit = True

    def _drain(self) -> None:
        PatientProtocol.drains = self.should_exit = True


def answer(answer_fd: int | None, problem: Exception | None = None) -> None:
    """Tell the parent that a model is served, or why it is not."""
    if answer_fd is not None:
        told = {"problem": " ".join(str(problem).split())} if problem else {}
        os.write(answer_fd, json.dumps(told).encode() + b"\n")


def main() -> None:
    """Load a model, try it, and serve it.

    Options that it does not know are left aside: the parent may be of a newer release.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model-uri", help="else the parent names it by a line of the input")
    parser.add_argument("--name", default="", help="in the registry")
    parser.add_argument("--version", default="", help="in the registry")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--fd", type=int, help="of a listening socket, instead of host and port")
    parser.add_argument("--answer-fd", type=int, help="where to tell the parent what it asks")
    parser.add_argument("--options", type=json.loads, default={}, help="limits, as JSON")
    words, _ = parser.parse_known_args()
    first = {"folder": words.model_uri, "name": words.name, "version": words.version}
    if words.model_uri is None:
        first = json.loads(os.read(0, 65536))  # not by sys.stdin, which would read ahead
    try:
        current = Current(load(**first))
    except Exception as error:
        LOG.exception("The model can't be served.")
        answer(words.answer_fd, error)
        sys.exit(1)
    log = _log(words.options)
    config = uvicorn.Config(
        create_app(current, limits_of(words.options), _mapper(words.options), log),
        host=words.host,
        port=words.port,
        access_log=False,
        http=PatientProtocol,
    )
    sockets = None if words.fd is None else [socket.socket(fileno=words.fd)]
    # threads of BLAS, once done, spin for a while on the cores that the next request needs
    with threadpool_limits(limits=1, user_api="blas"):
        _Server(config, current.load, words.answer_fd, log).run(sockets)


if __name__ == "__main__":
    main()
