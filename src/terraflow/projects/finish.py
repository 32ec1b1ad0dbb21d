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

from terraflow.errors import TerraFlowError
from terraflow.projects.wheel import build

__all__ = ["main"]

REPOSITORY = Path(__file__).resolve().parents[3]
#: Of the first commit, where git knows nobody.
NOBODY = ["-c", "user.name=TerraFlow", "-c", "user.email=terraflow@localhost"]


def main(operation: str) -> None:
    """Build and pin the wheel; of a new project also make the repository."""
    vendor = Path("vendor")
    try:
        wheel = build(REPOSITORY, vendor)
    except TerraFlowError as error:
        sys.exit(str(error))
    for old in set(vendor.glob("terraflow_eo-*.whl")) - {wheel}:
        old.unlink()
    pin(wheel, Path("requirements.lock"))
    break_lines()
    if operation == "copy" and not Path(".git").exists():
        git("init", "--quiet", "--initial-branch", "main")
        git("add", "--all")
        somebody = not subprocess.run(
            ["git", "config", "user.email"], capture_output=True, check=False
        ).returncode
        git(*([] if somebody else NOBODY), "commit", "--quiet", "-m", "Start the project")


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
    words = ["git", "ls-files", "--modified", "--others", "--exclude-standard", "--", "*.py"]
    is_commit = ["git", "rev-parse", "--quiet", "--verify", "HEAD"]
    paths = ["."]
    if subprocess.run(is_commit, capture_output=True, check=False).returncode == 0:
        done = subprocess.run(words, capture_output=True, text=True, check=True)
        paths = [path for path in done.stdout.splitlines() if Path(path).exists()]
    if paths:
        subprocess.run([ruff, "format", "--quiet", "--no-cache", "--", *paths], check=True)


def git(*words: str) -> None:
    """Run git, which must end well."""
    subprocess.run(["git", *words], check=True)
