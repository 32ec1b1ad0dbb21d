"""A shell in which mlflow, airflow, aws, Python and kernels of notebooks see this stack."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path

from terraflow import config
from terraflow.checkout.variables import is_secret
from terraflow.console import command, say
from terraflow.credentials import mlflow_token_file, read_secrets
from terraflow.errors import ConfigError
from terraflow.files import make_dir, write_private
from terraflow.settings import Settings, load
from terraflow.stack.environment import environment
from terraflow.state import manager_pid

__all__ = ["client_environment", "open_shell", "print_exports", "stack_to_see"]

#: Of the services alone: what supervisors are told, and how output is written.
SERVICES_OWN = ("TERRAFLOW_", "SPT_NOENV", "NO_COLOR", "PYTHONUNBUFFERED", "MLFLOW_SERVER_")


def stack_to_see() -> Settings:
    """Give the settings of the stack of this checkout, running or not.

    Raises
    ------
    ConfigError
        A setting is wrong; nothing was set up yet, or it has no addresses before it runs.
    """
    settings = load()
    runs = manager_pid(settings.run_dir)
    if not (settings.store and (settings.var / "secrets.json").exists()):
        raise ConfigError(
            f"There is no stack in {settings.var} to see yet; set it up with `{command('setup')}`, "
            f"or start it with `{command('up')}`."
        )
    if not runs and any(port == 0 for _, port in settings.ports()[:-1]):
        raise ConfigError(
            f"The stack has ports of 0, which get their numbers when it starts; run "
            f"`{command('up')}` first."
        )
    if not runs:
        sys.stderr.write(f"The stack does not run; start it with `{command('up')}`.\n")
    return settings


def client_environment(settings: Settings, *, secrets: bool = False) -> dict[str, str]:
    """Give the variables of a program that is a client of the stack.

    Parameters
    ----------
    settings : Settings
        Of a stack that is set up.
    secrets : bool
        With MinIO's keys, for programs that do not read the file of them.
    """
    shell = config.host_environment()
    found = {
        name: value
        for name, value in environment(settings).items()
        if not name.startswith(SERVICES_OWN)
    }
    found |= {name: value for name, value in shell.items() if name.startswith(SERVICES_OWN)}
    found |= {
        "TERRAFLOW_ROOT": str(config.project_root()),
        "TERRAFLOW_CONFIG_DIR": str(config.config_dir()),
        "TERRAFLOW_RESOLVED": "shell",  # by which a task in another project's folder knows
    }
    if secrets and settings.store == "minio":
        secret = read_secrets(settings)
        found["AWS_ACCESS_KEY_ID"] = secret["minio_user"]
        found["AWS_SECRET_ACCESS_KEY"] = secret["minio_password"]
    return found


def print_exports(settings: Settings, before: Mapping[str, str], *, secrets: bool = False) -> None:
    """Print what turns the user's shell into one of the stack: `eval "$(invoke env)"`.

    Parameters
    ----------
    before : mapping
        Variables of the user's shell.
    secrets : bool
        Those that hold secrets, too.
    """
    for line in exports(before, client_environment(settings, secrets=secrets), secrets=secrets):
        say(line)
    if not secrets:
        say(_read_token(settings))


def exports(before: Mapping[str, str], after: Mapping[str, str], *, secrets: bool) -> list[str]:
    """Write the difference between two environments as lines for sh."""
    gone = [f"unset {name}" for name in sorted(before) if name not in after and _is_name(name)]
    changed = [
        f"export {name}={shlex.quote(value)}"
        for name, value in sorted(after.items())
        if before.get(name) != value and _is_name(name) and (secrets or not is_secret(name))
    ]
    return gone + changed


def _read_token(settings: Settings) -> str:
    """Write the line for sh that takes MLflow's token from its file, without showing it."""
    path = shlex.quote(str(mlflow_token_file(settings)))
    return f'export MLFLOW_TRACKING_TOKEN="$(sed "s/.* //" {path})"'


def open_shell(settings: Settings, before: Mapping[str, str]) -> None:
    """Become the user's shell, with the stack's variables.

    bash and zsh read them again after the user's own files, which may set others.

    Parameters
    ----------
    before : mapping
        Variables of the user's shell.
    """
    after = client_environment(settings)
    program = after.get("SHELL") or "/bin/sh"
    lines = "\n".join([*exports(before, after, secrets=False), _read_token(settings)])
    folder = make_dir(settings.var / "shell")
    words = [program]
    kind = Path(program).name
    mark = f"({config.project_root().name}) "
    if kind == "bash":
        text = f"[ -f ~/.bashrc ] && . ~/.bashrc\n{lines}\n"
        write_private(folder / "bashrc", text + _prompt(mark))
        words += ["--rcfile", str(folder / "bashrc")]
    elif kind == "zsh":
        home = shlex.quote(after.get("ZDOTDIR") or str(Path.home()))
        text = f"ZDOTDIR={home}\n[ -f $ZDOTDIR/.zshrc ] && . $ZDOTDIR/.zshrc\n{lines}\n"
        write_private(folder / ".zshrc", text + _prompt(mark))
        after["ZDOTDIR"] = str(folder)
    say(
        f"A shell of the stack in {settings.var}: mlflow, airflow, aws and python see it; `exit` "
        "leaves it."
    )
    try:
        os.execvpe(program, words, after)
    except OSError as error:
        raise ConfigError(
            f"SHELL is {program}, which can't be run ({error.strerror}); set it to a shell, as "
            "/bin/sh."
        ) from error


def _prompt(mark: str) -> str:
    return f"PS1={shlex.quote(mark)}$PS1\n"


def _is_name(name: str) -> bool:
    """Tell whether a shell can have a variable of this name: functions of bash are none."""
    return name.isidentifier() and name.isascii()
