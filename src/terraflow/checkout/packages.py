"""See that the environment of packages is the checkout's own, and has what it asks for."""

from __future__ import annotations

import sys
import tomllib
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from terraflow.console import command, keep_streams
from terraflow.errors import ConfigError

__all__ = ["check_source", "remedy", "unmet"]


def check_source(root: Path) -> None:
    """See that the packages of a checkout's src/ are those that this Python imports.

    In a copied folder, or with another checkout's environment, they would be the other's: its code
    would run here, on the wrong stack.

    Raises
    ------
    ConfigError
        They lie elsewhere.
    """
    for package in sorted((root / "src").glob("*/__init__.py")):
        name = package.parent.name
        spec = find_spec(name)
        if spec and spec.origin and Path(spec.origin).resolve() != package.resolve():
            raise ConfigError(
                f"This Python ({sys.prefix}) has {name} of {Path(spec.origin).parent}, but you "
                f"stand in {root}, so that the other's code would run here; use make, which makes "
                "an environment of this folder's own, or remove .pixi and use pixi."
            )


def unmet(root: Path) -> list[str]:
    """List what pyproject.toml asks for and this environment does not have.

    Returns
    -------
    list of str
        Requirements, of the dependencies and of the extra `project`.
    """
    from packaging.requirements import InvalidRequirement, Requirement  # noqa: PLC0415 - slow

    try:
        project = tomllib.loads((root / "pyproject.toml").read_text()).get("project", {})
    except (OSError, ValueError):  # other checks say so
        return []
    told = project.get("dependencies", []) + project.get("optional-dependencies", {}).get(
        "project", []
    )
    missing = []
    for text in told:
        try:
            wanted = Requirement(text)
            if wanted.marker and not wanted.marker.evaluate():
                continue
            met = wanted.specifier.contains(version(wanted.name), prereleases=True)
        except (PackageNotFoundError, InvalidRequirement):
            met = False
        if not met:
            missing.append(text)
    return missing


def remedy() -> str:
    """Name the command that brings what is missing."""
    if (Path(sys.prefix) / "conda-meta").is_dir():
        return "Run `pixi install`."
    return f"Run `{command('lock')}`, which writes requirements.lock; the next command installs it."


def main() -> None:
    """Tell what is missing: make asks once it has installed what requirements.lock names."""
    if missing := unmet(Path.cwd()):
        sys.stdout.write(
            f"pyproject.toml asks for {', '.join(missing)}, and requirements.lock has it not. "
            f"{remedy()}\n"
        )


if __name__ == "__main__":
    keep_streams()
    main()
