"""What is copied to another machine: a commit of the project, and what it needs."""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from terraflow.checkout.git import git, git_bytes
from terraflow.config import project_root
from terraflow.errors import ConfigError, ServiceError, first_line
from terraflow.serving import models
from terraflow.settings import Settings
from terraflow.tracking.trust import is_ours

__all__ = ["commit", "interpreter", "server", "unpacked", "wheels"]


def commit() -> str:
    """Give the commit that is deployed.

    Raises
    ------
    ConfigError
        The project has none, or differs from it.
    """
    try:
        root = project_root()
        found = git(root, "rev-parse", "--short=12", "HEAD").strip()
        changed = git(root, "status", "--porcelain", "--untracked-files=no").splitlines()
    except (OSError, subprocess.CalledProcessError) as error:
        raise ConfigError(
            "The project is no git repository with a commit, which a release is made of; run "
            "`git init`, and commit it."
        ) from error
    if changed:
        raise ConfigError(
            f"{len(changed)} files differ from the last commit ({changed[0][3:]}), and a release "
            "is a commit; commit them first."
        )
    return found


@contextmanager
def unpacked(sha: str) -> Iterator[Path]:
    """Give a folder with the files of a commit."""
    with tempfile.TemporaryDirectory(prefix="terraflow-release-") as folder:
        with tarfile.open(fileobj=io.BytesIO(git_bytes(project_root(), "archive", sha))) as archive:
            archive.extractall(folder, filter="data")
        yield Path(folder)


@contextmanager
def wheels() -> Iterator[Path]:
    """Download every package of requirements.lock for a machine like this one.

    Raises
    ------
    ServiceError
        They can't be had.
    """
    lock = project_root() / "requirements.lock"
    with tempfile.TemporaryDirectory(prefix="terraflow-wheels-") as folder:
        words = ["download", "--quiet", "--no-deps", "--require-hashes", "-r", str(lock)]
        done = subprocess.run(
            [sys.executable, "-m", "pip", *words, "--dest", folder],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise ServiceError(
                f"The packages of requirements.lock can't be downloaded: "
                f"{first_line(done.stderr)}; see that an index of packages can be reached."
            )
        yield Path(folder)


def interpreter() -> Path:
    """Folder of the Python that runs this, as it was installed."""
    return Path(sys.base_prefix)


def server(
    stack: Settings, folder: Path, run_id: str, model: str, *, follow: bool, trust: bool = False
) -> tuple[list[str], Path | None]:
    """Export the model of a server into a folder, unless the server follows its registry.

    Returns
    -------
    words : list of str
        That start it, after invoke.
    models : Path or None
        The folder, where there is an exported model.

    Raises
    ------
    ConfigError
        Neither or both models are named, or it is a stranger's and not trusted.
    """
    models.check_one(run_id, model)
    if not (run_id or trust or is_ours(model)):
        raise ConfigError(
            f"Model {model} is not of this stack's registry, and its code and packages would run "
            "there; look at it, and say --trust if you trust who made it."
        )
    if follow:
        return ["serve", "--model", model, "--follow"], None
    found = models.export_model(stack, run_id, model, folder / "model")
    name = models.model_digest(found)
    found.rename(folder / name)
    return ["serve", "--model", f"../../models/{name}", "--trust"], folder
