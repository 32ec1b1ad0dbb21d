"""Tasks of the stack: setup, up, down, status, logs, reset, database, doctor, shell, env."""

from __future__ import annotations

from invoke.context import Context

from terraflow.console import confirm, say, stop_on_sigterm
from terraflow.errors import ConfigError
from terraflow.settings import Settings
from terraflow.tasks.task import optional_argument, task

__all__ = [
    "database",
    "doctor",
    "down",
    "env",
    "logs",
    "reset",
    "setup",
    "shell",
    "status",
    "up",
]


@task(iterable=["set_"], help={"set_": "a setting, as in --set mlflow.port=0"})
def setup(c: Context, set_: list[str]) -> None:
    """Do the first-time work; safe to repeat."""
    from terraflow.stack.setup import set_up

    stop_on_sigterm()
    done = set_up(set_)
    say(f"Set up: state in {done.var}, store {done.store} ({done.artifacts_uri}).")


@task(
    iterable=["set_"],
    help={
        "detach": "return when all is ready",
        "only": "services, as in --only mlflow,minio",
        "set_": "a setting, as in --set mlflow.port=0",
    },
)
def up(c: Context, set_: list[str], only: str = "", detach: bool = False) -> int:
    """Start the stack and say when it is ready."""
    from terraflow.stack.lifecycle.up import up

    chosen = [name for name in only.split(",") if name]
    return up(set_, only=chosen, detach=detach, when_ready=_tell_abandoned)


@task()
def down(c: Context) -> None:
    """Stop the stack and the model server."""
    from terraflow import settings
    from terraflow.stack.lifecycle.down import down

    say("Stopped." if down(settings.load()) else "Nothing was running.")


@task(help={"json": "for programs", "show_credentials": "how to log in"})
def status(c: Context, json: bool = False, show_credentials: bool = False) -> None:
    """Show state, pid, memory, restarts and URL of each service."""
    from terraflow import settings
    from terraflow.stack.status import print_status

    now = settings.load()
    if not json:
        _tell_abandoned(now)
    print_status(now, as_json=json, credentials=show_credentials)


@task(
    positional=optional_argument("logs", "service"),
    help={"service": "one service or group, as in logs mlflow", "follow": "go on as they grow"},
)
def logs(c: Context, service: str | None = None, follow: bool = False) -> None:
    """Print the end of the logs."""
    from terraflow import settings
    from terraflow.stack.status import print_logs

    print_logs(settings.load(), service or "", follow=follow)


@task(help={"yes": "do not ask"})
def reset(c: Context, yes: bool = False) -> None:
    """Delete all state, after asking."""
    from terraflow import settings
    from terraflow.stack.lifecycle.reset import reset

    done = reset(settings.load(), lambda loss: confirm(loss, yes=yes))
    say("Deleted." if done else "Nothing was deleted.")


@task(positional=["action"], help={"action": "copy", "to": "postgresql"})
def database(c: Context, action: str, to: str = "") -> None:
    """Copy the databases of the stopped stack: database copy --to postgresql."""
    from terraflow.stack.lifecycle.move import move

    if action != "copy":
        raise ConfigError(f"database {action} is not known; write database copy --to postgresql.")
    move(to)


@task()
def doctor(c: Context) -> int:
    """Check what the stack needs; each failure has its remedy."""
    from terraflow import settings
    from terraflow.stack.doctor import report

    return report(settings.load)


def _tell_abandoned(settings: Settings) -> None:
    """End the runs in MLflow whose processes were killed."""
    from terraflow.tracking.abandoned import end_abandoned_runs

    for run_id in end_abandoned_runs(settings):
        say(f"Run {run_id} was killed with its process; MLflow tells so now.")


@task()
def shell(c: Context) -> None:
    """Open a shell in which mlflow, airflow, aws, Python and notebooks see this stack."""
    from terraflow.checkout.start import users_shell
    from terraflow.stack.shell import open_shell, stack_to_see

    open_shell(stack_to_see(), users_shell())


@task(help={"show_credentials": "those that hold secrets, too"})
def env(c: Context, show_credentials: bool = False) -> None:
    """Print the variables of that shell: eval "$(invoke env)"."""
    from terraflow.checkout.start import users_shell
    from terraflow.stack.shell import print_exports, stack_to_see

    print_exports(stack_to_see(), users_shell(), secrets=show_credentials)
