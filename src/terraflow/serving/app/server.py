"""The model server: MLflow's scoring protocol, with input errors that name the column.

`mlflow models serve` drops unknown columns silently and reports text in a number's place by a
traceback; this server answers both with status 400 and a sentence. Everything else is as there:
/ping, /health, /version and /invocations with JSON, CSV or Parquet. /ready and /metrics are new.
"""

from __future__ import annotations

import argparse
import json
import logging
import time

import mlflow
import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from threadpoolctl import threadpool_limits

from terraflow.credentials import read_token
from terraflow.serving.app.guard import Guard, Limits, Queue, RefusedError, read_body, refusal
from terraflow.serving.app.metrics import Metrics
from terraflow.serving.app.page import describe, show
from terraflow.serving.app.protocol import PatientProtocol
from terraflow.serving.app.served import Served, load
from terraflow.serving.app.table import InputError
from terraflow.settings import Settings
from terraflow.settings import load as load_settings

__all__ = ["create_app"]

LOG = logging.getLogger("uvicorn.error")
JSON = "application/json"
#: Of the page: it loads nothing, and is shown in no other page.
POLICY = (
    "default-src 'none'; connect-src 'self'; script-src 'unsafe-inline'; "
    "style-src 'unsafe-inline'; frame-ancestors 'none'"
)


def create_app(served: Served, limits: Limits = Limits()) -> FastAPI:  # noqa: B008 - frozen
    """Make the web application.

    Parameters
    ----------
    served : Served
        The model.
    limits : Limits
        What one request, and all of them, may ask.
    """
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    queue, metrics = Queue(limits), Metrics()
    app.add_middleware(Guard, limits=limits, count=metrics.count)
    metrics.waiting.set_function(lambda: queue.requests)
    metrics.show_model(served.name, served.version, served.run)

    async def answer(request: Request) -> Response:
        content_type = request.headers.get("content-type", "").partition(";")[0].strip()
        with queue.place() as place:
            body = await read_body(request, place)
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
        return Response("\n", media_type=JSON, headers=served.headers)

    @app.get("/version")
    async def version() -> Response:
        return Response(mlflow.__version__, media_type=JSON)

    @app.get("/openapi.json")
    async def described() -> Response:
        return Response(
            json.dumps(describe(served.schema, served.sample, served.title)), media_type=JSON
        )

    @app.get("/")
    async def page() -> Response:
        shown = show(served.schema, served.sample, served.title, served.note)
        return Response(shown, media_type="text/html", headers={"Content-Security-Policy": POLICY})

    @app.get("/metrics")
    async def measured() -> Response:
        return Response(metrics.text(), media_type="text/plain; version=0.0.4")

    return app


def limits_of(settings: Settings) -> Limits:
    """Read the limits from the stack's settings."""
    serving = settings.serving
    return Limits(
        body_bytes=serving.max_body_mb * 2**20,
        rows=serving.max_rows,
        queue=serving.max_queue,
        body_s=serving.body_s,
        token=read_token(settings),
    )


def main() -> None:
    """Load a model and serve it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model-uri", required=True)
    parser.add_argument("--name", default="", help="in the registry")
    parser.add_argument("--version", default="", help="in the registry")
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args()
    served = load(options.model_uri, options.name, options.version)
    app = create_app(served, limits_of(load_settings(running=False)))
    # threads of BLAS, once done, spin for a while on the cores that the next request needs
    with threadpool_limits(limits=1, user_api="blas"):
        uvicorn.run(
            app, host=options.host, port=options.port, access_log=False, http=PatientProtocol
        )


if __name__ == "__main__":
    main()
