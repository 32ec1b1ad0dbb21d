"""Generated secrets, and how clients find the store with them."""

from __future__ import annotations

import base64
import json
import os
import secrets
import string
from collections.abc import Callable
from pathlib import Path

from terraflow.config import project_root
from terraflow.console import command
from terraflow.errors import ConfigError
from terraflow.files import expand_home, write_private
from terraflow.settings import Settings

__all__ = [
    "ADMIN",
    "mlflow_token_file",
    "read_mlflow_token",
    "read_secrets",
    "read_token",
    "renew_minio_keys",
    "store_environment",
    "token_file",
    "tracking_environment",
]

ADMIN = "admin"
#: Characters of MinIO's access key, of 5 random bits each. More than 20 MinIO refuses elsewhere;
#: with fewer than 100 bits it could be guessed, and who knows it needs no secret (CVE-2026-41145).
ACCESS_KEY = 20
_BASE32 = string.ascii_uppercase + "234567"
#: Name of a secret to what makes it.
_MAKERS: dict[str, Callable[[], str]] = {
    "airflow_password": lambda: secrets.token_urlsafe(18),
    "airflow_secret": lambda: secrets.token_urlsafe(48),
    "airflow_fernet_key": lambda: base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
    "jupyter_token": lambda: secrets.token_urlsafe(32),
    "minio_user": lambda: "".join(secrets.choice(_BASE32) for _ in range(ACCESS_KEY)),
    "minio_password": lambda: secrets.token_urlsafe(30),
}


def read_secrets(settings: Settings) -> dict[str, str]:
    """Read the generated secrets; generate them the first time.

    Returns
    -------
    dict
        airflow_password, airflow_secret, airflow_fernet_key, jupyter_token, minio_user,
        minio_password.

    Raises
    ------
    ConfigError
        The file of secrets is damaged.
    """
    path = settings.var / "secrets.json"
    if not path.exists():
        values = {name: make() for name, make in _MAKERS.items()}
        write_private(path, json.dumps(values, indent=1), once=True)
    try:
        loaded: dict[str, str] = json.loads(path.read_text())
    except ValueError as error:
        raise ConfigError(
            f"{path} is not valid JSON ({error}); restore it, or run `{command('reset')}`."
        ) from error
    known = loaded if isinstance(loaded, dict) else {}
    if lacking := [name for name in _MAKERS if not isinstance(known.get(name), str)]:
        raise ConfigError(
            f"{path} lacks {', '.join(lacking)}; restore it, or run `{command('reset')}`."
        )
    return loaded


def renew_minio_keys(settings: Settings) -> bool:
    """Replace MinIO's keys where the access key is one of an older release, which can be guessed.

    MinIO's data do not depend on them. Nothing may be running with the old ones.

    Returns
    -------
    bool
        Whether they were replaced.
    """
    values = read_secrets(settings)
    if len(values["minio_user"]) >= ACCESS_KEY:
        return False
    new = {name: _MAKERS[name]() for name in ("minio_user", "minio_password")}
    write_private(settings.var / "secrets.json", json.dumps(values | new, indent=1))
    return True


def token_file(settings: Settings) -> Path:
    """File that holds the header by which the model server knows who may ask; made once.

    `curl -H @FILE` sends it, without showing the token among the arguments.
    """
    return _make_token(settings.var / "serving_token")


def mlflow_token_file(settings: Settings) -> Path:
    """File that holds the header by which MLflow's server knows who may ask; made once.

    Raises
    ------
    ConfigError
        The settings name another one, which is not there.
    """
    named = settings.mlflow.token_file
    if named is None:
        return _make_token(settings.var / "mlflow_token")
    path = project_root() / expand_home(named)
    if not path.is_file():
        raise ConfigError(
            f"[mlflow] token_file is {path}, which is no file; copy var/mlflow_token of the stack "
            "that runs MLflow there, or leave the key out."
        )
    return path


def _make_token(path: Path) -> Path:
    if not path.exists():
        write_private(path, f"Authorization: Bearer {secrets.token_urlsafe(32)}\n", once=True)
    return path


def read_token(settings: Settings) -> str:
    """Read the token of the model server, or "" where the settings ask for none."""
    return _token_in(token_file(settings)) if settings.serving.token else ""


def read_mlflow_token(settings: Settings) -> str:
    """Read the token of MLflow's server.

    Raises
    ------
    ConfigError
        Its file is not there, or empty.
    """
    return _token_in(mlflow_token_file(settings))


def _token_in(path: Path) -> str:
    words = path.read_text().split()
    if not words:
        raise ConfigError(f"{path} is empty; remove it, and start anew.")
    return words[-1]


def tracking_environment(settings: Settings) -> dict[str, str]:
    """Variables by which MLflow's clients find its server, and get in."""
    return {
        "MLFLOW_TRACKING_URI": settings.mlflow_url,
        "MLFLOW_TRACKING_TOKEN": read_mlflow_token(settings),
    }


def store_environment(settings: Settings) -> dict[str, str]:
    """Variables by which boto3, MLflow and GDAL find the S3 store."""
    if settings.store == "local":
        return {}
    variables = {"AWS_DEFAULT_REGION": settings.s3.region, "AWS_REGION": settings.s3.region}
    if settings.store == "minio":
        credentials = str(settings.var / "minio" / "credentials")
        variables |= {
            "AWS_SHARED_CREDENTIALS_FILE": credentials,
            "CPL_AWS_CREDENTIALS_FILE": credentials,
            "AWS_CONFIG_FILE": os.devnull,
        }
    if endpoint := settings.s3_endpoint:
        scheme, _, host = endpoint.partition("://")
        variables |= {
            "MLFLOW_S3_ENDPOINT_URL": endpoint,
            "AWS_ENDPOINT_URL_S3": endpoint,
            "AWS_S3_ENDPOINT": host,
            "AWS_HTTPS": "YES" if scheme == "https" else "NO",
            "AWS_VIRTUAL_HOSTING": "FALSE",
        }
    return variables
