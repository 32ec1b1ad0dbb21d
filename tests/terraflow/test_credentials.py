from __future__ import annotations

import base64
import json
import os
import re
from pathlib import Path

import pytest

from terraflow.credentials import read_secrets, renew_minio_keys, store_environment
from terraflow.errors import ConfigError
from terraflow.settings import Settings


def test_read_secrets_are_generated_once(settings: Settings) -> None:
    first = read_secrets(settings)
    assert read_secrets(settings) == first
    assert all(len(value) >= 12 for value in first.values())


def test_read_secrets_damaged_file_is_told(settings: Settings) -> None:
    read_secrets(settings)
    (settings.var / "secrets.json").write_text("{")
    with pytest.raises(ConfigError, match=r"secrets\.json is not valid JSON"):
        read_secrets(settings)


@pytest.mark.parametrize(
    ("text", "lacking"),
    [
        ('{"airflow_password": "a", "airflow_secret": "b", "minio_user": 3}', "airflow_fernet_key"),
        ("{}", "airflow_password"),
        ("[]", "airflow_password"),
        ("null", "airflow_password"),
    ],
)
def test_read_secrets_that_lack_one_are_told(text: str, lacking: str, settings: Settings) -> None:
    read_secrets(settings)
    (settings.var / "secrets.json").write_text(text)
    with pytest.raises(ConfigError, match=rf"secrets\.json lacks {lacking}, .*minio_user, .*reset"):
        read_secrets(settings)


def test_read_secrets_are_read_by_their_owner_only(settings: Settings) -> None:
    read_secrets(settings)
    assert (settings.var / "secrets.json").stat().st_mode & 0o777 == 0o600


def test_read_secrets_of_another_checkout_are_others(settings: Settings, tmp_path: Path) -> None:
    other = settings.model_copy(update={"var": tmp_path / "other"})
    first, second = read_secrets(settings), read_secrets(other)
    assert first.keys() == second.keys()
    assert not set(first.values()) & set(second.values())


def test_read_secrets_fernet_key_is_32_bytes(settings: Settings) -> None:
    key = read_secrets(settings)["airflow_fernet_key"]
    assert len(base64.urlsafe_b64decode(key)) == 32


def test_read_secrets_access_key_of_minio_has_100_random_bits(
    settings: Settings, tmp_path: Path
) -> None:
    stacks = [settings.model_copy(update={"var": tmp_path / str(n)}) for n in range(40)]
    keys = [read_secrets(stack)["minio_user"] for stack in stacks]
    assert all(re.fullmatch("[A-Z2-7]{20}", key) for key in keys)
    varied = [len({key[place] for key in keys}) for place in range(20)]
    assert min(varied) >= 10, "no character of it may be the same, or nearly, in all"


def write_old_keys(settings: Settings) -> dict[str, str]:
    old = read_secrets(settings) | {"minio_user": "terraflow-0a1b2c3d", "minio_password": "x" * 40}
    (settings.var / "secrets.json").write_text(json.dumps(old))
    return old


def test_renew_minio_keys_of_an_older_release_leaves_all_others(settings: Settings) -> None:
    old = write_old_keys(settings)
    assert renew_minio_keys(settings)
    new = read_secrets(settings)
    assert {name for name in new if new[name] != old[name]} == {"minio_user", "minio_password"}
    assert len(new["minio_user"]) == 20
    assert (settings.var / "secrets.json").stat().st_mode & 0o777 == 0o600


def test_renew_minio_keys_that_are_long_keeps_them(settings: Settings) -> None:
    before = read_secrets(settings)
    assert not renew_minio_keys(settings)
    assert read_secrets(settings) == before


def with_store(settings: Settings, store: str, endpoint: str | None = None) -> Settings:
    s3 = settings.s3.model_copy(update={"endpoint": endpoint, "region": "eu-central-1"})
    return settings.model_copy(update={"store": store, "s3": s3})


def test_store_environment_of_local_files_is_empty(settings: Settings) -> None:
    assert store_environment(with_store(settings, "local")) == {}


def test_store_environment_of_minio_gives_a_path_and_no_secret(settings: Settings) -> None:
    variables = store_environment(with_store(settings, "minio"))
    path = str(settings.var / "minio" / "credentials")
    assert variables["AWS_SHARED_CREDENTIALS_FILE"] == path
    assert variables["CPL_AWS_CREDENTIALS_FILE"] == path
    assert variables["AWS_CONFIG_FILE"] == os.devnull
    assert variables["AWS_ENDPOINT_URL_S3"] == f"http://127.0.0.1:{settings.minio.port}"
    secrets = read_secrets(settings)
    assert not {secrets["minio_user"], secrets["minio_password"]} & set(variables.values())


def test_store_environment_of_amazon_leaves_endpoint_and_credentials(settings: Settings) -> None:
    variables = store_environment(with_store(settings, "s3"))
    assert variables == {"AWS_DEFAULT_REGION": "eu-central-1", "AWS_REGION": "eu-central-1"}


@pytest.mark.parametrize(
    ("endpoint", "https"), [("http://10.0.0.1:9000", "NO"), ("https://s3.example.org", "YES")]
)
def test_store_environment_tells_gdal_the_host_and_the_scheme(
    endpoint: str, https: str, settings: Settings
) -> None:
    variables = store_environment(with_store(settings, "s3", endpoint))
    assert variables["MLFLOW_S3_ENDPOINT_URL"] == variables["AWS_ENDPOINT_URL_S3"] == endpoint
    assert variables["AWS_S3_ENDPOINT"] == endpoint.partition("://")[2]
    assert (variables["AWS_HTTPS"], variables["AWS_VIRTUAL_HOSTING"]) == (https, "FALSE")
    assert "AWS_SHARED_CREDENTIALS_FILE" not in variables
