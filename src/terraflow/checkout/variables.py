"""The shell's variables that reach a process: the one place that decides, for all processes.

Tasks, services, DAG tasks, notebooks, the installer and the model server get what `shielded` gives.
It needs nothing beyond the standard library, so that make installs by it before there is a package:
`python -m terraflow.checkout.variables COMMAND...`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from terraflow.config import host_environment

__all__ = ["FAMILIES", "LOOPBACK", "Family", "is_secret", "shielded"]

#: Hosts that no proxy may see a request to.
LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class Family:
    """Variables that one kind of program reads.

    Attributes
    ----------
    names : str
        Patterns of all of them, as a shell's, with spaces between.
    kept : str
        Patterns of those that are kept: the ways into the network, who the user is, caches.
    ours : str
        Patterns of folders, which are kept where they lie in the environment that runs this: pixi
        and conda set them.
    """

    names: str
    kept: str = ""
    ours: str = ""

    def drops(self, name: str, value: str) -> bool:
        """Tell whether a variable belongs to the family and is not kept."""
        if not _is_one_of(name, self.names) or _is_one_of(name, self.kept):
            return False
        return not (_is_one_of(name, self.ours) and _is_inside(value, sys.prefix))


#: By what reads them. What changes results, or where they go, comes from the configuration alone.
FAMILIES = {
    "Airflow": Family("AIRFLOW* _AIRFLOW* OPENLINEAGE_*"),
    "MLflow": Family("MLFLOW_* _MLFLOW* DATABRICKS_* OTEL_*"),
    "Jupyter": Family("JUPYTER* IPYTHON*"),
    "MinIO": Family("MINIO_* MC_*"),
    "web servers": Family("UVICORN_* GUNICORN_* FLASK_* WEB_CONCURRENCY FORWARDED_ALLOW_IPS"),
    "GDAL and PROJ": Family(
        "GDAL_* GDALRC PROJ_* OGR_* OSR_* CPL_* VSI_* VSICURL_* GTIFF_* RIO_* RASTERIO_* PYPROJ_* "
        "PYOGRIO_*",
        kept="GDAL_HTTP_PROXY GDAL_HTTPS_PROXY GDAL_HTTP_PROXYUSERPWD GDAL_PROXY_AUTH "
        "GDAL_CURL_CA_BUNDLE GDAL_HTTP_CAPATH",
        ours="GDAL_DATA GDAL_DRIVER_PATH PROJ_DATA PROJ_LIB",
    ),
    "matplotlib": Family("MPL* MATPLOTLIBRC"),
    "numbers": Family("DASK_* NUMPY_* NPY_* SKLEARN_* SCIPY_* XARRAY_*"),
    "pip": Family(
        "PIP_*",
        kept="PIP_*INDEX* PIP_FIND_LINKS PIP_TRUSTED_HOST PIP_*CERT PIP_PROXY PIP_*TIMEOUT "
        "PIP_RETRIES PIP_*CACHE_DIR PIP_KEYRING_PROVIDER PIP_CONFIG_FILE "
        "PIP_DISABLE_PIP_VERSION_CHECK PIP_NO_INPUT",
    ),
    "uv": Family(
        "UV_*",
        kept="UV_*INDEX UV_*INDEX_URL UV_INDEX_* UV_FIND_LINKS UV_NATIVE_TLS UV_SYSTEM_CERTS "
        "UV_CACHE_DIR UV_*TIMEOUT UV_HTTP_RETRIES UV_OFFLINE UV_INSECURE_HOST "
        "UV_KEYRING_PROVIDER UV_CONCURRENT_* UV_LINK_MODE UV_CONFIG_FILE UV_PYTHON_INSTALL_DIR "
        "UV_*PROXY",
    ),
    "Go": Family(
        "GOFLAGS GOOS GOARCH GOARM* GOAMD* GOBIN GOWORK GO111MODULE GOEXPERIMENT GOROOT CGO_*"
    ),
    "Python": Family(
        "PYTHON*",  # of PYTHONPATH, `_own_path` keeps some
        # without bytecode each task of a DAG would compile for seconds what it imports
        kept="PYTHONPYCACHEPREFIX PYTHONUNBUFFERED PYTHONNOUSERSITE PYTHONPATH",
    ),
    "git": Family(
        "GIT_*",
        kept="GIT_SSL_* GIT_SSH* GIT_PROXY_* GIT_HTTP_* GIT_*ASKPASS GIT_TERMINAL_PROMPT "
        "GIT_AUTHOR_* GIT_COMMITTER_* GIT_CONFIG_GLOBAL GIT_CONFIG_SYSTEM GIT_CONFIG_NOSYSTEM "
        "GIT_DISCOVERY_ACROSS_FILESYSTEM",
    ),
    "PostgreSQL": Family("PG*"),
    "AWS": Family("AWS_*"),
}
#: Of AWS's, what a configured S3 store is entered with; its address is [s3] endpoint alone.
S3_KEPT = (
    "AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN AWS_SECURITY_TOKEN AWS_PROFILE "
    "AWS_DEFAULT_PROFILE AWS_SHARED_CREDENTIALS_FILE AWS_CONFIG_FILE AWS_ROLE_* "
    "AWS_WEB_IDENTITY_TOKEN_FILE AWS_CONTAINER_* AWS_CREDENTIAL_* AWS_EC2_METADATA_* "
    "AWS_METADATA_SERVICE_* AWS_STS_REGIONAL_ENDPOINTS AWS_CA_BUNDLE AWS_LOGIN_* AWS_SSO_* "
    "AWS_RETRY_MODE AWS_MAX_ATTEMPTS"
)
#: What stands in place of files in the user's home that would change results; the AWS ones where
#: no S3 store is configured.
REPLACED = {"GDAL_CONFIG_FILE": os.devnull, "MATPLOTLIBRC": os.devnull}
#: An environment of packages has all that is needed; beside a system's Python the user's may be.
_OWN_PACKAGES = (
    {"PYTHONNOUSERSITE": "1"}
    if sys.prefix != sys.base_prefix or Path(sys.prefix, "conda-meta").is_dir()
    else {}
)
NO_AWS = {
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "AWS_EC2_METADATA_DISABLED": "true",
}


def shielded(
    variables: Mapping[str, str],
    root: Path | None,
    *,
    s3: bool = False,
    postgresql: bool = False,
) -> dict[str, str]:
    """Give the variables of a process of this checkout, of those that the user's shell has.

    What one kind of program reads (`FAMILIES`) is dropped, but for what is kept; NO_PROXY is
    extended by this machine; files in the home folder that change results are replaced by none. Of
    PYTHONPATH, folders of the checkout stay, and the one that this platform came from. All other
    variables are kept.

    Parameters
    ----------
    variables : mapping
        Of the shell.
    root : Path or None
        The project's folder, where there is one.
    s3 : bool
        An S3 store is configured: its credentials are kept, and addresses of others ignored.
    postgresql : bool
        The stack has a server of its own, whose clients may see no login of another.

    Examples
    --------
    >>> shielded({"GIT_DIR": "/else/.git", "LANG": "C"}, None).keys() & {"GIT_DIR", "LANG"}
    {'LANG'}
    """
    dropped = dict(FAMILIES)
    if s3:
        dropped["AWS"] = Family("AWS_*", kept=S3_KEPT)
    if not postgresql:
        del dropped["PostgreSQL"]
    kept = {
        name: value
        for name, value in variables.items()
        if not any(family.drops(name, value) for family in dropped.values())
    }
    if path := _own_path(kept.pop("PYTHONPATH", ""), root):
        kept["PYTHONPATH"] = path
    around = _without_proxy(variables)
    aws = {"AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true"} if s3 else NO_AWS
    return kept | REPLACED | _OWN_PACKAGES | aws | {"NO_PROXY": around, "no_proxy": around}


def is_secret(name: str) -> bool:
    """Tell whether a variable holds a secret, and not where one is kept."""
    words = "*PASSWORD* *SECRET* *TOKEN* *ACCESS_KEY* *CREDENTIAL*"
    return _is_one_of(name, words) and not name.endswith(("_FILE", "_URI"))


def _is_one_of(name: str, patterns: str) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns.split())


def _is_inside(path: str, folder: str | Path) -> bool:
    try:
        return Path(path).resolve().is_relative_to(Path(folder).resolve())
    except (OSError, ValueError):  # no path at all
        return False


def _own_path(path: str, root: Path | None) -> str:
    """Of PYTHONPATH, give the folders of the checkout, and the one that this platform came from."""
    platform = Path(__file__).resolve().parents[2]
    own = [
        entry
        for entry in path.split(os.pathsep)
        if entry and ((root and _is_inside(entry, root)) or Path(entry).resolve() == platform)
    ]
    return os.pathsep.join(own)


def _without_proxy(variables: Mapping[str, str]) -> str:
    """Join both spellings of NO_PROXY, of which each program reads its own, and this machine."""
    told = ",".join(variables.get(name, "") for name in ("no_proxy", "NO_PROXY"))
    hosts = [host.strip() for host in told.split(",")]
    if "*" in hosts:  # no proxy at all, which * means alone only
        return "*"
    return ",".join(dict.fromkeys([*(host for host in hosts if host), *LOOPBACK]))


def main(command: list[str]) -> None:
    """Become a command with shielded variables: by this make runs the installer."""
    os.execvpe(command[0], command, shielded(host_environment(), None))


if __name__ == "__main__":
    main(sys.argv[1:])
