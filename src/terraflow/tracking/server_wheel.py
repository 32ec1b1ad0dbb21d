"""The wheel of the model server: this installation's own code, without the stack's."""

from __future__ import annotations

import hashlib
import zipfile
from base64 import urlsafe_b64encode
from importlib.metadata import requires
from pathlib import Path

from packaging.requirements import Requirement

import terraflow

__all__ = ["SERVER", "pack", "requirements"]

DISTRIBUTION = "terraflow_serving"
#: What the server needs beside the model.
SERVER = (
    "fastapi",
    "httptools",
    "joblib",
    "mlflow-skinny",
    "numpy",
    "obstore",
    "pandas",
    "prometheus-client",
    "psutil",
    "pyarrow",
    "pydantic",
    "pysimdjson",
    "starlette",
    "threadpoolctl",
    "uvicorn",
)
#: What neither a server nor a map needs of the platform's requirements.
STACK = {
    "apache-airflow",
    "copier",
    "dag-factory",
    "honcho",
    "invoke",
    "jupyterlab",
    "mlflow",
    "optuna",
    "pendulum",
    "setproctitle",
    "sqlalchemy",
    "uv",
}
#: Rooms of the package that a server has no use for.
LEFT_OUT = {"orchestration", "process", "projects", "stack", "tasks"}
#: All files are of that time, the first that a zip can have: the same code gives the same bytes.
EPOCH = (1980, 1, 1, 0, 0, 0)


def requirements(*, maps: bool) -> list[str]:
    """List what the server needs, and with `maps` what it needs to make maps, too."""
    if not maps:
        return list(SERVER)
    own = [Requirement(text) for text in requires("terraflow-eo") or []]
    names = {r.name for r in own if not (r.marker and "extra" in str(r.marker))}
    return sorted(names - STACK | set(SERVER))


def pack(target: Path) -> Path:
    """Write the wheel.

    It is made of the files of this installation, since a project has the platform as a wheel, of
    which nothing is left but what was installed.

    Parameters
    ----------
    target : Path
        A folder.

    Returns
    -------
    Path
        terraflow_serving-VERSION-py3-none-any.whl
    """
    package = Path(terraflow.__file__).parent
    files = [path for path in sorted(package.rglob("*")) if path.suffix in {".py", ".html"}]
    contents = {
        f"terraflow/{path.relative_to(package).as_posix()}": path.read_bytes()
        for path in files
        if path.relative_to(package).parts[0] not in LEFT_OUT
    }
    version = terraflow.__version__
    info = f"{DISTRIBUTION}-{version}.dist-info"
    needs = "".join(f"Requires-Dist: {name}\n" for name in SERVER)
    contents[f"{info}/METADATA"] = (
        f"Metadata-Version: 2.1\nName: terraflow-serving\nVersion: {version}\n{needs}".encode()
    )
    contents[f"{info}/WHEEL"] = (
        b"Wheel-Version: 1.0\nGenerator: terraflow\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    )
    record = "".join(f"{name},sha256={_hash(c)},{len(c)}\n" for name, c in contents.items())
    contents[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n".encode()
    wheel = target / f"{DISTRIBUTION}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in contents.items():
            file.writestr(zipfile.ZipInfo(name, EPOCH), content, zipfile.ZIP_DEFLATED)
    return wheel


def _hash(content: bytes) -> str:
    return urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
