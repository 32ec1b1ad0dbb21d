"""Move a stack, while it is stopped, from SQLite to PostgreSQL."""

from __future__ import annotations

from terraflow.console import command, say, stop_on_sigterm
from terraflow.errors import ConfigError
from terraflow.files import make_dir
from terraflow.settings import load
from terraflow.stack.environment import environment
from terraflow.stack.lifecycle.up import claim

__all__ = ["move"]


def move(to: str) -> None:
    """Copy what Airflow and MLflow have in SQLite; the files stay as they are.

    Parameters
    ----------
    to : str
        Kind of database: "postgresql".

    Raises
    ------
    ConfigError
        It is another kind, or a setting is wrong.
    ServiceError
        The stack runs, or the copy fails; the next one begins anew.
    """
    if to != "postgresql":
        raise ConfigError(f"--to {to or 'nothing'} is no way to go; write --to postgresql.")
    from terraflow.stack.databases.copy import copy_all  # noqa: PLC0415 - it imports SQLAlchemy

    stop_on_sigterm()
    settings = load([f"database.kind={to}"], running=False)
    make_dir(settings.run_dir)
    make_dir(settings.log_dir)
    lock = claim(settings)
    try:
        copy_all(settings, environment(settings))
    finally:
        lock.release()
    say(
        "Copied; the SQLite files stay as they are. To go on with PostgreSQL, write into "
        f'config/local/terraflow.toml:\n\n[database]\nkind = "{to}"\n\n'
        f"Then start the stack with `{command('up')}`."
    )
