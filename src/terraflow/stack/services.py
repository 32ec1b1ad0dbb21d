"""The table of services: port, health probe, what each waits for, and the environment of all."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from terraflow import config, probes
from terraflow.console import say
from terraflow.credentials import store_environment
from terraflow.errors import ConfigError, ServiceError
from terraflow.settings import Settings, load
from terraflow.stack import minio
from terraflow.state import ServiceState, manager_pid

__all__ = ["MODEL_SERVER", "SERVICES", "Service", "environment", "is_ready", "select"]

MODEL_SERVER = "model-server"

#: Variables of the shell that would change what a service does behind the settings' back.
FOREIGN = ("AIRFLOW", "_AIRFLOW", "MLFLOW_", "_MLFLOW", "JUPYTER", "MINIO_", "IPYTHON")


@dataclass(frozen=True)
class Service:
    """One line of the Procfile.

    Attributes
    ----------
    group : str
        What `--only` calls it.
    ports : tuple of str
        Settings keys of the ports it listens on; the first one is its address for users.
    health : str
        Path that answers 200 when it is ready.
    component : str
        Airflow's name for it in the answer of /api/v2/monitor/health, where it has no port.
    after : tuple of str
        Services that must answer first.
    """

    name: str
    group: str
    ports: tuple[str, ...] = ()
    health: str = ""
    component: str = ""
    after: tuple[str, ...] = ()

    def address(self, settings: Settings) -> str:
        """Return the base URL, or "" where it listens on no port."""
        if not self.ports:
            return ""
        return f"http://{settings.host}:{dict(settings.ports())[self.ports[0]]}"

    def url(self, settings: Settings) -> str:
        """Return the page for a user: MinIO's is its console."""
        if len(self.ports) > 1:
            return f"http://{settings.host}:{dict(settings.ports())[self.ports[1]]}"
        return self.address(settings)


_HEALTH = "/api/v2/monitor/health"
SERVICES = {
    service.name: service
    for service in (
        Service("minio", "minio", ("minio.port", "minio.console_port"), "/minio/health/ready"),
        Service("mlflow", "mlflow", ("mlflow.port",), "/health", after=("minio",)),
        Service("jupyter", "jupyter", ("jupyter.port",), "/api"),
        Service("airflow-api", "airflow", ("airflow.port",), "/api/v2/version"),
        Service("airflow-scheduler", "airflow", component="scheduler"),
        Service("airflow-dag-processor", "airflow", component="dag_processor"),
        Service("airflow-triggerer", "airflow", component="triggerer"),
    )
}


def select(settings: Settings, only: Iterable[str] = ()) -> list[Service]:
    """Choose the services to start, with those they need.

    Parameters
    ----------
    only : iterable of str
        Groups or services; empty takes all. Without MinIO as the store there is no MinIO.

    Raises
    ------
    ConfigError
        A name is neither a group nor a service.
    """
    wanted = set(only)
    known = {service.group for service in SERVICES.values()} | set(SERVICES)
    if unknown := sorted(wanted - known):
        raise ConfigError(
            f"--only {','.join(unknown)} names no service; choose among {', '.join(sorted(known))}."
        )
    groups = {service.group for service in SERVICES.values() if service.name in wanted} | wanted
    chosen = [s for s in SERVICES.values() if not wanted or s.group in groups]
    needed = {name for service in chosen for name in service.after}
    chosen = [s for s in SERVICES.values() if s in chosen or s.name in needed]
    return [s for s in chosen if s.name != "minio" or settings.store == "minio"]


def is_ready(service: Service, settings: Settings, state: ServiceState | None) -> bool:
    """Ask the service itself; a component of Airflow by its heartbeat since it was started."""
    if not state or state.phase != "running":
        return False
    if not service.component:
        return probes.answers(service.address(settings) + service.health)
    health = probes.get_json(SERVICES["airflow-api"].address(settings) + _HEALTH) or {}
    component = health.get(service.component) or {}
    heartbeat = next((v for k, v in component.items() if k.startswith("latest_") and v), None)
    if component.get("status") != "healthy" or not heartbeat:
        return False
    from datetime import datetime  # noqa: PLC0415 - only where it is needed

    return datetime.fromisoformat(heartbeat).timestamp() >= state.started_at


