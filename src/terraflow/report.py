"""What `status` prints, and the question that `reset` asks."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict

from terraflow import stack
from terraflow.console import say, table
from terraflow.credentials import ADMIN, read_secrets
from terraflow.errors import ConfigError
from terraflow.settings import Settings

__all__ = ["confirm", "print_status"]


def print_status(settings: Settings, *, as_json: bool, credentials: bool) -> None:
    """Print the state of every service, as a table or as JSON."""
    rows = stack.status(settings)
    secret = _credentials(settings) if credentials else {}
    if as_json:
        services = [asdict(row) for row in rows]
        document: dict[str, object] = {"store": settings.store, "services": services}
        say(json.dumps(document | ({"credentials": secret} if credentials else {}), indent=1))
        return
    table(
        ("service", "state", "pid", "MB", "restarts", "URL"),
        [(r.service, r.state, str(r.pid or "-"), f"{r.memory_mb:.0f}" if r.pid else "-",
          str(r.restarts), r.url) for r in rows],
    )  # fmt: skip
    say(f"Memory in all: {sum(row.memory_mb for row in rows):.0f} MB. State in {settings.var}.")
    for row in rows:
        if row.reason and row.state != "waiting":
            say(f"{row.service}: {row.reason}")
    for name, value in secret.items():
        say(f"{name}: {value}")


def _credentials(settings: Settings) -> dict[str, str]:
    if not (settings.var / "secrets.json").exists():
        raise ConfigError("There are no credentials yet; `invoke setup` generates them.")
    secret = read_secrets(settings)
    return {
        "airflow user": ADMIN,
        "airflow password": secret["airflow_password"],
        "jupyter": f"{settings.jupyter_url}/lab?token={secret['jupyter_token']}",
        "minio user": secret["minio_user"],
        "minio password": secret["minio_password"],
    }


def confirm(loss: str, *, yes: bool) -> bool:
    """Say what will be lost and ask; without a terminal only `yes` is a yes.

    Raises
    ------
    ConfigError
        There is nobody to ask.
    """
    say(loss)
    if yes:
        return True
    if not sys.stdin.isatty():
        raise ConfigError("There is no terminal to ask; repeat with --yes to delete it.")
    return input("Delete it? [y/N] ").strip().lower() in ("y", "yes")
