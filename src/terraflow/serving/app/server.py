"""The model server: MLflow's scoring protocol, with input errors that name the column.

`mlflow models serve` drops unknown columns silently and reports text in a number's place by a
traceback; this server answers both with status 400 and a sentence. Everything else is as there:
/ping, /health, /version and /invocations with JSON, CSV or Parquet. /ready and /metrics are new.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import mlflow
import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from threadpoolctl import threadpool_limits

from terraflow.serving.app.guard import Guard, Limits, Queue, RefusedError, read_body, refusal
from terraflow.serving.app.metrics import Metrics
from terraflow.serving.app.page import describe, show
from terraflow.serving.app.protocol import PatientProtocol
from terraflow.serving.app.served import Current, load
from terraflow.serving.app.table import InputError

__all__ = ["create_app"]

LOG = logging.getLogger("uvicorn.error")
JSON = "application/json"
#: Of the page: it loads nothing, and is shown in no other page.
POLICY = (
    "default-src 'none'; connect-src 'self'; script-src 'unsafe-inline'; "
    "style-src 'unsafe-inline'; frame-ancestors 'none'"
)


def create_app(current: Current, limits: Limits = Limits()) -> FastAPI:  # noqa: B008 - frozen
    """Make the web application.

    Parameters
    ----------
    current : Current
        The model; each request keeps the one that is there when it comes.
    limits : Limits
        What one request, and all of them, may ask.
    """
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    queue, metrics = Queue(limits), Metrics()
    app.add_middleware(Guard, limits=limits, count=metrics.count)
    metrics.waiting.set_function(lambda: queue.requests)
    metrics.show(lambda: current.swaps, lambda: current.served)

    async def answer(request: Request) -> Response:
        content_type = request.headers.get("content-type", "").partition(";")[0].strip()
        with queue.place() as place:
            body = await read_body(request, place)
            served = current.served
            text, rows = await run_in_threadpool(
                served.answer, body, content_type, max_rows=limits.rows
            )
        metrics.rows.inc(rows)
        return Response(text, media_type=JSON, headers=served.headers)

    @app.post("/invocations")
    async def invocations(request: Request) -> Response:
        began = time.perf_counter()
        try:
            response = await answer(request)
        except RefusedError as error:
            response = refusal(error)
        except InputError as error:
            response = refusal(RefusedError(error.status, str(error)))
        except Exception:
            LOG.exception("The model failed.")
            response = refusal(RefusedError(500, "The model failed; the server's log says why."))
        metrics.seconds.observe(time.perf_counter() - began)
        metrics.count(response.status_code)
        return response

    @app.get("/ping")
    @app.get("/health")
    async def health() -> Response:
        return Response("\n", media_type=JSON)

    @app.get("/ready")
    async def ready() -> Response:
        return Response("\n", media_type=JSON, headers=current.served.headers)

    @app.get("/version")
    async def version() -> Response:
        return Response(mlflow.__version__, media_type=JSON)

    @app.get("/openapi.json")
    async def described() -> Response:
        served = current.served
        return Response(
            json.dumps(describe(served.schema, served.sample, served.title)), media_type=JSON
        )

    @app.get("/")
    async def page() -> Response:
        served = current.served
        shown = show(served.schema, served.sample, served.title, served.note)
        return Response(shown, media_type="text/html", headers={"Content-Security-Policy": POLICY})

    @app.get("/metrics")
    async def measured() -> Response:
        return Response(metrics.text(), media_type="text/plain; version=0.0.4")

    return app


def limits_of(options: Mapping[str, Any]) -> Limits:
    """Take limits from options as the parent writes them; of others it knows, none is here."""
    known = {field.name for field in fields(Limits)} - {"hosts", "token"}
    token_file = options.get("token_file")
    token = Path(token_file).read_text().split()[-1] if token_file else ""
    return Limits(token=token, **{key: options[key] for key in known & options.keys()})


class _Server(uvicorn.Server):
    """Loads what its parent names, and ends without cutting off a client when SIGUSR1 says so.

    Parameters
    ----------
    load : callable
        Takes the folder, name and version of a model, and serves it.
    answer_fd : int
        Where to write what became of it.
    """

    def __init__(
        self, config: uvicorn.Config, load: Callable[..., None], answer_fd: int | None
    ) -> None:
        super().__init__(config)
        self._load, self._answer_fd = load, answer_fd
        self._commands: asyncio.Task[None]

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self._answer_fd is not None:
            asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, self._drain)
            self._commands = asyncio.create_task(self._obey())
            answer(self._answer_fd)

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
    config = uvicorn.Config(
        create_app(current, limits_of(words.options)),
        host=words.host,
        port=words.port,
        access_log=False,
        http=PatientProtocol,
    )
    sockets = None if words.fd is None else [socket.socket(fileno=words.fd)]
    # threads of BLAS, once done, spin for a while on the cores that the next request needs
    with threadpool_limits(limits=1, user_api="blas"):
        _Server(config, current.load, words.answer_fd).run(sockets)


if __name__ == "__main__":
    main()
