"""Tasks of the model server: serve, predict."""

from __future__ import annotations

from invoke.context import Context

from terraflow.console import say
from terraflow.tasks.task import task

__all__ = ["predict", "serve"]


@task(
    help={
        "run_id": "the run whose model to serve",
        "model": "any model URI, as models:/land-cover@champion or s3://...",
        "curl": "write the command that asks it into this file, too",
        "trust": "load it even if that runs code",
        "detach": "return when it answers",
    }
)
def serve(
    c: Context,
    run_id: str = "",
    model: str = "",
    curl: str = "",
    trust: bool = False,
    detach: bool = False,
) -> int:
    """Serve a model over HTTP."""
    from terraflow import settings
    from terraflow.serving.serve import serve

    return serve(
        settings.load(), run_id=run_id, model_uri=model, curl=curl, trust=trust, detach=detach
    )


@task(help={"input": "CSV or JSON with the model's columns"})
def predict(c: Context, input: str) -> None:
    """Ask the running model server, and print a prediction for each row."""
    from terraflow import settings
    from terraflow.serving import client

    for name in client.predict(settings.load(), input):
        say(name)
