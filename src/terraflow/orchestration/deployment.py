"""The task that brings a new champion to another machine."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowException, AirflowSkipException

from terraflow.orchestration.operators import WiredOperator

if TYPE_CHECKING:
    from airflow.sdk import Context

__all__ = ["DeployOperator"]


class DeployOperator(WiredOperator):
    """Run `invoke deploy` with the model that was promoted; nothing where none was, or no host is.

    Parameters
    ----------
    host : str
        As ssh takes it, without a password; `[serving] deploy_host` by default.
    words : list of str
        Further options of the task, as ["--port", "5002"].
    """

    ui_color = "#f0e8e4"

    def __init__(self, *, host: str = "", words: list[str] | None = None, **options: Any) -> None:
        super().__init__(**{"task_id": "deploy", "when": "promoted"} | options)
        self.host, self.words = host, list(words or [])

    def execute(self, context: Context) -> None:
        """Deploy; its output is the task's log."""
        from terraflow import settings
        from terraflow.config import project_root

        promoted = self.before(context)
        model = f"models:/{promoted['name']}/{promoted['version']}"
        host = self.host or settings.load().serving.deploy_host
        if not host:
            raise AirflowSkipException("No machine to deploy to: [serving] deploy_host is empty.")
        command = [sys.executable, "-m", "invoke", "deploy", host, "--model", model]
        done = subprocess.run(
            [*command, *self.words],
            cwd=project_root(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        print(done.stdout)  # noqa: T201 - Airflow's log
        if done.returncode:
            last = (done.stdout.strip().splitlines() or ["it says nothing"])[-1]
            raise AirflowException(f"{model} was not deployed to {host}: {last}")
