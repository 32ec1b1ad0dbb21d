"""Releases of a project on another machine: made, tried, switched to, and switched back.

There, in ~/terraflow/PROJECT: releases/SHA, each with its environment and a file .complete; var,
the state that all share; models, what was exported; current and previous, links to releases.
"""

from __future__ import annotations

import platform
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from terraflow.console import command, say
from terraflow.errors import ConfigError, ServiceError
from terraflow.serving.deploy import release
from terraflow.serving.deploy.host import NO_CONNECTION, Host
from terraflow.serving.deploy.scripts import (
    AWAIT,
    ENVIRONMENT,
    PRUNE,
    START,
    STOP,
    SWITCH,
    TAKE_TOKEN,
    TRIAL,
)
from terraflow.serving.deploy.unit import start_script, unit_name, unit_text

__all__ = [
    "Deployment",
    "deploy",
    "remove",
    "roll_back",
    "show_logs",
    "show_status",
    "tunnel",
]

READY_S = 180
KEPT = 3
#: In a release's folder, beside the commit's files.
KEPT_THERE = (".venv", ".complete", ".libraries", ".start", ".what")
#: Ports that a trial takes elsewhere; a server asks the stack's MLflow where that is.
FREE = {
    "server": "SERVING",
    "stack": "AIRFLOW MLFLOW JUPYTER MINIO MINIO_CONSOLE",
}


@dataclass(frozen=True)
class Deployment:
    """What runs on a host.

    Attributes
    ----------
    host : Host
    project : str
    what : {"server", "stack"}
    words : list of str
        After invoke, as serve --model ...
    variables : dict
        Settings of the deployment, as TERRAFLOW_SERVING_PORT.
    """

    host: Host
    project: str
    what: str = "server"
    words: list[str] = field(default_factory=list)
    variables: dict[str, str] = field(default_factory=dict)

    @property
    def values(self) -> dict[str, str]:
        """Variables of the scripts."""
        return {
            "UNIT": unit_name(self.project),
            "SCRIPT": start_script(self.words, self.variables),
            "WHAT": self.what,
            "SECONDS_": str(READY_S),
            "FREE": FREE[self.what],
            "KEPT": str(KEPT + 1),
        }


def deploy(
    deployment: Deployment,
    *,
    models: Path | None = None,
    registry_token: str = "",
    offline: bool = False,
) -> str:
    """Bring the last commit to a host, and let it take over once it has answered there.

    A step that was interrupted is done again by the next deployment; what runs there goes on until
    the new release has been tried.

    Parameters
    ----------
    models : Path, optional
        A folder of exported models, which are copied, too.
    registry_token : str
        Of MLflow here, for a server that follows its registry.
    offline : bool
        Bring packages and Python along, for a host without a network.

    Returns
    -------
    str
        The release.

    Raises
    ------
    ConfigError
        The project has no commit, or differs from it.
    ServiceError
        The host can't be reached, somebody else deploys there, or a step failed there; the release
        before goes on.
    """
    sha = release.commit()
    with deployment.host.locked():
        root = _enter(deployment.host, "mkdir -p releases var models wheels")
        say(f"Release {sha} to {deployment.host.name}:{root}")
        values = deployment.values | {"SHA": sha, "PYTHON": "", "LIBRARIES": ""}
        values |= _bring(deployment.host, root, sha, models, offline=offline)
        if registry_token:
            deployment.host.run(TAKE_TOKEN, "take the token", {"TOKEN": registry_token})
        _try(deployment, root, values)
        _take_over(deployment, values)
        deployment.host.run(PRUNE, "remove old releases", values)
    say(f"Release {sha} answers on {deployment.host.name}")
    return sha


def roll_back(deployment: Deployment) -> None:
    """Switch to the release before.

    Raises
    ------
    ConfigError
        There is none.
    ServiceError
        The host can't be reached, or that release does not answer.
    """
    host = deployment.host
    before = host.run("readlink previous || true", "tell its releases")
    if not before:
        raise ConfigError(
            f"{host.name} has no release before the one that runs; deploy another commit instead."
        )
    values = deployment.values | {"SHA": before.rpartition("/")[2]}
    with host.locked():
        _enter(host)
        _switch(deployment, values)
        host.run(AWAIT, f"start {before}", values)
    say(f"{before} answers on {host.name}")


def show_status(deployment: Deployment) -> None:
    """Print what runs there."""
    host = deployment.host
    _enter(host)
    text = host.run(
        'echo "Release: $(readlink current || echo none)"\n'
        'echo "Before it: $(readlink previous || echo none)"\n'
        "[ ! -L current ] || (cd current && . ./.libraries && .venv/bin/invoke status)",
        "tell its state",
    )
    say(text)


def show_logs(deployment: Deployment) -> None:
    """Print the ends of its logs."""
    host = deployment.host
    say(host.run("tail -n 40 var/deploy.log var/log/*.log 2> /dev/null || true", "show its logs"))


