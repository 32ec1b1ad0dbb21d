"""The table of services: port, health probe, what each waits for; and where the model server is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from terraflow import probes
from terraflow.errors import ConfigError
from terraflow.files import write_private
from terraflow.settings import Settings
from terraflow.state import ServiceState, manager_pid

__all__ = [
    "MODEL_SERVER",
    "SERVICES",
    "Service",
    "is_ready",
    "model_server_url",
    "record_model_server",
    "recorded_model_server",
    "select",
]

#: Its supervisor's name. It runs beside the stack, so that it is not in the table.
MODEL_SERVER = "model-server"


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
    return datetime.fromisoformat(heartbeat).timestamp() >= state.started_at


def record_model_server(settings: Settings, url: str) -> None:
    """Write down where the model server is going to listen, for all that ask it.

    Raises
    ------
    StorageError
        The file can't be written.
    """
    write_private(_url_file(settings), url)


def recorded_model_server(settings: Settings) -> str:
    """Address of the model server that runs here, or "" where none does."""
    path = _url_file(settings)
    running = manager_pid(settings.run_dir, MODEL_SERVER)
    return path.read_text() if running and path.exists() else ""


def model_server_url(settings: Settings) -> str:
    """Address of the running model server, or "" where none answers."""
    url = recorded_model_server(settings)
    return url if url and probes.answers(f"{url}/health") else ""


def _url_file(settings: Settings) -> Path:
    return settings.run_dir / f"{MODEL_SERVER}.url"
