"""Bring a project to what its template is now, and take everything back if its tests fail."""

from __future__ import annotations

import shutil
import subprocess
import tomllib
from pathlib import Path

import copier
import yaml
from copier.errors import CopierError

from terraflow.checkout.git import git
from terraflow.console import command, say
from terraflow.errors import ConfigError, TerraFlowError, first_line

__all__ = ["update"]

ANSWERS, LOCK = ".copier-answers.yml", "requirements.lock"
#: Files that git does not know are looked at, whatever the user's settings say.
STATUS = ("status", "--porcelain", "--untracked-files=normal")
#: Of git's two letters for a file, those that say that both sides changed it.
CONFLICTS = {"UU", "AA", "DU", "UD", "AU", "UA"}


def update(project: Path, *, ref: str = "", keep: bool = False) -> bool:
    """Take over the template's newest version: the platform's wheel, and the files of its making.

    copier merges the template's changes into the project's own files. The packages follow, then
    the project's tests run; if they fail, all is as it was before.

    Parameters
    ----------
    project : Path
        A git repository without changes that are not committed.
    ref : str
        Tag, branch or commit of the template; "" takes the newest tag, or without tags the newest
        commit.
    keep : bool
        Leave the update in place whatever the tests say.

    Returns
    -------
    bool
        Whether the update is in place, has no conflict, and its tests passed.

    Raises
    ------
    ConfigError
        The folder was not made from the template, or has changes.
    TerraFlowError
        The template can't be taken over.
    """
    before = _check(project)
    try:
        changed = _merge(project, ref)
        if not changed:
            say("Nothing is newer than what is here.")
            return True
        if conflicts := [line[3:] for line in changed if line[:2] in CONFLICTS]:
            _tell_conflicts(conflicts)
            return False
        _lock(project)
        say(f"{len(changed)} files differ. The packages and the tests follow.")
        passed = _install(project) and _test(project)
    except BaseException:  # also Ctrl+C: half an update is of no use
        _take_back(project, before)
        raise
    if passed:
        say("Updated. Look at it with `git diff HEAD`, and commit it.")
    elif keep:
        say("The tests fail, and the update was kept; `git reset --hard` takes it back.")
    else:
        _take_back(project, before)
        _install(project)
        say(f"The tests fail, so all was taken back; `{command('update', '--keep')}` leaves it.")
    return passed


def _check(project: Path) -> str:
    """Refuse what can't be updated; return the commit that is there."""
    if not (project / ANSWERS).exists():
        raise ConfigError(
            f"{project} has no {ANSWERS}, so it was not made from the template; "
            f"`{command('new', 'PATH')}` makes a project that can be updated."
        )
    if not _made_by_make(project) and not shutil.which("pixi"):
        raise ConfigError(
            "There is neither an environment that make made nor pixi, by which the newer packages "
            "would be installed; run `make update`, or `pixi run update`."
        )
    try:
        changes = git(project, *STATUS).splitlines()
        commit = git(project, "rev-parse", "HEAD").strip()
    except (subprocess.CalledProcessError, OSError) as error:
        raise ConfigError(
            f"{project} is no git repository with a commit, without which an update can't be taken "
            "back; commit it with git first."
        ) from error
    if changes:
        raise ConfigError(
            f"{project} has changes that are not committed ({changes[0][3:]}); commit or stash "
            "them first, so that an update can be taken back."
        )
    return commit


def _merge(project: Path, ref: str) -> list[str]:
    """Let copier merge; return git's lines about the files that differ now."""
    source, commit = _read_origin(project)
    say(f"Update from {source}; the project is at {commit}.")
    try:
        copier.run_update(
            project,
            vcs_ref=ref or _newest(source),
            defaults=True,
            overwrite=True,
            unsafe=True,  # its one task builds the wheel
            conflict="inline",
            quiet=True,
        )
    except (CopierError, ValueError, OSError, subprocess.SubprocessError) as error:
        raise TerraFlowError(
            f"The template {source} can't be taken over: {first_line(error)}; nothing was changed. "
            "Correct that, or name another version by --ref."
        ) from error
    return git(project, *STATUS).splitlines()


def _read_origin(project: Path) -> tuple[str, str]:
    """Read where the template is, and at which of its commits the project was made."""
    try:
        answers = yaml.safe_load((project / ANSWERS).read_text())
        return str(answers["_src_path"]), str(answers["_commit"])
    except (OSError, yaml.YAMLError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{project / ANSWERS} does not tell the template and its commit ({first_line(error)}); "
            "restore it with git, or make the project anew from a checkout with a commit."
        ) from error


def _newest(source: str) -> str | None:
    """Let copier take the newest tag; name the newest commit where there is none."""
    done = subprocess.run(
        ["git", "ls-remote", "--tags", source], capture_output=True, text=True, check=False
    )
    return None if done.stdout.strip() else "HEAD"


def _lock(project: Path) -> None:
    """Lock anew where the project has packages of its own: their pins are not the template's."""
    try:
        metadata = tomllib.loads((project / "pyproject.toml").read_text()).get("project", {})
    except (OSError, ValueError) as error:
        raise TerraFlowError(
            f"pyproject.toml can't be read: {first_line(error)}; nothing was changed. Correct it."
        ) from error
    own = len(metadata.get("dependencies", [])) > 1
    if own or "dependencies" in metadata.get("dynamic", []):
        say(f"{LOCK} is written anew, with the project's own packages.")
        if not _run(project, "lock"):
            raise TerraFlowError(
                f"{LOCK} can't be written; nothing was changed. Correct [project] dependencies of "
                "pyproject.toml, or try again with a network."
            )


def _tell_conflicts(conflicts: list[str]) -> None:
    say("You and the template changed the same lines of:")
    for path in conflicts:
        say(f"  {path}")
    say(
        "Open each, keep what is right between <<<<<<< and >>>>>>>, and `git add` it. Then run "
        f"`{command('test')}`, and commit. `git reset --hard` takes the update back."
    )


def _made_by_make(project: Path) -> bool:
    return (project / ".venv" / ".ready").exists()


def _install(project: Path) -> bool:
    """Install what requirements.lock, or pixi.toml, now names."""
    if _made_by_make(project):
        return _run(project, "environment")
    return subprocess.run(["pixi", "install"], cwd=project, check=False).returncode == 0


def _test(project: Path) -> bool:
    return _run(project, "test")


def _run(project: Path, target: str) -> bool:
    """Run a task by make where make made the environment, else by pixi."""
    make = ["make", "--no-print-directory"]
    words = make if _made_by_make(project) else ["pixi", "run"]
    return subprocess.run([*words, target], cwd=project, check=False).returncode == 0


def _take_back(project: Path, commit: str) -> None:
    """Leave the files as they were; what git ignores was not touched."""
    git(project, "reset", "--quiet", "--hard", commit)
    git(project, "clean", "--quiet", "-d", "--force")
