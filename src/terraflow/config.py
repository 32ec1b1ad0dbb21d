"""Layers of configuration, merged and checked: the only reader of config/ and of the shell.

Precedence, highest first: command line, shell, config/local/, config/, default. Importing this
module needs nothing beyond the standard library, so that it also serves before any package is
installed.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from terraflow.errors import ConfigError, did_you_mean
from terraflow.files import expand_home, is_there, read_toml

if TYPE_CHECKING:
    from pydantic import BaseModel

    Model = TypeVar("Model", bound=BaseModel)

__all__ = [
    "Layer",
    "cache_dir",
    "config_dir",
    "export",
    "file_layers",
    "host_environment",
    "project_root",
    "read_toml",
    "user_path",
    "validate",
]

PREFIX = "TERRAFLOW_"
#: By these the project's folder is known.
PROJECT_FILES = ("Procfile", "pyproject.toml")
#: Variables that steer TerraFlow without being a setting: the project's folder, the folder that is
#: read instead of config/, who runs the tasks, and what `terraflow.stack.environment` tells the
#: supervisors.
CONTROL_VARIABLES = (
    *("TERRAFLOW_CONFIG_DIR", "TERRAFLOW_STARTED_BY", "TERRAFLOW_RESOLVED", "TERRAFLOW_ECHO"),
    *("TERRAFLOW_AFTER_", "TERRAFLOW_STOP_", "TERRAFLOW_PROBE_", "TERRAFLOW_SUPERVISOR"),
    *("TERRAFLOW_ROOT", "TERRAFLOW_ARTIFACTS_URI", "TERRAFLOW_MLFLOW_DATABASE"),
    "TERRAFLOW_POSTGRES",
)


@dataclass(frozen=True)
class Layer:
    """Values of one source.

    Attributes
    ----------
    source : str
        What to name in an error: a file, "shell" or "command line".
    values : dict
        Nested like the TOML file.
    names : dict
        How the source itself calls a key, where that differs: ("mlflow", "port") to
        "TERRAFLOW_MLFLOW_PORT".
    """

    source: str
    values: dict[str, Any]
    names: Mapping[tuple[str, ...], str]


def project_root() -> Path:
    """Find the project's folder: the first with Procfile and pyproject.toml, from here upwards.

    TERRAFLOW_ROOT names it instead, as it does for every process of the stack. pixi leaves the
    folder the user stands in in INIT_CWD.

    Returns
    -------
    Path
        Absolute.

    Raises
    ------
    ConfigError
        There is none.
    """
    if named := os.environ.get("TERRAFLOW_ROOT"):
        if _is_project(root := Path(named).resolve()):
            return root
        raise ConfigError(
            f"TERRAFLOW_ROOT is {named}, where there is no {' and '.join(PROJECT_FILES)}; name a "
            "project's folder, or unset it."
        )
    starts = [Path.cwd(), Path(os.environ.get("INIT_CWD") or Path.cwd())]
    for start in starts:
        if found := next(filter(_is_project, [start, *start.parents]), None):
            return found
    raise ConfigError(
        f"No TerraFlow project: neither {starts[-1]} nor a folder above holds "
        f"{' and '.join(PROJECT_FILES)}; go to your project's folder, or name it by TERRAFLOW_ROOT."
    )


def _is_project(folder: Path) -> bool:
    return all((folder / name).is_file() for name in PROJECT_FILES)


def config_dir() -> Path:
    """Folder of the configuration files, config/ unless TERRAFLOW_CONFIG_DIR names another.

    Raises
    ------
    ConfigError
        There is no project, or no such folder.
    """
    named = os.environ.get("TERRAFLOW_CONFIG_DIR")
    if named and not Path(named).is_dir():
        raise ConfigError(f"TERRAFLOW_CONFIG_DIR is {named}, no folder; name one, or unset it.")
    return Path(named or project_root() / "config").resolve()


def cache_dir() -> Path:
    """Folder of the user's cache for what is built once and shared by all checkouts."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "terraflow"


def user_path(path: str | Path) -> Path:
    """Resolve a path as the user typed it.

    Parameters
    ----------
    path : str or Path
        Relative to the folder the user stands in, which pixi leaves in INIT_CWD.

    Raises
    ------
    ConfigError
        It is empty, or of no user's home folder.
    """
    return (Path(os.environ.get("INIT_CWD") or Path.cwd()) / expand_home(path)).resolve()


def host_environment() -> dict[str, str]:
    """Copy the shell's variables, for processes that are started from here."""
    return dict(os.environ)


def export(variables: Mapping[str, str]) -> None:
    """Set variables for libraries of this process that read nothing else."""
    os.environ.update(variables)


