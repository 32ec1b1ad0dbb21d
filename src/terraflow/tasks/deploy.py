"""Tasks that bring a model, or the stack, elsewhere: export-model, deploy."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path

from invoke.context import Context

from terraflow.console import confirm, say
from terraflow.tasks.task import Number, task

__all__ = ["deploy", "export_model"]


@task(
    private=False,
    help={
        "output": "a new folder",
        "run_id": "the run whose model to export",
        "model": "or any model URI, as models:/land-cover@champion",
    },
)
def export_model(c: Context, output: str, run_id: str = "", model: str = "") -> None:
    """Write a model into a folder, from which it is served without a registry."""
    from terraflow import settings
    from terraflow.config import user_path
    from terraflow.serving import models

    models.check_one(run_id, model)
    found = models.export_model(settings.load(), run_id, model, user_path(output))
    say(f"Model: {found}")


@task(
    help={
        "host": "as ssh takes it: user@host, or a name of its configuration",
        "what": "server or stack",
        "run_id": "the run whose model the server gets",
        "model": "or any model URI",
        "follow": "the server asks the registry here, by --tunnel, for each move of the alias",
        "trust": "a model that is not of this registry may run its code and packages there",
        "port": "of the model server there; [serving] port by default",
        "registry_port": "at which the host reaches the registry here; [mlflow] port by default",
        "offline": "bring packages and Python along, for a host without a network",
        "ssh_config": "another configuration of ssh",
        "status": "tell what runs there",
        "logs": "show its logs",
        "rollback": "switch to the release before",
        "tunnel": "let the host reach the registry here, until Ctrl+C",
        "remove": "stop it, and delete all of it there",
        "yes": "do not ask",
    },
)
def deploy(
    c: Context,
    host: str,
    what: str = "server",
    run_id: str = "",
    model: str = "",
    follow: bool = False,
    trust: bool = False,
    port: int = Number(0),
    registry_port: int = Number(0),
    offline: bool = False,
    ssh_config: str = "",
    status: bool = False,
    logs: bool = False,
    rollback: bool = False,
    tunnel: bool = False,
    remove: bool = False,
    yes: bool = False,
) -> int:
    """Bring the last commit to another machine over ssh, and start it there."""
    from terraflow import settings
    from terraflow.credentials import read_mlflow_token
    from terraflow.eo.project import find_project
    from terraflow.errors import ConfigError
    from terraflow.serving.deploy import deploy as deploying
    from terraflow.serving.deploy import release, scripts
    from terraflow.serving.deploy.host import Host

    if what not in ("server", "stack"):
        raise ConfigError(f"--what {what} is not known; write server or stack.")
    stack = settings.load()
    project = find_project().name
    deployment = deploying.Deployment(
        Host(host, f"terraflow/{project}", ssh_config=ssh_config), project, what
    )
    if status:
        deploying.show_status(deployment)
    elif logs:
        deploying.show_logs(deployment)
    elif rollback:
        deploying.roll_back(deployment)
    elif tunnel:
        return deploying.tunnel(deployment, stack.mlflow.port, registry_port or stack.mlflow.port)
    elif remove:
        if confirm(f"All releases, models and state of {project} on {host} are deleted.", yes=yes):
            deploying.remove(deployment)
    else:
        with ExitStack() as opened:
            folder = Path(opened.enter_context(tempfile.TemporaryDirectory()))
            words, models = ["up"], None
            if what == "server":
                words, models = release.server(
                    stack, folder, run_id, model, follow=follow, trust=trust
                )
            variables = {"TERRAFLOW_SERVING_PORT": str(port or stack.serving.port)}
            if follow:
                variables["TERRAFLOW_MLFLOW_PORT"] = str(registry_port or stack.mlflow.port)
                token_file = f"../../{scripts.REGISTRY_FILE}"
                variables["TERRAFLOW_MLFLOW_TOKEN_FILE"] = token_file
            deploying.deploy(
                deploying.Deployment(deployment.host, project, what, words, variables),
                models=models,
                registry_token=read_mlflow_token(stack) if follow else "",
                offline=offline,
            )
    return 0
