"""The routes: MLflow's scoring protocol, with input errors that name the column.

`mlflow models serve` drops unknown columns silently and reports text in a number's place by a
traceback; this server answers both with status 400 and a sentence. Everything else is as there:
/ping, /health, /version and /invocations with JSON, CSV or Parquet. /ready, /metrics and /map are
new.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING
from uuid import uuid4

import mlflow
from fastapi import FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool

from terraflow.errors import ServiceError
from terraflow.serving.app.guard import Guard, Limits, Queue, RefusedError, read_body, refusal
from terraflow.serving.app.metrics import Metrics
from terraflow.serving.app.model.served import Current
from terraflow.serving.app.model.table import InputError
from terraflow.serving.app.page import describe, show

if TYPE_CHECKING:
    from terraflow.serving.app.model.log import RequestLog
    from terraflow.serving.app.model.maps import Mapper

__all__ = ["create_app"]

Answer = Callable[[Request], Awaitable[Response]]

LOG = logging.getLogger("uvicorn.error")
JSON = "application/json"
COG = "image/tiff; application=geotiff; profile=cloud-optimized"
#: Of the page: it loads nothing, and is shown in no other page.
POLICY = (
    "default-src 'none'; connect-src 'self'; script-src 'unsafe-inline'; "
    "style-src 'unsafe-inline'; frame-ancestors 'none'"
)


def create_app(
    current: Current,
    limits: Limits = Limits(),  # noqa: B008 - frozen
    mapper: Mapper | None = None,
    log: RequestLog | None = None,
) -> FastAPI:
    """Make the web application.

    Parameters
    ----------
    current : Current
        The model; each request keeps the one that is there when it comes.
    limits : Limits
        What one request, and all of them, may ask.
    mapper : Mapper, optional
        Answers /map.
    log : RequestLog, optional
        Keeps a share of requests and answers.
    """
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    queue, metrics = Queue(limits), Metrics()
    app.add_middleware(Guard, limits=limits, count=metrics.count)
    metrics.waiting.set_function(lambda: queue.requests)
    metrics.show(lambda: current.swaps, lambda: current.served)

    async def answer(request: Request) -> Response:
        with queue.place() as place:
            body = await read_body(request, place)
            served = current.served
            given = await run_in_threadpool(
                served.answer, body, _content_type(request), max_rows=limits.rows
            )
        metrics.rows.inc(len(given.table))
        headers = served.headers
        if log:
            headers |= {"terraflow-request": _request_id(request)}
            log.add(served, given, headers["terraflow-request"])
        return Response(given.text, media_type=JSON, headers=headers)

    async def counted(
        answer: Callable[[Request], Awaitable[Response]], request: Request
    ) -> Response:
        began = time.perf_counter()
        try:
            response = await answer(request)
        except RefusedError as error:
            response = refusal(error)
        except InputError as error:
            response = refusal(RefusedError(error.status, str(error)))
        except ServiceError as error:
            response = refusal(RefusedError(503, str(error)))
        except Exception:
            LOG.exception("The model failed.")
            response = refusal(RefusedError(500, "The model failed; the server's log says why."))
        metrics.seconds.observe(time.perf_counter() - began)
        metrics.count(response.status_code)
        return response

    @app.post("/invocations")
    async def invocations(request: Request) -> Response:
        return await counted(answer, request)

    if mapper:
        one_at_a_time = asyncio.Semaphore(1)  # a map takes all cores by itself

        async def answer_by_map(request: Request) -> Response:
            with queue.place() as place:
                body = await read_body(request, place)
                served = current.served
                async with one_at_a_time:
                    made = await run_in_threadpool(
                        mapper.map, served, body, _content_type(request), request.query_params
                    )
            return Response(made, media_type=COG, headers=served.headers)

        @app.post("/map")
        async def make_map(request: Request) -> Response:
            return await counted(answer_by_map, request)

    _tell(app, current, metrics)
    return app


def _tell(app: FastAPI, current: Current, metrics: Metrics) -> None:
    """Add the routes by which the server tells of itself."""

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


def _content_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip()


def _request_id(request: Request) -> str:
    """Take the id that the client gave, where it is one, or make one."""
    given = request.headers.get("x-request-id", "")
    return given if re.fullmatch(r"[\w.:-]{1,100}", given, re.ASCII) else uuid4().hex
