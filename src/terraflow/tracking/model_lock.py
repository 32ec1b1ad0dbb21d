"""What is logged with a model so that it can be served in an environment of its own."""

from __future__ import annotations

import hashlib
import sys
import tempfile
from collections.abc import Iterable
from functools import cache
from importlib.metadata import distributions
from pathlib import Path

from mlflow import MlflowClient

from terraflow.config import cache_dir
from terraflow.console import say
from terraflow.errors import ServiceError
from terraflow.files import write_private
from terraflow.tracking import server_wheel
from terraflow.tracking.uv import run_uv, uv_reason

__all__ = ["LOCKS", "attach", "compile_lock", "installed"]

#: Lock of the server and the model, and of one that makes maps too: PEP 751.
LOCKS = {False: "pylock.toml", True: "pylock.map.toml"}


def attach(model_id: str, requirements: Iterable[str]) -> None:
    """Log the locks of a model's environment, and the server's wheel, beside the model.

    Without them, as where no index can be reached, `serve --isolated` makes them of the model's
    requirements.

    Parameters
    ----------
    model_id : str
        Of MLflow's logged model.
    requirements : iterable of str
        Of the model alone, as name==version.
    """
    model = [text for text in requirements if not text.startswith("mlflow==")]
    here = installed()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        try:
            for maps, lock in LOCKS.items():
                wanted = [*model, *server_wheel.requirements(maps=maps)]
                (folder / lock).write_text(compile_lock(wanted, here))
        except ServiceError as error:
            say(f"The model is logged without a lock of its environment: {error}")
            return
        server_wheel.pack(folder)
        MlflowClient().log_model_artifacts(model_id, str(folder))


@cache
def installed() -> list[str]:
    """List what is installed here, as name==version."""
    told = [d.metadata for d in distributions()]  # read anew whenever name or version is asked for
    found = {f"{one['Name']}=={one['Version']}" for one in told if one["Name"] != "terraflow-eo"}
    return sorted(found)


def compile_lock(
    requirements: Iterable[str], constraints: Iterable[str] = (), *, python: str = ""
) -> str:
    """Find a version with its hash for all that is required, on each kind of machine.

    The same question is answered once: the answer is kept in the user's cache.

    Parameters
    ----------
    requirements, constraints : iterable of str
        As PEP 508 has them; versions are taken from the constraints.
    python : str
        Version of Python, as 3.11; this one by default.

    Returns
    -------
    str
        A pylock.toml.

    Raises
    ------
    ServiceError
        They contradict each other, or no index can be reached.
    """
    python = python or f"{sys.version_info.major}.{sys.version_info.minor}"
    question = ["\n".join(sorted(requirements)), "\n".join(sorted(constraints)), python]
    digest = hashlib.sha256("\0".join(question).encode()).hexdigest()[:16]
    kept = cache_dir() / "locks" / f"{digest}.toml"
    if kept.exists():
        return kept.read_text()
    say("Looking up the versions of the model's environment, once")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "requirements.in").write_text(question[0])
        (folder / "constraints.txt").write_text(question[1])
        words = ["requirements.in", "-c", "constraints.txt", "-o", "pylock.toml", "--quiet"]
        words += ["--universal", "--no-header", "--python-version", python]
        done = run_uv("pip", "compile", *words, folder=folder)
        if done.returncode:
            names = question[0].split()
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            raise ServiceError(
                f"No versions are found for {', '.join(names[:3])}{more} ({uv_reason(done)}); see "
                "that an index of packages can be reached, and try again."
            )
        text = (folder / "pylock.toml").read_text()
    write_private(kept, text)
    return text
