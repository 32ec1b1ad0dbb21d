"""Tasks of the model server: serve, predict, envs."""

from __future__ import annotations

from invoke.context import Context

from terraflow.console import command, say, table
from terraflow.tasks.task import Number, task

__all__ = ["envs", "predict", "serve"]


@task(
    help={
        "run_id": "the run whose model to serve",
        "model": "any model URI, as models:/land-cover@champion or s3://...",
        "follow": "with an alias: serve each version that it moves to",
        "isolated": "in an environment of the model's own",
        "here": "in the stack's environment, even if the model's differs",
        "maps": "answer requests for maps, too",
        "plain": "by MLflow's own server",
        "curl": "write the command that asks it into this file, too",
        "trust": "load it even if that runs code",
        "detach": "return when it answers",
    }
)
def serve(
    c: Context,
    run_id: str = "",
    model: str = "",
    follow: bool = False,
    isolated: bool = False,
    here: bool = False,
    maps: bool = False,
    plain: bool = False,
    curl: str = "",
    trust: bool = False,
    detach: bool = False,
) -> int:
    """Serve a model over HTTP."""
    from terraflow import settings
    from terraflow.errors import ConfigError
    from terraflow.serving.serve import serve

    if isolated and here:
        raise ConfigError("--isolated and --here contradict each other; leave out one of them.")
    return serve(
        settings.load(),
        run_id=run_id,
        model_uri=model,
        curl=curl,
        trust=trust,
        follow=follow,
        isolated=isolated or (False if here else None),
        maps=maps,
        plain=plain,
        detach=detach,
    )


@task(help={"input": "CSV or JSON with the model's columns"})
def predict(c: Context, input: str) -> None:
    """Ask the running model server, and print a prediction for each row."""
    from terraflow import settings
    from terraflow.serving import client

    for name in client.predict(settings.load(), input):
        say(name)


@task(help={"prune": "remove all but the last N used", "kept": "N, 3 by default"})
def envs(c: Context, prune: bool = False, kept: int = Number(3)) -> None:
    """List the environments of models, or remove old ones."""
    from terraflow import settings
    from terraflow.serving import environments

    stack = settings.load()
    if prune:
        removed = environments.prune(stack, kept=kept)
        say(f"Removed {len(removed)}.")
    found = environments.find_environments(stack)
    if not found:
        say(f"There is no environment of a model; `{command('serve', '--isolated')}` makes one.")
        return
    header = ("id", "used", "packages", "MB", "folder")
    table(header, [environment.cells() for environment in found])
