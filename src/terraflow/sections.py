"""Sections of the stack's settings, with their defaults."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = [
    "S3",
    "Airflow",
    "Database",
    "Jupyter",
    "Minio",
    "Mlflow",
    "Port",
    "Section",
    "Services",
    "Serving",
]

Port = Annotated[int, Field(ge=0, le=65535, description="0 means any free port")]


class Section(BaseModel):
    """A part of the settings: its keys are fixed, and checked with their defaults."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


class Airflow(Section):
    """Airflow's API server and scheduler."""

    port: Port = 8080
    parallelism: int = Field(4, ge=1, description="tasks that may run at once")
    keep_logs_days: float = Field(
        90, ge=0, allow_inf_nan=False, description="logs of tasks; older ones are removed; 0 never"
    )


class Mlflow(Section):
    """MLflow's tracking server and registry."""

    port: Port = 5000
    token_file: Path | None = Field(
        None,
        description="with MLflow's token: of another stack, whose server a tunnel leads to; "
        "var/mlflow_token if empty",
    )


class Jupyter(Section):
    """JupyterLab."""

    port: Port = 8895


class Minio(Section):
    """MinIO's S3 interface and its console."""

    port: Port = 9000
    console_port: Port = 9001


class Services(Section):
    """What keeps the services running."""

    hung_s: float = Field(
        120, ge=0, description="without an answer, after which one is started again; 0 for never"
    )


class S3(Section):
    """Buckets, and the endpoint when store is "s3"; credentials come from the AWS chain."""

    endpoint: str | None = Field(None, description="empty for Amazon's own; http://host:port else")
    region: str = Field("us-east-1", description="of the buckets")
    artifact_bucket: str = Field("mlflow", description="of MLflow's artifacts")
    data_bucket: str = Field("eo-data", description="of images, samples and maps")


class Database(Section):
    """Where Airflow and MLflow keep their metadata; with a URL on a PostgreSQL server elsewhere."""

    kind: Literal["sqlite", "postgresql"] = Field(
        "sqlite", description='"postgresql" where many tasks or machines write at once'
    )
    url: str | None = Field(None, description="a server elsewhere: postgresql://USER@HOST:PORT")

    @model_validator(mode="after")
    def _server_elsewhere(self) -> Database:
        parts = urlsplit(self.url or "")
        if parts.password is not None or "password" in (self.url or ""):
            raise ValueError(
                "url holds a password; write it as HOST:PORT:*:USER:PASSWORD into ~/.pgpass (mode "
                "0600), where PostgreSQL's clients look for it"
            )
        server = parts.scheme == "postgresql" and parts.hostname and parts.username
        if self.url and (not server or parts.path.strip("/")):
            raise ValueError(
                f"url = {self.url!r} names no server; write postgresql://USER@HOST:PORT, without a "
                "database, since Airflow and MLflow have one each"
            )
        if self.url and self.kind != "postgresql":
            raise ValueError('url is set, but kind is not; set kind = "postgresql", or remove url')
        return self

    @property
    def is_here(self) -> bool:
        """Whether a PostgreSQL server is part of the stack."""
        return self.kind == "postgresql" and not self.url


class Serving(Section):
    """The model server, and what one request may ask of it."""

    port: Port = 5002
    max_body_mb: int = Field(50, ge=1, description="of one request")
    max_rows: int = Field(1_000_000, ge=1, description="of one request")
    max_queue: int = Field(1000, ge=1, description="requests that may wait at once")
    body_s: float = Field(60, gt=0, description="in which a request must have come whole")
    token: bool = Field(False, description="asked of all but /health")
    log_share: float = Field(
        0, ge=0, le=1, description="of requests that are kept with their answers, in the store"
    )
    follow_s: float = Field(
        5, ge=0.1, description="between looks at the alias that `serve --follow` follows"
    )
    deploy_host: str = Field(
        "", description="which a DAG deploys each new champion to, as ssh takes it; none if empty"
    )
