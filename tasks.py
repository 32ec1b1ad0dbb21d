"""The tasks of TerraFlow: `invoke --list`. Each parses, calls the platform and prints."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

from invoke.collection import Collection
from invoke.context import Context
from invoke.tasks import task

from terraflow.console import report_errors, say

Body = TypeVar("Body", bound=Callable[..., Any])


def command(**options: Any) -> Callable[[Body], Any]:
    """Make a task whose errors become a sentence and an exit code."""

    def decorate(body: Body) -> Any:
        @wraps(body)
        def run(*args: Any, **kwargs: Any) -> None:
            from terraflow.config import project_root

            with report_errors(project_root() / "var" / "log"):
                if code := body(*args, **kwargs):
                    sys.exit(code)

        return task(**options)(run)

    return decorate


@command(iterable=["set_"], help={"set_": "a setting, as in --set mlflow.port=0"})
def setup(c: Context, set_: list[str]) -> None:
    """Do the first-time work; safe to repeat."""
    from terraflow import settings
    from terraflow.process import child_processes as lifeline
    from terraflow.stack import setup

    lifeline.stop_on_sigterm()
    resolved = setup.decide_store(settings.load(set_))
    setup.prepare(resolved)
    say(f"Set up: state in {resolved.var}, store {resolved.store} ({resolved.artifacts_uri}).")


@command(
    iterable=["set_"],
    help={
        "detach": "return when all is ready",
        "only": "services, as in --only mlflow,minio",
        "set_": "a setting, as in --set mlflow.port=0",
    },
)
def up(c: Context, set_: list[str], only: str = "", detach: bool = False) -> int:
    """Start the stack and say when it is ready."""
    from terraflow.stack import up as stack

    return stack.up(set_, only=[name for name in only.split(",") if name], detach=detach)


@command()
def down(c: Context) -> None:
    """Stop the stack and the model server."""
    from terraflow import settings
    from terraflow.stack import up as stack

    say("Stopped." if stack.down(settings.load()) else "Nothing was running.")


@command(help={"json": "for programs", "show_credentials": "how to log in"})
def status(c: Context, json: bool = False, show_credentials: bool = False) -> None:
    """Show state, pid, memory, restarts and URL of each service."""
    from terraflow import settings
    from terraflow.stack import status as services

    services.print_status(settings.load(), as_json=json, credentials=show_credentials)


def given(task: str, word: str) -> list[str]:
    """Make an argument positional if a word is given for it: invoke has no optional ones."""
    after = sys.argv[sys.argv.index(task) + 1 :] if task in sys.argv else []
    return [word] if any(not word.startswith("-") for word in after) else []


@command(
    positional=given("logs", "service"),
    help={"service": "one service or group, as in logs mlflow", "follow": "go on as they grow"},
)
def logs(c: Context, service: str | None = None, follow: bool = False) -> None:
    """Print the end of the logs."""
    from terraflow import settings
    from terraflow.stack import status as services

    services.print_logs(settings.load(), service or "", follow=follow)


@command(help={"yes": "do not ask"})
def reset(c: Context, yes: bool = False) -> None:
    """Delete all state, after asking."""
    from terraflow import console, settings
    from terraflow.stack import up as stack

    done = stack.reset(settings.load(), lambda loss: console.confirm(loss, yes=yes))
    say("Deleted." if done else "Nothing was deleted.")


@command()
def doctor(c: Context) -> int:
    """Check what the stack needs; each failure has its remedy."""
    from terraflow import settings
    from terraflow.stack import doctor

    return doctor.report(settings.load)


def number(text: str, option: str, kind: Callable[[str], float] = float) -> float:
    """Read a number: invoke itself would answer a wrong one with a traceback."""
    from terraflow.errors import ConfigError

    try:
        return kind(text)
    except ValueError:
        raise ConfigError(f"{option} {text!r} is no number; correct it.") from None


CONFIG = "a project file instead of config/land_cover.toml"
ITEMS = "a STAC collection in place of the configured images"
MODEL = "a model URI, as models:/land-cover/3; the champion by default"


@command(help={"config": CONFIG, "files": 'rasters without a catalogue, as "scenes/*.tif"'})
def ingest(c: Context, config: str = "", files: str = "") -> int:
    """Bring images of the area into the store."""
    from terraflow.eo import commands as job

    return job.ingest(config, files=files)


@command(help={"config": CONFIG, "items": ITEMS})
def preprocess(c: Context, config: str = "", items: str = "") -> int:
    """Make samples of images and labels, and report on the data."""
    from terraflow.eo import commands as job

    return job.preprocess(config, items=items)


@command(
    help={
        "config": CONFIG,
        "items": ITEMS,
        "tune": "search for parameters with so many trials",
        "airflow": "run it as a DAG and wait for it",
    }
)
def train(
    c: Context, config: str = "", items: str = "", tune: str = "0", airflow: bool = False
) -> int:
    """Train the land cover model; images and samples are brought up to date first."""
    from terraflow.eo import commands as job

    return job.train(config, items=items, tune=int(number(tune, "--tune", int)), airflow=airflow)


@command(help={"run_id": "the run whose model becomes the champion"})
def promote(c: Context, run_id: str) -> int:
    """Make a model the champion by hand."""
    from terraflow.eo import commands as job

    return job.promote(run_id)


@command(help={"config": CONFIG, "model": MODEL, "items": ITEMS, "output": "a GeoTIFF, as map.tif"})
def map(c: Context, config: str = "", model: str = "", items: str = "", output: str = "") -> int:
    """Map the whole area."""
    from terraflow.eo import commands as job

    return job.make_map(config, model=model, items=items, output=output)


@command(help={"config": CONFIG, "map_": "a map; the champion's of the configured images"})
def report(c: Context, config: str = "", map_: str = "") -> int:
    """Write a map's polygons, picture and areas with intervals."""
    from terraflow.eo import commands as job

    return job.make_report(config, map_uri=map_)


