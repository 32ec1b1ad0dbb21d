"""Buckets of the S3 store, and who gets into them."""

from __future__ import annotations

from typing import Any

from obstore.store import S3Store

from terraflow.config import config_dir
from terraflow.console import command
from terraflow.credentials import read_secrets
from terraflow.errors import StorageError, first_line
from terraflow.settings import Settings

__all__ = ["open_bucket"]


def open_bucket(bucket: str, settings: Settings) -> S3Store:
    """Open a bucket of the store, with the credentials of its kind.

    Raises
    ------
    StorageError
        No store was chosen, it is none of S3, or there are no credentials for it.
    """
    options: dict[str, Any] = {
        "region": settings.s3.region,
        "client_options": {"allow_http": True, "timeout": "60s"},
        "retry_config": {"max_retries": 3},
    }
    if endpoint := settings.s3_endpoint:
        options |= {"endpoint": endpoint, "virtual_hosted_style_request": False}
    if settings.store == "minio":
        secret = read_secrets(settings)
        options |= {
            "access_key_id": secret["minio_user"],
            "secret_access_key": secret["minio_password"],
        }
    elif settings.store == "s3":
        options["credential_provider"] = _users_credentials(bucket)
    elif settings.store == "local":
        raise StorageError(
            f's3://{bucket} can\'t be opened with store = "local"; set store = "s3", or name files '
            "of the web by https://."
        )
    else:
        raise StorageError(
            f"There is no store yet, since the first `{command('up')}` chooses its kind; run it, "
            f'or write store = "local" into {config_dir()}/terraflow.toml.'
        )
    return S3Store(bucket, **options)


def _users_credentials(bucket: str) -> Any:
    """Read the user's own credentials, where AWS's tools look for them."""
    from botocore.exceptions import BotoCoreError  # noqa: PLC0415 - slow, for a store of S3 alone
    from obstore.auth.boto3 import Boto3CredentialProvider  # noqa: PLC0415

    try:
        return Boto3CredentialProvider()
    except (BotoCoreError, ValueError) as error:
        text = first_line(error) if isinstance(error, BotoCoreError) else "there are none"
        raise StorageError(
            f"Credentials for s3://{bucket} can't be read: {text}; set AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, or AWS_PROFILE to a profile of ~/.aws."
        ) from error
