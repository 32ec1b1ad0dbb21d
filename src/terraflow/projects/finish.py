"""Last steps of a new project: the platform's wheel, its pin, line breaks, and a first commit.

copier runs `main` in the project's folder with its own Python: it needs nothing beyond the standard
library.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

from terraflow.checkout.git import git
from terraflow.errors import TerraFlowError
from terraflow.projects.wheel import build

__all__ = ["main"]

REPOSITORY = Path(__file__).resolve().parents[3]
#: Of the first commit, where git knows nobody.
NOBODY = ["-c", "user.name=TerraFlow", "-c", "user.email=terraflow@localhost"]


def main(operation: str) -> None:
    """Build and pin the wheel; of a new project also make the repository."""
    try:
        vendor = Path("vendor")
        wheel = build(REPOSITORY, vendor)
        for old in set(vendor.glob("terraflow_eo-*.whl")) - {wheel}:
            old.unlink()
        pin(wheel, Path("requirements.lock"))
        break_lines()
        if operation == "copy" and not Path(".git").exists():
            commit()
    except TerraFlowError as error:
        sys.exit(str(error))
    except subprocess.CalledProcessError as error:
        why = (error.stderr or "").strip().splitlines() or [f"code {error.returncode}"]
        sys.exit(f"{' '.join(map(str, error.cmd[:2]))} failed: {why[-1]}")
    except KeyboardInterrupt:
        sys.exit("Stopped.")


def commit() -> None:
    """Make the repository, with a first commit that no setting of the user's can refuse."""
    here = Path()
    git(here, "init", "--quiet", "--initial-branch", "main")
    git(here, "-c", "core.safecrlf=false", "add", "--all")
    try:
        git(here, "var", "GIT_COMMITTER_IDENT")
        who = []
    except subprocess.CalledProcessError:  # an empty name, or none
        who = NOBODY
    words = ("--quiet", "--no-verify", "--no-gpg-sign", "-m", "Start the project")
    git(here, *who, "commit", *words)


def pin(wheel: Path, lock: Path) -> None:
    """Name the wheel with its hash in requirements.lock, as all others are named there."""
    kept: list[str] = []
    ours = False
    for line in lock.read_text().splitlines(keepends=True):
        if not line.startswith((" ", "#")):
            ours = line.startswith("./vendor/terraflow_eo-")
        if not ours:
            kept.append(line)
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    lock.write_text("".join([*kept, f"./{wheel} \\\n    --hash=sha256:{digest}\n"]))


def break_lines() -> None:
    """Break lines anew where names are longer or shorter than in the template; where ruff is.

    In a project that is being updated, what the template has just written differs from its commit;
    all else is the user's, and stays.
    """
    ruff = shutil.which("ruff", path=Path(sys.executable).parent) or shutil.which("ruff")
    if not ruff:
        return
    words = ["ls-files", "--modified", "--others", "--exclude-standard", "--", "*.py"]
    paths = ["."]
    if has_commit():
        told = git(Path(), *words).splitlines()
        paths = [path for path in told if Path(path).exists()]
    if paths:
        words = [ruff, "format", "--quiet", "--no-cache", "--", *paths]
        subprocess.run(words, check=True, stderr=subprocess.PIPE, text=True)


def has_commit() -> bool:
    """Tell whether this folder is in a repository with a commit."""
    try:
        git(Path(), "rev-parse", "--quiet", "--verify", "HEAD")
    except subprocess.CalledProcessError:
        return False
    return True
