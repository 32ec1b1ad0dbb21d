"""Idempotent first-time work: folders, secrets, generated configuration, databases, buckets."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from terraflow import config
from terraflow.console import command, say
from terraflow.credentials import ADMIN, read_secrets, renew_minio_keys
from terraflow.errors import ConfigError, ServiceError, TerraFlowError
from terraflow.files import close_folder, make_dir, write_private
from terraflow.lock import Lock
from terraflow.settings import Settings, load
from terraflow.stack import minio
from terraflow.stack.databases import postgres
from terraflow.stack.databases.addresses import address
from terraflow.stack.databases.migrate import migrate
from terraflow.stack.databases.pools import fit_pools
from terraflow.stack.environment import environment
from terraflow.state import read_state

__all__ = ["check_assignments", "decide_store", "expected_store", "prepare", "set_up"]

#: How long another process's setup may take, migrations of large databases included.
SETUP_S = 2000.0


def set_up(assignments: Iterable[str] = ()) -> Settings:
    """Do the first-time work without starting the stack.

    Parameters
    ----------
    assignments : iterable of str
        Words of the command line such as "store=local".

    Returns
    -------
    Settings
        With its store decided.

    Raises
    ------
    ConfigError
        A setting is wrong.
    ServiceError, StorageError
        As `decide_store` and `prepare`.
    """
    check_assignments(assignments := list(assignments))
    settings = decide_store(load(assignments))
    prepare(settings)
    return settings


def check_assignments(assignments: Iterable[str]) -> None:
    """Refuse settings that neither setup nor start of the stack would heed.

    Raises
    ------
    ConfigError
        One is of the model server, which is started by itself.
    """
    for word in assignments:
        if word.strip().startswith("serving."):
            key = word.partition("=")[0].strip()
            raise ConfigError(
                f"--set {word} would have no effect: the model server is no part of the stack; "
                f"set TERRAFLOW_{key.replace('.', '_').upper()}, or [serving] in "
                f"config/local/terraflow.toml, and start it with `{command('serve')}`."
            )


def prepare(settings: Settings) -> None:
    """Do whatever is not done yet; each step says so when it takes long.

    Parameters
    ----------
    settings : Settings
        With its store decided and no port 0.

    Raises
    ------
    StorageError
        A folder can't be written.
    ServiceError
        A migration failed, or a bucket can't be made.
    """
    folders = ("airflow/logs", "jupyter/runtime", "jupyter/settings", "minio/data", "minio/certs")
    for folder in (*folders, "mlflow", "log", "run"):
        make_dir(settings.var / folder)
    if settings.store == "local":
        make_dir(settings.artifacts)
        make_dir(Path(settings.data_uri))
    _close_folders(settings)
    lock = Lock(settings.run_dir / "setup.lock")
    lock.wait("the setup", SETUP_S, say)
    try:
        _renew_keys(settings)
        _write_configuration(settings, read_secrets(settings))
        if settings.database.kind == "postgresql":
            postgres.prepare(settings)
        migrate(settings, environment(settings))
        fit_pools(settings, environment(settings))
        _make_buckets(settings)
    finally:
        lock.release()


def _close_folders(settings: Settings) -> None:
    """Close the folders of all state to others: those of an older release may be open to them."""
    found = [path for path in settings.var.iterdir() if path.is_dir() and not path.is_symlink()]
    for folder in (*found, *([settings.artifacts] if settings.artifacts.is_dir() else [])):
        close_folder(folder, keep=0o011 if folder.name == "postgresql" else 0)
    # PostgreSQL's own user passes through it, where root starts the stack
    close_folder(settings.var, keep=0o011 if settings.database.is_here else 0)


def _renew_keys(settings: Settings) -> None:
    """Give MinIO new keys where an older release made them, unless it runs with these."""
    state = read_state(settings.run_dir, "minio")
    if (not state or state.phase == "stopped") and renew_minio_keys(settings):
        say(
            "MinIO has new keys, since an older release made its access key too short; programs "
            f"that have the old ones find the new by `{command('status', '--show-credentials')}`."
        )


def decide_store(settings: Settings, *, wait: bool = True) -> Settings:
    """Settle where artifacts and data are kept.

    Without a setting it is MinIO where its binary can be had, else local files. That choice is
    remembered in var/ and read by `settings.load`, so that no later start loses sight of what is
    stored.

    Parameters
    ----------
    wait : bool
        Build MinIO now if need be; else its service does so, while the others start.

    Raises
    ------
    ServiceError
        store = "minio" is set, or was chosen before, and there is no way to a binary.
    """
    store = settings.store
    if expected_store(settings) == "minio":
        try:
            if wait or not (minio.find() or minio.is_reachable()):
                minio.ensure(say)
            store = "minio"
        except TerraFlowError as error:
            if store:
                raise
            say(str(error))
    if not store:
        say(
            f'MinIO can\'t be had here, so store = "local": artifacts go to {settings.artifacts}, '
            f"data to {settings.var / 'eo-data'}; for MinIO, {minio.REMEDIES}."
        )
        store = "local"
    if not settings.store:
        write_private(settings.store_file, store)
    return settings.model_copy(update={"store": store})


def expected_store(settings: Settings) -> str:
    """Tell what `decide_store` will choose, unless building MinIO fails."""
    return settings.store or ("minio" if minio.find() or minio.can_build() else "local")


def _write_configuration(settings: Settings, secret: dict[str, str]) -> None:
    """Write what the services read their secrets from: none passes through the environment."""
    var, root = settings.var, config.project_root()
    passwords = var / "airflow" / "passwords.json"
    airflow: dict[str, dict[str, object]] = {
        "core": {
            "dags_folder": root / "dags",
            "executor": "LocalExecutor",
            "parallelism": settings.airflow.parallelism,
            "load_examples": False,
            "dags_are_paused_at_creation": False,
            "fernet_key": secret["airflow_fernet_key"],
            "execution_api_server_url": f"{settings.airflow_url}/execution/",
            "simple_auth_manager_users": f"{ADMIN}:ADMIN",
            "simple_auth_manager_passwords_file": passwords,
        },
        # setup has done it; each component would load all migrations to check them
        "database": {
            "sql_alchemy_conn": address(settings, "airflow"),
            "check_migrations": False,
        },
        "api": {
            "base_url": settings.airflow_url,
            "host": settings.host,
            "port": settings.airflow.port,
            "workers": 1,
            "secret_key": secret["airflow_secret"],
            "instance_name": "TerraFlow",
        },
        "api_auth": {"jwt_secret": secret["airflow_secret"]},
        "logging": {
            "base_log_folder": var / "airflow" / "logs",
            "colored_console_log": False,
            # set by Airflow itself whatever the umask is, and open to a group by default
            "file_task_handler_new_folder_permissions": "0o700",
            "file_task_handler_new_file_permissions": "0o600",
        },
        # a task whose process was killed is noticed within a minute
        "scheduler": {
            "task_instance_heartbeat_timeout": 60,
            "task_instance_heartbeat_timeout_detection_interval": 10,
            "orphaned_tasks_check_interval": 20,
        },
        # the end of a task that was skipped is seen that late
        "workers": {"min_heartbeat_interval": 2},
        "dag_processor": {"refresh_interval": 15, "min_file_process_interval": 60},
        "usage_data_collection": {"enabled": False},
        "dag_factory": {"enable_telemetry": False},
    }
    if settings.database.kind == "postgresql":
        conn_async = address(settings, "airflow", "psycopg_async")
        airflow["database"]["sql_alchemy_conn_async"] = conn_async
    lines = []
    for section, values in airflow.items():
        lines.append(f"[{section}]")
        lines += [f"{key} = {str(value).replace('%', '%%')}" for key, value in values.items()]
    write_private(var / "airflow" / "airflow.cfg", "\n".join(lines) + "\n")
    write_private(passwords, json.dumps({ADMIN: secret["airflow_password"]}))
    page = "/tree/welcome.ipynb" if (root / "notebooks" / "welcome.ipynb").exists() else ""
    jupyter = {
        "IdentityProvider": {"token": secret["jupyter_token"]},
        "ServerApp": {"allow_root": True, "quit_button": False},
        "LabApp": {
            "app_settings_dir": str(var / "jupyter" / "settings"),
            "default_url": f"/lab{page}",
        },
    }
    # without it JupyterLab asks whether it may fetch news, and looks for newer versions if so
    quiet = {"@jupyterlab/apputils-extension:notification": {"fetchNews": "false"}}
    write_private(var / "jupyter" / "settings" / "overrides.json", json.dumps(quiet))
    write_private(var / "jupyter" / "jupyter_server_config.json", json.dumps(jupyter))
    user, password = secret["minio_user"], secret["minio_password"]
    write_private(
        var / "minio" / "config.env",
        f"MINIO_ROOT_USER={user}\nMINIO_ROOT_PASSWORD={password}\nMINIO_UPDATE=off\n"
        "MINIO_BROWSER_LOGIN_ANIMATION=off\n",
    )
    write_private(
        var / "minio" / "credentials",
        f"[default]\naws_access_key_id = {user}\naws_secret_access_key = {password}\n",
    )


def _make_buckets(settings: Settings) -> None:
    """Make the buckets; to MinIO, a folder of its data is one."""
    buckets = (settings.s3.artifact_bucket, settings.s3.data_bucket)
    if settings.store == "minio":
        for bucket in buckets:
            make_dir(settings.var / "minio" / "data" / bucket)
    if settings.store != "s3":
        return
    stamp = settings.var / "s3" / "buckets"
    wanted = f"{' '.join(buckets)} {settings.s3.endpoint or ''}"
    if not stamp.exists() or stamp.read_text() != wanted:
        _create_buckets(settings)
        write_private(stamp, wanted)


def _create_buckets(settings: Settings) -> None:
    import boto3  # noqa: PLC0415 - slow, and needed only the first time
    from botocore.config import Config  # noqa: PLC0415
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415

    client = boto3.client(
        "s3",
        endpoint_url=settings.s3_endpoint,
        region_name=settings.s3.region,
        config=Config(connect_timeout=5, retries={"max_attempts": 2}),
    )
    for bucket in (settings.s3.artifact_bucket, settings.s3.data_bucket):
        try:
            client.head_bucket(Bucket=bucket)
        except ClientError as missing:
            if missing.response["ResponseMetadata"]["HTTPStatusCode"] != 404:
                raise _no_bucket(settings, bucket, missing) from missing
            try:
                client.create_bucket(Bucket=bucket)
            except (BotoCoreError, ClientError) as error:
                raise _no_bucket(settings, bucket, error) from error
        except BotoCoreError as error:
            raise _no_bucket(settings, bucket, error) from error


def _no_bucket(settings: Settings, bucket: str, error: Exception) -> ServiceError:
    return ServiceError(
        f"Bucket {bucket} at {settings.s3_endpoint or 'Amazon S3'} can't be used: {error}; check "
        "[s3] in config/terraflow.toml and the AWS credentials of this shell."
    )
