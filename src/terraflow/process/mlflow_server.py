"""`mlflow server` in one process.

MLflow's command line starts uvicorn as a second process and stays beside it, so that all of MLflow
is imported twice, one after the other, and lies in memory twice. Here it serves where it is.
"""

from __future__ import annotations

import gc
import sys
from typing import NoReturn

from terraflow import config

__all__ = ["main"]

#: MLflow's application behind its login.
GUARDED = "terraflow.process.mlflow_guard.app:app"
#: pandas and MLflow do without these, and so does the server.
UNUSED = ("pyarrow", "scipy")


def main() -> None:
    """Run the `mlflow` command with the words of this one."""
    if not config.host_environment().get("MLFLOW_TRACKING_TOKEN"):
        sys.exit("MLFLOW_TRACKING_TOKEN is not set, by which clients get in; start it by `up`.")
    gc.disable()  # a third of the start goes into looking for garbage among what it imports
    for name in UNUSED:
        sys.modules[name] = None  # type: ignore[assignment] # Python's way to refuse an import
    # uvicorn first: by its presence MLflow knows that it serves, and checks the hosts of requests
    from uvicorn.main import main as uvicorn  # noqa: PLC0415, I001

    import mlflow.server  # noqa: PLC0415
    from mlflow.cli import cli  # noqa: PLC0415

    def serve_here(command: list[str], *, extra_env: dict[str, str], **_: object) -> NoReturn:
        """Run `python -m uvicorn ...` in this process, and end with it."""
        gc.freeze()
        gc.enable()
        config.export(extra_env)
        uvicorn([*command[3:-1], GUARDED])
        raise AssertionError("uvicorn ends the process")

    mlflow.server._exec_cmd = serve_here  # type: ignore[attr-defined, assignment]
    cli(prog_name="mlflow")


if __name__ == "__main__":
    main()
