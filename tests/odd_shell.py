"""Variables of a user's shell, by family: each would change what a process does, or where to."""

from __future__ import annotations

__all__ = ["KEPT", "NONSENSE", "PRINT"]

#: A program that prints its variables.
PRINT = "import json, os; print(json.dumps(dict(os.environ)))"
_ELSEWHERE = "http://127.0.0.1:9"
#: By family, names to values of other installations, servers and repositories, or of no sense.
NONSENSE = {
    "Airflow": {
        "AIRFLOW_HOME": "/nowhere",
        "AIRFLOW_CONFIG": "/nowhere/airflow.cfg",
        "AIRFLOW__CORE__EXECUTOR": "NoExecutor",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "sqlite:////nowhere/else.db",
        "_AIRFLOW_PROCESS_CONTEXT": "nonsense",
    },
    "MLflow": {
        "MLFLOW_TRACKING_URI": _ELSEWHERE,
        "MLFLOW_REGISTRY_URI": _ELSEWHERE,
        "MLFLOW_RUN_ID": "0123456789abcdef0123456789abcdef",
        "MLFLOW_EXPERIMENT_ID": "4711",
        "MLFLOW_EXPERIMENT_NAME": "of another",
        "MLFLOW_TRACKING_TOKEN": "of-another-server",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "many",
        "_MLFLOW_ACTIVE_MODEL_ID": "m-0",
        "OTEL_EXPORTER_OTLP_ENDPOINT": _ELSEWHERE,
    },
    "Jupyter": {
        "JUPYTER_CONFIG_DIR": "/nowhere",
        "JUPYTER_TOKEN": "weak",
        "JUPYTER_PATH": "/nowhere",
        "IPYTHONDIR": "/nowhere",
    },
    "MinIO": {"MINIO_ROOT_USER": "somebody", "MINIO_VOLUMES": "/nowhere", "MC_HOST_x": _ELSEWHERE},
    "web servers": {"UVICORN_PORT": "1", "WEB_CONCURRENCY": "many", "FORWARDED_ALLOW_IPS": "*"},
    "GDAL and PROJ": {
        "GDAL_DATA": "/nowhere/gdal",
        "GDAL_DRIVER_PATH": "/nowhere/plugins",
        "GDAL_SKIP": "GTiff",
        "GDAL_CONFIG_FILE": "/nowhere/gdalrc",
        "PROJ_LIB": "/nowhere/proj",
        "PROJ_DATA": "/nowhere/proj",
        "PROJ_NETWORK": "ON",
        "OSR_DEFAULT_AXIS_MAPPING_STRATEGY": "AUTHORITY_COMPLIANT",
        "CPL_AWS_CREDENTIALS_FILE": "/nowhere",
        "GTIFF_SRS_SOURCE": "EPSG",
    },
    "matplotlib": {
        "MPLBACKEND": "nonsense",
        "MPLCONFIGDIR": "/nowhere",
        "MATPLOTLIBRC": "/nowhere",
    },
    "pip": {"PIP_REQUIRE_HASHES": "1", "PIP_TARGET": "/nowhere", "PIP_USER": "1"},
    "uv": {
        "UV_REQUIRE_HASHES": "1",
        "UV_PYTHON": "3.8",
        "UV_SYSTEM_PYTHON": "1",
        "UV_CONSTRAINT": "/nowhere",
        "UV_NO_BINARY": "1",
    },
    "Go": {"GOFLAGS": "-mod=vendor", "GOOS": "plan9", "GOBIN": "/nowhere"},
    "Python": {
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPATH": "/nowhere/packages",
        "PYTHONWARNINGS": "error",
        "PYTHONOPTIMIZE": "2",
        "PYTHONSTARTUP": "/nowhere.py",
        "PYTHONIOENCODING": "ascii",
    },
    "git": {
        "GIT_DIR": "/nowhere/.git",
        "GIT_WORK_TREE": "/nowhere",
        "GIT_INDEX_FILE": "/nowhere/index",
        "GIT_CEILING_DIRECTORIES": "/",
        "GIT_CONFIG_COUNT": "many",
    },
    "AWS": {
        "AWS_PROFILE": "of-another-account",
        "AWS_ENDPOINT_URL": _ELSEWHERE,
        "AWS_ENDPOINT_URL_S3": _ELSEWHERE,
        "AWS_S3_ENDPOINT": "127.0.0.1:9",
        "AWS_ACCESS_KEY_ID": "of-another-account",
        "AWS_SECRET_ACCESS_KEY": "of-another-account",
        "AWS_NO_SIGN_REQUEST": "YES",
        "AWS_REGION": "nowhere-1",
    },
    "numbers": {"DASK_SCHEDULER": "nonsense", "SKLEARN_ASSUME_FINITE": "nonsense"},
    "proxies": {
        f"{scheme}{end}": _ELSEWHERE
        for scheme in ("http", "https", "all", "HTTP", "HTTPS", "ALL")
        for end in ("_proxy" if scheme.islower() else "_PROXY",)
    },
}
#: What is kept in every process: ways into the network, and what is nobody's business here.
KEPT = {
    **NONSENSE["proxies"],
    "REQUESTS_CA_BUNDLE": "/etc/ssl/certs/ca-certificates.crt",
    "PIP_INDEX_URL": "https://index.example.org/simple",
    "UV_INDEX_URL": "https://index.example.org/simple",
    "GDAL_HTTP_PROXY": "proxy.example.org:3128",
    "GIT_SSH_COMMAND": "ssh -F config",
    "GIT_AUTHOR_NAME": "Somebody",
    "MY_OWN": "1",
}
