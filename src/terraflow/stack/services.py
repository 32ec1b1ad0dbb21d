"""The table of services: port, health probe, what each waits for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from terraflow import probes
from terraflow.errors import ConfigError
from terraflow.settings import Settings
from terraflow.stack.databases import addresses
from terraflow.state import ServiceState

__all__ = [
    "SERVICES",
    "Service",
    "is_ready",
    "select",
]


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
    beside : tuple of str
        Services that it needs, too, but not for its start.
    stop : str
        Signals that end it, one after the other, where SIGTERM does not do.
    """

    name: str
    group: str
    ports: tuple[str, ...] = ()
    health: str = ""
    component: str = ""
    after: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    stop: str = ""

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

    def probe(self, settings: Settings) -> str:
        """Return the URL that answers when it is ready."""
        if self.name == "postgresql":
            return addresses.probe(settings)
        return self.address(settings) + self.health

    def health_probe(self, settings: Settings) -> str:
        """Return the URL at which a supervisor asks whether it still answers.

        A component without a port is the fragment of the page that tells of several.
        """
        if self.component:
            return f"{SERVICES['airflow-api'].address(settings)}{_HEALTH}#{self.component}"
        return self.probe(settings)

    def has_use(self, settings: Settings) -> bool:
        """Tell whether the settings need it: MinIO as the store, PostgreSQL as the database."""
        if self.name == "minio":
            return settings.store in ("minio", None)
        return self.name != "postgresql" or settings.database.is_here


_HEALTH = "/api/v2/monitor/health"
_DATABASE = ("postgresql",)
SERVICES = {
    service.name: service
    for service in (
        Service("minio", "minio", ("minio.port", "minio.console_port"), "/minio/health/ready"),
        # SIGTERM lets its clients end first, SIGINT ends it
        Service("postgresql", "postgresql", stop="SIGTERM SIGINT"),
        # it shows runs without MinIO, too, which may still be being built
        Service(
            "mlflow", "mlflow", ("mlflow.port",), "/health", after=_DATABASE, beside=("minio",)
        ),
        Service("jupyter", "jupyter", ("jupyter.port",), "/api"),
        Service("airflow-api", "airflow", ("airflow.port",), "/api/v2/version", after=_DATABASE),
        Service("airflow-scheduler", "airflow", component="scheduler", after=_DATABASE),
        Service("airflow-dag-processor", "airflow", component="dag_processor", after=_DATABASE),
        Service("airflow-triggerer", "airflow", component="triggerer", after=_DATABASE),
    )
}


def select(settings: Settings, only: Iterable[str] = ()) -> list[Service]:
    """Choose the services to start, with those they need.

    Parameters
    ----------
    only : iterable of str
        Groups or services; empty takes all that the settings need.

    Raises
    ------
    ConfigError
        A name is neither a group nor a service, or the settings need none of them.
    """
    wanted = set(only)
    known = {service.group for service in SERVICES.values()} | set(SERVICES)
    if unknown := sorted(wanted - known):
        raise ConfigError(
            f"--only {','.join(unknown)} names no service; choose among {', '.join(sorted(known))}."
        )
    groups = {service.group for service in SERVICES.values() if service.name in wanted} | wanted
    chosen = [s for s in SERVICES.values() if not wanted or s.group in groups]
    needed = {name for service in chosen for name in (*service.after, *service.beside)}
    chosen = [s for s in SERVICES.values() if s in chosen or s.name in needed]
    if not (used := [s for s in chosen if s.has_use(settings)]):
        raise ConfigError(
            f"--only {','.join(sorted(wanted))} leaves nothing to start: the settings of store and "
            "database need none of it; name others, or change these keys."
        )
    return used


def is_ready(service: Service, settings: Settings, state: ServiceState | None) -> bool:
    """Ask the service itself; a component of Airflow by its heartbeat since it was started."""
    if not state or state.phase != "running":
        return False
    if not service.component:
        return probes.answers(service.probe(settings))
    health = probes.get_json(SERVICES["airflow-api"].address(settings) + _HEALTH) or {}
    component = health.get(service.component) or {}
    heartbeat = next((v for k, v in component.items() if k.startswith("latest_") and v), None)
    if component.get("status") != "healthy" or not heartbeat:
        return False
    return datetime.fromisoformat(heartbeat).timestamp() >= state.started_at