def file_layers(name: str) -> list[Layer]:
    """Read config/NAME and config/local/NAME, lowest precedence first; either may be missing.

    Raises
    ------
    ConfigError
        A file is no TOML, or can't be read.
    """
    folder = config_dir()
    paths = [folder / name, folder / "local" / name]
    return [Layer(str(path), read_toml(path), {}) for path in paths if is_there(path)]


def shell_layer(keys: Iterable[tuple[str, ...]], *, strict: bool = True) -> Layer:
    """Read TERRAFLOW_* variables.

    Parameters
    ----------
    keys : iterable of tuple of str
        Every known key, such as ("mlflow", "port").
    strict : bool
        Refuse others.

    Raises
    ------
    ConfigError
        A variable that starts with TERRAFLOW_ is not known; all such are named.
    """
    names = {PREFIX + "_".join(key).upper(): key for key in keys}
    values: dict[str, Any] = {}
    problems = []
    for variable in sorted(n for n in os.environ if n.startswith(PREFIX)):
        if variable in names:
            _put(values, names[variable], os.environ[variable])
        elif not variable.startswith(CONTROL_VARIABLES):
            problems.append(
                f"shell: {variable} is not a setting{did_you_mean(variable, names)}; unset it"
            )
    if strict and problems:
        raise ConfigError("\n".join(problems))
    return Layer("shell", values, {key: name for name, key in names.items()})


def command_line_layer(assignments: Iterable[str]) -> Layer:
    """Turn words such as "mlflow.port=5050" into a layer.

    Raises
    ------
    ConfigError
        A word has no "=".
    """
    values: dict[str, Any] = {}
    for word in assignments:
        key, equals, value = word.partition("=")
        if not equals:
            raise ConfigError(f"--set {word} has no value; write KEY=VALUE, as mlflow.port=5050.")
        _put(values, tuple(key.strip().split(".")), value.strip())
    return Layer("command line", values, {})


def validate(model: type[Model], layers: Iterable[Layer]) -> Model:
    """Merge layers and check them against a model.

    Parameters
    ----------
    model : type of pydantic model
        Its fields are the known keys.
    layers : iterable of Layer
        Lowest precedence first.

    Raises
    ------
    ConfigError
        One line for every wrong key: source, key, what is wrong.
    """
    from pydantic import ValidationError  # noqa: PLC0415 - see the module's docstring

    merged: dict[str, Any] = {}
    origin: dict[tuple[str, ...], Layer] = {}
    for layer in layers:
        _merge(merged, layer.values, layer, origin, ())
        origin[()] = layer  # to which a missing key is to be added
    try:
        return model.model_validate(merged)
    except ValidationError as error:
        problems = [_problem(item, origin, model) for item in error.errors()]
        raise ConfigError("\n".join(dict.fromkeys(problems))) from error


def _put(values: dict[str, Any], key: tuple[str, ...], value: str) -> None:
    for part in key[:-1]:
        values = values.setdefault(part, {})
    values[key[-1]] = value


def _merge(
    target: dict[str, Any],
    values: Mapping[str, Any],
    layer: Layer,
    origin: dict[tuple[str, ...], Layer],
    path: tuple[str, ...],
) -> None:
    for key, value in values.items():
        origin[(*path, key)] = layer
        if isinstance(value, dict) and isinstance(target.get(key), dict):
            _merge(target[key], value, layer, origin, (*path, key))
        elif isinstance(value, dict):
            target[key] = {}
            _merge(target[key], value, layer, origin, (*path, key))
        else:
            target[key] = value


def _problem(item: Any, origin: dict[tuple[str, ...], Layer], model: type[BaseModel]) -> str:
    location = tuple(str(part) for part in item["loc"])
    prefixes = [location[:end] for end in range(len(location), 0, -1)]
    layer = next((origin[prefix] for prefix in prefixes if prefix in origin), None)
    names = layer.names if layer else {}
    key = next((names[prefix] for prefix in prefixes if prefix in names), ".".join(location))
    source = layer.source if layer else "configuration"
    if item["type"] == "extra_forbidden":
        known = _fields(model, location[:-1])
        return f"{source}: {key} is not a known key{did_you_mean(location[-1], known)}; remove it"
    if item["type"] == "missing":
        source = (layer or origin[()]).source
        return f"{source}: {key} is missing; add it"
    if item["type"] == "secret":  # whose value is not to be shown
        return f"{source}: {key} {item['msg']}"
    message = item["msg"].removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    if isinstance(item["input"], dict):  # a whole section: the message names its keys
        return f"{source}: {key}: {message}"
    if not key:
        return f"{source}: {message}"
    return f"{source}: {key} = {item['input']!r} is wrong: {message}"


def _fields(model: type[BaseModel], path: tuple[str, ...]) -> list[str]:
    for part in path:
        field = model.model_fields.get(part)
        inner = field.annotation if field else None
        if not hasattr(inner, "model_fields"):
            return []
        model = inner  # type: ignore[assignment]
    return list(model.model_fields)