def remove(deployment: Deployment) -> None:
    """Stop it, and delete all of it: releases, models and state."""
    host = deployment.host
    script = STOP + (
        'if [ -f "$HOME/.config/systemd/user/$UNIT" ]; then\n'
        '    systemctl --user disable --quiet "$UNIT"; rm -f "$HOME/.config/systemd/user/$UNIT"\n'
        'fi\ncd "$HOME" && rm -rf "$ROOT"\n'
    )
    with host.locked():
        root = _enter(host)
        host.run(script, "remove the deployment", deployment.values)
    say(f"Removed {root} on {host.name}")


def tunnel(deployment: Deployment, port: int, port_there: int) -> int:
    """Let the host reach the registry of the stack here, until Ctrl+C.

    Parameters
    ----------
    port : int
        Of MLflow here.
    port_there : int
        At which the host finds it.

    Returns
    -------
    int
        Exit code of ssh.

    Raises
    ------
    ServiceError
        There is no connection, or the port is taken there.
    """
    host = deployment.host
    say(f"{host.name} reaches MLflow here at 127.0.0.1:{port_there}, until Ctrl+C")
    forward = f"127.0.0.1:{port_there}:127.0.0.1:{port}"
    options = ["-o", "ExitOnForwardFailure=yes", "-o", "ServerAliveInterval=15"]
    code = subprocess.call([*host.ssh, "-N", *options, "-R", forward, host.name])
    if code == NO_CONNECTION:
        raise ServiceError(
            f"The tunnel to {host.name} has ended, as ssh says above; start it again, or, where "
            f"port {port_there} is taken there, name another by --registry-port, here and with "
            "--follow."
        )
    return code


def _bring(
    host: Host, root: str, sha: str, models: Path | None, *, offline: bool
) -> dict[str, str]:
    """Copy all that a release needs; return further variables of the scripts."""
    with release.unpacked(sha) as folder:
        host.copy(
            folder, f"releases/{sha}", ["--delete", *(f"--exclude={name}" for name in KEPT_THERE)]
        )
    if models:
        host.copy(models, "models")
    return _bring_packages(host, root) if offline else {}


def _try(deployment: Deployment, root: str, values: dict[str, str]) -> None:
    """Start the release beside the one that runs, and end it again."""
    host = deployment.host
    say("Environment ...")
    host.run(ENVIRONMENT, "make the release's environment", values)
    say("Trial ...")
    host.run(TRIAL, "start the release beside the one that runs, which goes on", values)
    unit = {"TEXT": unit_text(root, deployment.project)}
    host.run('printf %s "$TEXT" > unit.new && mv unit.new unit', "write its unit", unit)


def _take_over(deployment: Deployment, values: dict[str, str]) -> None:
    """Switch to the release, and back where it does not answer."""
    host, sha = deployment.host, values["SHA"]
    before = host.run("readlink current || true", "tell its release")
    _switch(deployment, values)
    if host.try_to(AWAIT, values).returncode == 0:
        return
    silent = f"Release {sha} does not answer on {host.name} after {READY_S} s"
    logs = f"see `{command('deploy', host.name, '--logs')}`."
    if not before or before == f"releases/{sha}":
        raise ServiceError(f"{silent}; {logs}")
    _switch(deployment, values | {"SHA": before.rpartition("/")[2]})
    raise ServiceError(f"{silent}, so {before} runs again; {logs}")


def _bring_packages(host: Host, root: str) -> dict[str, str]:
    say("Packages and Python ...")
    with release.wheels() as folder:
        host.copy(folder, "wheels")
    host.copy(release.interpreter(), "python", ["--exclude=__pycache__", "--exclude=site-packages"])
    # an interpreter that is built with a library of its own looks for it where it was installed
    libraries = f'export LD_LIBRARY_PATH="{root}/python/lib"\n'
    asked = "python/bin/python3 -c 'import platform; print(platform.python_version())'"
    version = host.run(libraries + asked, "run the Python from here")
    if version != platform.python_version():
        raise ServiceError(
            f"The Python from here, {platform.python_version()}, is {version} on {host.name}; "
            "take one that can be moved, as `uv python install` gives, or deploy without --offline."
        )
    host.variables |= {
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": f"{root}/wheels",
        "UV_OFFLINE": "1",
        "UV_NO_INDEX": "1",
        "UV_FIND_LINKS": f"{root}/wheels",
    }
    return {"PYTHON": f"PYTHON={root}/python/bin/python3", "LIBRARIES": libraries}


def _enter(host: Host, script: str = "true") -> str:
    """Let commands there know the deployment's state; return its absolute folder."""
    root = host.run(f'{script} && echo "$ROOT"', "tell its folder")
    host.variables["TERRAFLOW_VAR"] = f"{root}/var"
    return root


def _switch(deployment: Deployment, values: dict[str, str]) -> None:
    deployment.host.run(STOP, "stop the release that runs", values)
    deployment.host.run(SWITCH + START, "switch to the release", values)
