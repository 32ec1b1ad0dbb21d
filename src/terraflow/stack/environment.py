"""The environment of every process of the stack."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from terraflow import config
from terraflow.checkout.variables import shielded
from terraflow.credentials import store_environment, tracking_environment
from terraflow.settings import Settings
from terraflow.stack import minio
from terraflow.stack.databases import postgres
from terraflow.stack.databases.addresses import address, socket_folder
from terraflow.stack.services import SERVICES
from terraflow.state import MARK

__all__ = ["environment"]


def environment(settings: Settings) -> dict[str, str]:
    """Give the variables of a process of the stack.

    Paths to secrets, and one secret: MLflow's token, which its clients take from the environment.
    Only processes of the same user, and root's, see that.

    Parameters
    ----------
    settings : Settings
        With its store decided and no port 0.
    """
    var = settings.var
    own = shielded(
        config.host_environment(),
        root := config.project_root(),
        s3=settings.store == "s3",
        postgresql=settings.database.is_here,
    )
    own.pop(MARK, None)  # in a terminal of JupyterLab, of whose supervisor this is no part
    binaries = str(Path(sys.executable).parent)
    own |= settings.to_environment() | {
        "TERRAFLOW_RESOLVED": "1",
        "TERRAFLOW_ROOT": str(root),
        "TERRAFLOW_ARTIFACTS_URI": settings.artifacts_uri,
        "TERRAFLOW_MLFLOW_DATABASE": address(settings, "mlflow"),
        "PATH": os.pathsep.join(
            [binaries, own.get("PATH", os.defpath), str(minio.cached().parent)]
        ),
        "PYTHONUNBUFFERED": "1",
        "NO_COLOR": "1",
        "SPT_NOENV": "1",  # titles of processes leave their environment readable in /proc
        "AIRFLOW_HOME": str(var / "airflow"),
        "AIRFLOW_CONFIG": str(var / "airflow" / "airflow.cfg"),
        # by the environment, since MLflow reads it at its import; a tunnel may have another port
        "MLFLOW_SERVER_ALLOWED_HOSTS": ",".join(
            f"{name}:*" for name in (settings.host, "localhost")
        ),
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # a process of its own, for LLM judges only
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "JUPYTER_CONFIG_DIR": str(var / "jupyter"),
        "JUPYTER_RUNTIME_DIR": str(var / "jupyter" / "runtime"),
        "JUPYTER_DATA_DIR": str(var / "jupyter" / "data"),
        "IPYTHONDIR": str(var / "jupyter" / "ipython"),
        "MINIO_CONFIG_ENV_FILE": str(var / "minio" / "config.env"),
    }
    if settings.database.is_here:
        own["TERRAFLOW_POSTGRES"] = str(postgres.find(settings))
        own["TERRAFLOW_POSTGRES_SOCKETS"] = str(socket_folder(settings))
    for service in SERVICES.values():
        needed = [SERVICES[name] for name in service.after]
        urls = [one.probe(settings) for one in needed if one.has_use(settings)]
        name = service.name.replace("-", "_").upper()
        own |= {"TERRAFLOW_AFTER_" + name: " ".join(urls)} if urls else {}
        own |= {"TERRAFLOW_STOP_" + name: service.stop} if service.stop else {}
        own["TERRAFLOW_PROBE_" + name] = service.health_probe(settings)
    if settings.s3_endpoint:  # which is the configured one, for tools that know no other way
        own.pop("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", None)
    return own | tracking_environment(settings) | store_environment(settings)
