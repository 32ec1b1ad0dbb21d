"""The one settings object: ports, folders, stores; resolved once, read by all."""

from __future__ import annotations

import json
import socket
from collections import Counter
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, field_validator, model_validator

from terraflow import config
from terraflow.errors import ConfigError
from terraflow.files import expand_home, write_private
from terraflow.sections import (
    S3,
    Airflow,
    Database,
    Jupyter,
    Minio,
    Mlflow,
    Section,
    Services,
    Serving,
)
from terraflow.state import manager_pid

__all__ = ["Settings", "load", "resolve_ports"]

FILE = "terraflow.toml"
LOOPBACK = "127.0.0.1"


class Settings(Section):
    """All settings of the stack.

    Attributes
    ----------
    store : {"minio", "local", "s3"} or None
        Where artifacts and data are kept. None takes MinIO where its binary can be had, else local
        files.
    host : str
        Interface that services listen on.
    var, artifacts : Path
        Folders of all state, and of artifacts when store is "local"; relative to the checkout.
    """

    store: Literal["minio", "local", "s3"] | None = None
    host: str = LOOPBACK
    var: Path = Path("var")
    artifacts: Path = Path("mlflow-artifacts")
    airflow: Airflow = Airflow()
    mlflow: Mlflow = Mlflow()
    jupyter: Jupyter = Jupyter()
    minio: Minio = Minio()
    services: Services = Services()
    s3: S3 = S3()
    database: Database = Database()
    serving: Serving = Serving()

    @field_validator("host")
    @classmethod
    def _loopback_only(cls, host: str) -> str:
        if host != LOOPBACK:
            raise ValueError(
                f"only {LOOPBACK} is accepted, since passwords and tokens are not encrypted here; "
                "reach it from elsewhere through an SSH tunnel"
            )
        return host

    @field_validator("var", "artifacts")
    @classmethod
    def _absolute(cls, path: Path) -> Path:
        return config.project_root() / expand_home(path)

    @model_validator(mode="after")
    def _distinct_ports(self) -> Settings:
        counts = Counter(port for _, port in self.ports() if port)
        if twice := [port for port, count in counts.items() if count > 1]:
            keys = [key for key, port in self.ports() if port in twice]
            raise ValueError(f"{', '.join(keys)} share a port; give each its own, or 0")
        return self

    def ports(self) -> list[tuple[str, int]]:
        """List (key, port) of every port, such as ("mlflow.port", 5000)."""
        return [
            ("airflow.port", self.airflow.port),
            ("mlflow.port", self.mlflow.port),
            ("jupyter.port", self.jupyter.port),
            ("minio.port", self.minio.port),
            ("minio.console_port", self.minio.console_port),
            ("serving.port", self.serving.port),
        ]

    @property
    def run_dir(self) -> Path:
        """Folder of locks, of the services' states and of the running stack's settings."""
        return self.var / "run"

    @property
    def log_dir(self) -> Path:
        """Folder of the services' logs."""
        return self.var / "log"

    @property
    def folders(self) -> dict[str, Path]:
        """Folders that are written to, by the variables that name them."""
        return {
            "TERRAFLOW_VAR": self.var,
            "TERRAFLOW_ARTIFACTS": self.artifacts,
            "XDG_CACHE_HOME": config.cache_dir().parent,
        }

    @property
    def store_file(self) -> Path:
        """File that remembers which store was chosen where none is set."""
        return self.var / "store"

    @property
    def airflow_url(self) -> str:
        """Address of Airflow's API server."""
        return f"http://{self.host}:{self.airflow.port}"

    @property
    def mlflow_url(self) -> str:
        """Tracking URI."""
        return f"http://{self.host}:{self.mlflow.port}"

    @property
    def jupyter_url(self) -> str:
        """Address of JupyterLab."""
        return f"http://{self.host}:{self.jupyter.port}"

    @property
    def s3_endpoint(self) -> str | None:
        """S3 endpoint of the store; None for Amazon's own, or for local files."""
        if self.store == "minio":
            return f"http://{self.host}:{self.minio.port}"
        return self.s3.endpoint if self.store == "s3" else None

    @property
    def data_uri(self) -> str:
        """Root of the project's data: an s3:// URI, or a folder."""
        if self.store == "local":
            return str(self.var / "eo-data")
        return f"s3://{self.s3.data_bucket}"

    @property
    def artifacts_uri(self) -> str:
        """Where MLflow's server keeps artifacts: an s3:// URI, or a folder."""
        if self.store == "local":
            return str(self.artifacts)
        return f"s3://{self.s3.artifact_bucket}"

    def to_environment(self) -> dict[str, str]:
        """Write every setting as a TERRAFLOW_* variable, so that a child resolves the same."""
        variables = {}
        for key in _keys(Settings):
            value: Any = self
            for part in key:
                value = getattr(value, part)
            if value is not None:
                variables[config.PREFIX + "_".join(key).upper()] = str(value)
        return variables

    def save(self) -> None:
        """Write the settings of the starting stack for the tasks that use it.

        Raises
        ------
        StorageError
            The file can't be written.
        """
        write_private(self.run_dir / "settings.json", self.model_dump_json(indent=1))


def load(assignments: Iterable[str] = (), *, running: bool = True, strict: bool = True) -> Settings:
    """Resolve the settings.

    Parameters
    ----------
    assignments : iterable of str
        Words of the command line such as "mlflow.port=5050".
    running : bool
        Take a running stack's ports and store, as it resolved them at its start.
    strict : bool
        Refuse variables of the shell that are not known; a newer release may have set them.

    Raises
    ------
    ConfigError
        One line for every bad key or variable; or the file that remembers the store is damaged.
    """
    settings = config.validate(
        Settings,
        [
            *config.file_layers(FILE),
            config.shell_layer(_keys(Settings), strict=strict),
            config.command_line_layer(assignments),
        ],
    )
    if running and manager_pid(settings.run_dir) and (stack := _saved(settings)):
        return stack.model_copy(update={"serving": settings.serving})  # no part of the stack
    if not settings.store and settings.store_file.exists():
        return settings.model_copy(update={"store": _read_store(settings.store_file)})
    return settings


def _saved(settings: Settings) -> Settings | None:
    """Read the settings of the running stack; None where it ends just now."""
    try:
        saved = (settings.run_dir / "settings.json").read_text()
    except FileNotFoundError:
        return None
    return Settings.model_validate(json.loads(saved))


def _read_store(path: Path) -> str:
    chosen = path.read_bytes().decode(errors="replace").strip()
    if chosen not in ("minio", "local", "s3"):
        raise ConfigError(
            f"{path} names the store {chosen[:20]!r}, which is none; write minio, local or s3 into "
            "it, where data and artifacts lie."
        )
    return chosen


def resolve_ports(settings: Settings) -> Settings:
    """Give a copy in which a free port replaces every port 0."""
    values = settings.model_dump()
    taken = {port for _, port in settings.ports()}  # the system knows of none that is not used yet
    with ExitStack() as held:  # all are held until all are chosen, so that none comes twice
        for key, port in settings.ports():
            if port == 0:
                section, name = key.split(".")
                while (free := _hold_free_port(settings.host, held)) in taken:
                    pass
                values[section][name] = free
    return Settings.model_validate(values)


def _hold_free_port(host: str, held: ExitStack) -> int:
    sock = held.enter_context(socket.socket())
    sock.bind((host, 0))
    return int(sock.getsockname()[1])


def _keys(model: type[BaseModel], path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    keys: list[tuple[str, ...]] = []
    for name, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            keys += _keys(inner, (*path, name))
        else:
            keys.append((*path, name))
    return keys
