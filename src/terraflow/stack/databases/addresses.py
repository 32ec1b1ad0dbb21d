"""Addresses of the databases of Airflow and MLflow; none holds a password."""

from __future__ import annotations

import hashlib
from pathlib import Path
from urllib.parse import quote, urlsplit

from terraflow.settings import Settings

__all__ = ["PACKAGES", "USER", "address", "folder", "probe", "server", "socket_folder"]

#: Databases, each named as the program that has it, with the package whose version counts.
PACKAGES = {"airflow": "apache-airflow", "mlflow": "mlflow"}
#: Role of the server that is part of the stack.
USER = "terraflow"


def address(settings: Settings, name: str, driver: str = "psycopg2") -> str:
    """Give a database's address as SQLAlchemy reads it.

    Parameters
    ----------
    name : str
        Of the database: one of `PACKAGES`; of PostgreSQL's also its own or a draft.
    driver : str
        Of PostgreSQL.
    """
    if settings.database.kind == "sqlite":
        return f"sqlite:///{settings.var / name / name}.db"
    if settings.database.url:
        parts = urlsplit(settings.database.url)
        query = f"?{parts.query}" if parts.query else ""
        return f"postgresql+{driver}://{parts.netloc}/{name}{query}"
    passwords = quote(str(folder(settings) / "pgpass"))
    host = quote(str(socket_folder(settings)))
    return f"postgresql+{driver}://{USER}@/{name}?host={host}&passfile={passwords}"


def folder(settings: Settings) -> Path:
    """Folder of PostgreSQL's state; of a server elsewhere only the versions are noted."""
    return settings.var / ("postgresql-elsewhere" if settings.database.url else "postgresql")


def socket_folder(settings: Settings) -> Path:
    """Folder of the server's socket: outside of var, since a socket's path has 107 bytes at most.

    The same for every process, whatever its environment.
    """
    digest = hashlib.sha256(str(settings.var).encode()).hexdigest()
    return Path(f"/tmp/terraflow-{digest[:16]}")  # noqa: S108 - its owner is checked


def probe(settings: Settings) -> str:
    """URL by which `terraflow.probes` asks the server that is part of the stack."""
    return f"postgresql://{socket_folder(settings)}/.s.PGSQL.5432"


def server(settings: Settings) -> str:
    """Name PostgreSQL's server for the user."""
    return settings.database.url or f"the server of {folder(settings)}"