def environment(settings: Settings) -> dict[str, str]:
    """Environment of every process of the stack; it holds paths to secrets, never a secret.

    Parameters
    ----------
    settings : Settings
        With its store decided and no port 0.
    """
    var = settings.var
    own = {
        key: value
        for key, value in config.host_environment().items()
        if not key.startswith(FOREIGN) and (settings.store == "s3" or not key.startswith("AWS_"))
    }
    binaries = str(Path(sys.executable).parent)
    own |= settings.to_environment() | {
        "TERRAFLOW_RESOLVED": "1",
        "TERRAFLOW_ROOT": str(config.project_root()),
        "TERRAFLOW_ARTIFACTS_URI": settings.artifacts_uri,
        "PATH": os.pathsep.join(
            [binaries, own.get("PATH", os.defpath), str(minio.cached().parent)]
        ),
        "PYTHONUNBUFFERED": "1",
        "NO_COLOR": "1",
        "SPT_NOENV": "1",  # titles of processes leave their environment readable in /proc
        "AIRFLOW_HOME": str(var / "airflow"),
        "AIRFLOW_CONFIG": str(var / "airflow" / "airflow.cfg"),
        "MLFLOW_TRACKING_URI": settings.mlflow_url,
        # by the environment, since MLflow reads it at its import
        "MLFLOW_SERVER_ALLOWED_HOSTS": ",".join(
            f"{name}:{settings.mlflow.port}" for name in (settings.host, "localhost")
        ),
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # a process of its own, for LLM judges only
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "JUPYTER_CONFIG_DIR": str(var / "jupyter"),
        "JUPYTER_RUNTIME_DIR": str(var / "jupyter" / "runtime"),
        "JUPYTER_DATA_DIR": str(var / "jupyter" / "data"),
        "IPYTHONDIR": str(var / "jupyter" / "ipython"),
        "MINIO_CONFIG_ENV_FILE": str(var / "minio" / "config.env"),
    }
    for service in SERVICES.values():
        urls = [
            SERVICES[name].address(settings) + SERVICES[name].health
            for name in service.after
            if name != "minio" or settings.store == "minio"
        ]
        if urls:
            own["TERRAFLOW_AFTER_" + service.name.replace("-", "_").upper()] = " ".join(urls)
    return own | store_environment(settings)


def _exec_supervisor(arguments: list[str]) -> NoReturn:
    """Resolve the settings, then become the supervisor: for plain `honcho start`."""
    from terraflow.process.supervise import STARTERS, lineage  # noqa: PLC0415
    from terraflow.stack import setup  # noqa: PLC0415 - services is imported by setup

    settings = load(running=False)
    pid = manager_pid(settings.run_dir)
    if pid and pid not in lineage(STARTERS["honcho"]):
        raise ServiceError(
            f"TerraFlow already runs here (pid {pid}, state in {settings.var}); stop it with "
            "`invoke down`."
        )
    settings = setup.decide_store(settings, build=False)
    if any(port == 0 for _, port in settings.ports()):
        raise ConfigError("Plain `honcho start` can't choose free ports; use `invoke up`.")
    setup.prepare(settings)
    settings.save()
    name, *command = arguments
    if name == "minio" and settings.store != "minio":  # honcho would stop all if it ended
        say(f'not needed: store = "{settings.store}"')
        command = [sys.executable, "-c", "import signal; signal.pause()"]
    os.execve(
        sys.executable,
        [sys.executable, "-m", "terraflow.process.supervise", name, *command],
        environment(settings),
    )


if __name__ == "__main__":
    from terraflow.console import report_errors

    with report_errors():
        _exec_supervisor(sys.argv[1:])