@command(help={"file": "a map"})
def explain(c: Context, file: str) -> int:
    """Tell where a map comes from."""
    from terraflow.eo import commands as job

    return job.explain(file)


@command(help={"file": "a map"})
def reproduce(c: Context, file: str) -> int:
    """Make a map again and compare it pixel by pixel; exit code 1 if it differs."""
    from terraflow.eo import commands as job

    return job.reproduce(file)


@command(
    help={
        "config": CONFIG,
        "model": MODEL,
        "items": ITEMS,
        "max_psi": "instead of [monitor] max_psi",
        "max_outside": "instead of [monitor] max_outside_range",
    }
)
def monitor(
    c: Context,
    config: str = "",
    model: str = "",
    items: str = "",
    max_psi: str = "",
    max_outside: str = "",
) -> int:
    """Measure the drift of new images; exit code 3 if there is one."""
    from terraflow.eo import commands as job

    return job.monitor(
        config,
        model=model,
        items=items,
        max_psi=number(max_psi, "--max-psi") if max_psi else None,
        max_outside_range=number(max_outside, "--max-outside") if max_outside else None,
    )


@command(
    help={
        "run_id": "the run whose model to serve",
        "model": "any model URI, as models:/land-cover@champion or s3://...",
        "detach": "return when it answers",
    }
)
def serve(c: Context, run_id: str = "", model: str = "", detach: bool = False) -> int:
    """Serve a model over HTTP."""
    from terraflow import settings
    from terraflow.serving import client as serving

    return serving.serve(settings.load(), run_id=run_id, model_uri=model, detach=detach)


@command(help={"input": "CSV or JSON with the model's columns"})
def predict(c: Context, input: str) -> None:
    """Ask the running model server and print class names."""
    from terraflow import settings
    from terraflow.serving import client as serving

    for name in serving.predict(settings.load(), input):
        say(name)


@command(help={"k": "only tests that match, as pytest's -k", "m": "as pytest's -m"})
def test(c: Context, k: str = "", m: str = "") -> int:
    """Run the tests."""
    from terraflow.tasks import develop

    return develop.run_tests(k, m)


@command(help={"only": "some of stack,map,serve"})
def bench(c: Context, only: str = "") -> int:
    """Measure the stack, maps and serving beside others: about an hour."""
    from terraflow.tasks import develop

    return develop.bench(only)


@command(help={"fix": "mend what can be mended"})
def lint(c: Context, fix: bool = False) -> int:
    """Check style and types."""
    from terraflow.tasks import develop

    return develop.lint(fix=fix)


@command()
def lock(c: Context) -> int:
    """Rewrite requirements.lock."""
    from terraflow.tasks import develop

    return develop.lock()


namespace = Collection(
    setup, up, down, status, logs, reset, doctor, ingest, preprocess, train, promote, map, report,
    explain, reproduce, monitor, serve, predict, test, bench, lint, lock,
)  # fmt: skip
