"""Follow an alias of the registry from version to version."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from terraflow import probes
from terraflow.credentials import read_mlflow_token
from terraflow.process.child_processes import die_with_parent
from terraflow.settings import Settings
from terraflow.stack.model_server import ServedModel

__all__ = ["Alias", "Preparation"]

PREPARE = "terraflow.serving.keeper.prepare"
#: A version that could not be had, as when the store is away, is tried again after that.
RETRY_S = 30.0


class Alias:
    """An alias, as name@alias, that is looked at now and then.

    MLflow's REST interface is asked without MLflow's client, which would take more memory than all
    else in this process.
    """

    def __init__(self, settings: Settings, alias: str) -> None:
        self.name, _, alias_name = alias.partition("@")
        query = urlencode({"name": self.name, "alias": alias_name})
        self._url = f"{settings.mlflow_url}/api/2.0/mlflow/registered-models/alias?{query}"
        self._settings = settings
        self._period, self._next = settings.serving.follow_s, 0.0

    def look(self) -> str:
        """Give the version that it points at; "" where it is not time, or none is told."""
        if time.monotonic() < self._next:
            return ""
        self._next = time.monotonic() + self._period
        answer = probes.get_json(self._url, read_mlflow_token(self._settings))
        try:
            return str(answer["model_version"]["version"])
        except (KeyError, TypeError):  # MLflow is away, or nothing has this alias
            return ""

    def tag(self, version: str, text: str) -> subprocess.Popen[bytes]:
        """Begin to write into the registry what became of a version."""
        return _run(self.name, version, "--tag", text)


class Preparation:
    """A version that is being copied, in a process of its own.

    Parameters
    ----------
    alias : Alias
    version : str

    Attributes
    ----------
    model : ServedModel or None
        Once it is there.
    problem : str
        Why it can't be had, or "".
    passing : bool
        Whether the same may go well later.
    """

    def __init__(self, settings: Settings, alias: Alias, version: str) -> None:
        self.version, self.problem, self.passing = version, "", False
        self.model: ServedModel | None = None
        self._output = settings.run_dir / "prepared.json"
        self._output.unlink(missing_ok=True)
        self._process = _run(alias.name, version, "--output", str(self._output))

    def look(self) -> bool:
        """Tell whether it has ended."""
        if self._process.poll() is None:
            return False
        told = _read(self._output)
        if "model" in told:
            self.model = ServedModel.from_dict(told["model"])
        else:
            code = self._process.returncode
            self.problem = told.get("problem", f"its copying ended with code {code}")
            self.passing = told.get("passing", True)
        return True

    def end(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()


def _read(path: Path) -> dict[str, Any]:
    with suppress(OSError, ValueError):
        return dict(json.loads(path.read_text()))
    return {}


def _run(*words: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", PREPARE, *words],
        stdin=subprocess.DEVNULL,
        preexec_fn=die_with_parent,
    )
